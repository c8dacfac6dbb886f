//! The machine that the process runs on, as far as the process may use it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use nanochat_engine::device::{Gpu, gpus};

/// The machine, as far as this process may use it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Operating system and its version.
    pub os: String,
    /// Kind of operating system: `linux`, `macos`, `windows`.
    pub family: String,
    /// Processor architecture.
    pub arch: String,
    /// Processor model.
    pub cpu: String,
    /// Family, model and stepping of the processor, which its name doesn't tell apart; none where the system doesn't say.
    pub cpu_stepping: Option<String>,
    /// Processor features that the kernels use.
    pub cpu_features: Vec<String>,
    /// Cores that this process may use.
    pub cores: u64,
    /// Memory that this process may use in bytes: the machine's, or its control group's limit.
    pub memory_bytes: u64,
    /// The control group's limit, if it is below the machine's memory.
    pub memory_limit_bytes: Option<u64>,
    /// GPUs that the driver reports.
    pub gpus: Vec<Gpu>,
}

impl Machine {
    /// Digest of processor, cores, memory in whole GiB, and GPUs: equal for machines of one kind. 16 hex digits.
    pub fn machine_id(&self) -> String {
        let gib = (self.memory_bytes + (1 << 29)) >> 30;
        let gpus: Vec<&str> = self.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        let parts = format!("{}\n{}\n{}\n{gib}\n{}", self.arch, self.cpu, self.cores, gpus.join(","));
        let digest = Sha256::digest(parts.as_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads this machine's properties; unknown ones are `unknown` or 0.
pub fn this_machine() -> Machine {
    let total = total_memory();
    let limit = control_group_limit(Path::new("/sys/fs/cgroup")).filter(|&limit| total == 0 || limit < total);
    Machine {
        os: operating_system(),
        family: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpu_model(),
        cpu_stepping: cpu_stepping(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        cpu_features: cpu_features(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        memory_bytes: limit.unwrap_or(total),
        memory_limit_bytes: limit,
        gpus: gpus(),
    }
}

fn operating_system() -> String {
    let parts = [sysinfo::System::name(), sysinfo::System::os_version()];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if text.is_empty() { std::env::consts::OS.to_owned() } else { text }
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    if let Some((_, model)) = line {
        return model.trim().to_owned();
    }
    let what = sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing());
    let system = sysinfo::System::new_with_specifics(what).ok();
    let brand = system.and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()));
    brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// `family 25, model 17, stepping 1` from the first processor of `/proc/cpuinfo`.
fn cpu_stepping(info: &str) -> Option<String> {
    let of = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    Some(format!("family {}, model {}, stepping {}", of("cpu family")?, of("model")?, of("stepping")?))
}

fn total_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kib) = kib {
        return kib * 1024;
    }
    let what = sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::everything());
    sysinfo::System::new_with_specifics(what).map_or(0, |system| system.total_memory())
}

/// The lowest memory limit of this process's control group and those above it, versions 1 and 2.
fn control_group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut lowest: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (base, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            named if named.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let relative = PathBuf::from(path.trim_start_matches('/'));
        let limits = relative
            .ancestors()
            .filter_map(|folder| fs::read_to_string(base.join(folder).join(file)).ok()?.trim().parse::<u64>().ok());
        lowest = limits.chain(lowest).min();
    }
    lowest
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    let known = present![
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    ];
    known.into_iter().filter(|(_, here)| *here).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<String> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let known = present!["neon", "fp16", "dotprod", "bf16", "i8mm", "sve"];
    known.into_iter().filter(|(_, here)| *here).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let machine = this_machine();
        assert!(machine.cores >= 1 && machine.memory_bytes > 1 << 28, "{machine:?}");
        assert_eq!(machine.machine_id(), this_machine().machine_id());
        assert_eq!(machine.machine_id().len(), 16);
    }

    #[test]
    fn a_processor_is_told_apart_by_its_stepping() {
        let info = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A 3 GHz\nstepping\t: 8\n";
        assert_eq!(cpu_stepping(info).as_deref(), Some("family 6, model 143, stepping 8"));
        assert_eq!(cpu_stepping("CPU architecture: 8\nCPU part\t: 0xd0c\n"), None);
    }
}
