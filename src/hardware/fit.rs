//! Whether planned runs fit into this machine's memory, before anything is allocated.

use nanochat_plan::{DeviceKind, RunPlan};

use super::Machine;

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// A run is estimated to need more memory than there is.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
#[error("{run_id} is estimated to need {needed:.1} GiB of memory, and {place} has {available:.1} GiB")]
#[diagnostic(help(
    "lower hardware.device_batch_size, model.depth or model.sequence_len, or try it with --allow-hardware-mismatch"
))]
pub struct TooLarge {
    /// The run.
    pub run_id: String,
    /// Estimated peak of one device in GiB.
    pub needed: f64,
    /// Memory in GiB.
    pub available: f64,
    /// Owner of the memory.
    pub place: &'static str,
}

/// Compares the estimates of runs with this machine's memory; unknown memory passes.
///
/// # Errors
/// The run that needs most, if it needs more than the machine has.
pub fn fits(plans: &[RunPlan], machine: &Machine) -> Result<(), TooLarge> {
    let Some(largest) = plans.iter().max_by(|a, b| a.estimate.memory_gib.total_cmp(&b.estimate.memory_gib)) else {
        return Ok(());
    };
    let (place, bytes) = match largest.device {
        DeviceKind::Cuda => ("the smallest GPU", machine.gpus.iter().map(|gpu| gpu.memory_bytes).min()),
        DeviceKind::Cpu | DeviceKind::Metal => ("this machine", Some(machine.memory_bytes).filter(|&bytes| bytes > 0)),
    };
    let (needed, available) = (largest.estimate.memory_gib, bytes.map_or(f64::INFINITY, |bytes| bytes as f64 / GIB));
    if needed > available {
        return Err(TooLarge { run_id: largest.run_id.clone(), needed, available, place });
    }
    Ok(())
}
