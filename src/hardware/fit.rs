//! Whether planned runs fit in this machine's memory, before anything is allocated.

use super::Machine;
use nanochat_plan::{DeviceKind, RunPlan};

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// A run is estimated to need more memory than there is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{run_id} is estimated to need {needed:.1} GiB of memory, and {place} has {available:.1} GiB")]
pub struct TooLarge {
    /// The run.
    pub run_id: String,
    /// Estimated peak of one device in GiB.
    pub needed: f64,
    /// What there is in GiB.
    pub available: f64,
    /// Whose memory it is.
    pub place: &'static str,
}

/// Holds the estimates of runs against this machine's memory. A machine that doesn't say how much it has passes.
///
/// # Errors
/// The run that needs most, when that is more than there is.
pub fn fits(plans: &[RunPlan], machine: &Machine) -> Result<(), TooLarge> {
    let Some(largest) = plans.iter().max_by(|a, b| a.estimate.memory_gib.total_cmp(&b.estimate.memory_gib)) else {
        return Ok(());
    };
    let (place, bytes) = match largest.device {
        DeviceKind::Cuda => ("the smallest GPU here", machine.gpus.iter().map(|gpu| gpu.memory_bytes).min()),
        DeviceKind::Cpu | DeviceKind::Metal => ("this machine", Some(machine.memory_bytes).filter(|&bytes| bytes > 0)),
    };
    let (needed, available) = (largest.estimate.memory_gib, bytes.map_or(f64::INFINITY, |bytes| bytes as f64 / GIB));
    if needed > available {
        return Err(TooLarge { run_id: largest.run_id.clone(), needed, available, place });
    }
    Ok(())
}
