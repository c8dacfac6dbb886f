//! The GPUs that NVIDIA's driver reports to this process.

use std::process::Command;

use serde::Serialize;

use super::cuda::driver_is_loaded;

/// Paths of the driver's tool.
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
    /// Compute capability, such as `9.0`; none if the driver doesn't report it.
    pub compute_capability: Option<String>,
}

/// GPUs that NVIDIA's driver reports; its tool is only run if the driver is loaded.
pub fn gpus() -> Vec<Gpu> {
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

/// What a GPU is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuUse {
    /// Its number.
    pub index: u64,
    /// Memory in use in bytes, by all programs.
    pub memory_bytes: u64,
    /// Share of the last moment in which it computed, in percent.
    pub utilisation: f64,
}

/// What the GPUs are doing now; none where the driver doesn't say.
pub fn gpu_use() -> Vec<GpuUse> {
    if !driver_is_loaded() {
        return Vec::new();
    }
    let query = ["--query-gpu=index,memory.used,utilization.gpu", "--format=csv,noheader,nounits"];
    let ask = |tool: &&str| Command::new(tool).args(query).output().ok();
    let output = TOOLS.iter().find_map(ask).filter(|output| output.status.success());
    output.map(|output| parse_use(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

fn parse_use(text: &str) -> Vec<GpuUse> {
    let parse = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let index = fields.next()?.parse().ok()?;
        let mib: u64 = fields.next()?.parse().ok()?;
        Some(GpuUse { index, memory_bytes: mib << 20, utilisation: fields.next()?.parse().ok()? })
    };
    text.lines().filter_map(parse).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_parsed() {
        let used = |index, mib: u64, utilisation| GpuUse { index, memory_bytes: mib << 20, utilisation };
        assert_eq!(
            parse_use("0, 70123, 98\n1, 69870, [N/A]\n\n1, 512, 3\n"),
            [used(0, 70123, 98.0), used(1, 512, 3.0)]
        );
    }

    #[test]
    fn the_output_of_the_driver_is_parsed() {
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
