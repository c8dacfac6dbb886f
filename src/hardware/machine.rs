//! The machine that the process runs on, as far as the process may use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::cuda::driver_is_loaded;

/// Where the driver's tool lies, on the path or off it.
const TOOLS: [&str; 3] = ["nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"];

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Model.
    pub name: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Version of the driver.
    pub driver: String,
    /// Compute capability, such as `9.0`; none where the driver doesn't say.
    pub compute_capability: Option<String>,
}

/// What is here.
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
    /// Processor features that the kernels use.
    pub cpu_features: Vec<String>,
    /// Cores that this process may use.
    pub cores: u64,
    /// Memory that this process may use in bytes: the machine's, or its control group's limit.
    pub memory_bytes: u64,
    /// The control group's limit, where there is one below the machine's memory.
    pub memory_limit_bytes: Option<u64>,
    /// GPUs that the driver shows.
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

/// Looks at this machine. What the system doesn't say stands as `unknown` or 0.
pub fn this_machine() -> Machine {
    let total = total_memory();
    let limit = control_group_limit(Path::new("/sys/fs/cgroup")).filter(|&limit| total == 0 || limit < total);
    Machine {
        os: operating_system(),
        family: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpu_model(),
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

/// What NVIDIA's driver shows; its tool is only asked where the driver is loaded.
pub(super) fn gpus() -> Vec<Gpu> {
    if !driver_is_loaded() {
        return Vec::new();
    }
    // Older tools don't know the last field, and refuse a query that has it.
    let queries = ["name,memory.total,driver_version,compute_cap", "name,memory.total,driver_version"];
    let shown = queries.map(|fields| format!("--query-gpu={fields}")).into_iter().find_map(|query| {
        let ask = |tool: &&str| Command::new(tool).args([&query, "--format=csv,noheader,nounits"]).output().ok();
        let output = TOOLS.iter().find_map(ask).filter(|output| output.status.success())?;
        Some(parse_gpus(&String::from_utf8_lossy(&output.stdout)))
    });
    shown.unwrap_or_default()
}

fn parse_gpus(text: &str) -> Vec<Gpu> {
    let parse = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let mib: u64 = fields.next()?.parse().ok()?;
        let driver = fields.next()?.to_owned();
        let compute_capability = fields.next().filter(|text| text.contains('.')).map(str::to_owned);
        Some(Gpu { name, memory_bytes: mib << 20, driver, compute_capability })
    };
    text.lines().filter_map(parse).collect()
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
    fn what_the_driver_prints_is_read() {
        let gpu = |compute_capability: Option<&str>| Gpu {
            name: "NVIDIA H100 80GB HBM3".into(),
            memory_bytes: 81559 << 20,
            driver: "550.54.15".into(),
            compute_capability: compute_capability.map(str::to_owned),
        };
        let line = "NVIDIA H100 80GB HBM3, 81559, 550.54.15";
        assert_eq!(
            parse_gpus(&format!("{line}\n\ngarbage\n{line}, 9.0\n{line}, [N/A]\n")),
            [gpu(None), gpu(Some("9.0")), gpu(None)]
        );
    }
}
