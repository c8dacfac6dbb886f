//! Whether a machine matches a hardware profile.

use nanochat_plan::{DeviceKind, Profile, Requirements};

use super::Machine;

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// The machine doesn't match the profile.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
#[error("this machine doesn't match the hardware profile `{profile}`: {}", differences.join("; "))]
#[diagnostic(help("choose another profile with --profile, or run with --allow-hardware-mismatch"))]
pub struct Mismatch {
    /// Name of the profile.
    pub profile: String,
    /// Every difference, as a sentence.
    pub differences: Vec<String>,
}

/// Checks that a machine matches a profile.
///
/// # Errors
/// Every difference.
pub fn check(profile: &Profile, machine: &Machine) -> Result<(), Mismatch> {
    let mut differences = Vec::new();
    system(&profile.requirements, machine, &mut differences);
    processor(&profile.requirements, machine, &mut differences);
    devices(profile, machine, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(Mismatch { profile: profile.name.clone(), differences }) }
}

fn system(wanted: &Requirements, machine: &Machine, differences: &mut Vec<String>) {
    let (os, arch) = (wanted.os.map(|system| system.to_string()), wanted.arch.clone());
    for (what, wanted, found) in [("operating system", os, &machine.family), ("architecture", arch, &machine.arch)] {
        if let Some(wanted) = wanted.filter(|wanted| !wanted.eq_ignore_ascii_case(found)) {
            differences.push(format!("the {what} must be {wanted}, and this machine has {found}"));
        }
    }
    let gib = machine.memory_bytes as f64 / GIB;
    if let Some(wanted) = wanted.min_memory_gib.filter(|&wanted| gib < wanted) {
        differences.push(format!("it needs {wanted} GiB of memory, and this machine has {gib:.1}"));
    }
}

fn processor(wanted: &Requirements, machine: &Machine, differences: &mut Vec<String>) {
    if let Some(wanted) = wanted.cpu.as_ref().filter(|wanted| !contains(&machine.cpu, wanted)) {
        differences.push(format!("the processor must be a {wanted}, and this machine has {}", machine.cpu));
    }
    if let Some(wanted) = wanted.min_cores.filter(|&wanted| machine.cores < wanted) {
        differences.push(format!("it needs {wanted} cores, and this machine has {}", machine.cores));
    }
    let features = wanted.cpu_features.iter().flatten();
    let missing: Vec<&str> =
        features.filter(|wanted| !machine.cpu_features.contains(wanted)).map(String::as_str).collect();
    if !missing.is_empty() {
        differences.push(format!("the processor doesn't support {}", missing.join(", ")));
    }
}

fn devices(profile: &Profile, machine: &Machine, differences: &mut Vec<String>) {
    let wanted = &profile.requirements;
    if profile.device == DeviceKind::Metal && machine.family != "macos" {
        differences.push(format!("Metal needs macOS, and this machine runs {}", machine.family));
    }
    let model = wanted.gpu.as_deref().unwrap_or("");
    let fitting = machine.gpus.iter().filter(|gpu| contains(&gpu.name, model)).count() as u64;
    let implied = if profile.device == DeviceKind::Cuda { profile.device_count } else { 0 };
    let implied = if wanted.gpu.is_some() { implied.max(1) } else { implied };
    let needed = wanted.gpu_count.unwrap_or(0).max(implied);
    if fitting < needed {
        let model = if model.is_empty() { "NVIDIA" } else { model };
        let here: Vec<&str> = machine.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        differences.push(format!("it needs {needed} {model} GPU(s), and this machine has {here}"));
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}
