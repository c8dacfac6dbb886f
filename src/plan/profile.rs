//! A hardware profile: what specs state of it, and what plans take from it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DeviceKind, Precision, System};

/// What the machine must look like; what isn't stated doesn't matter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MatchSpec")]
pub struct Requirements {
    /// Operating system.
    pub os: Option<System>,
    /// Processor architecture.
    #[schemars(example = &"x86_64")]
    pub arch: Option<String>,
    /// A part of the processor's model name, whatever its case.
    #[schemars(example = &"EPYC")]
    pub cpu: Option<String>,
    /// Processor features that must be there.
    #[schemars(extend("examples" = [["avx2", "fma"]]))]
    pub cpu_features: Option<Vec<String>>,
    /// Cores that the process may use, at least.
    #[schemars(range(min = 1, max = 4096))]
    pub min_cores: Option<u64>,
    /// Memory in GiB that the process may use, at least; a control group's limit counts.
    #[schemars(range(min = 0.0, max = 1048576.0))]
    pub min_memory_gib: Option<f64>,
    /// A part of each GPU's model name, whatever its case.
    #[schemars(example = &"H100")]
    pub gpu: Option<String>,
    /// Number of such GPUs, at least.
    #[schemars(range(min = 1, max = 4096))]
    pub gpu_count: Option<u64>,
}

/// How runs are submitted to a Slurm cluster; what isn't stated is the cluster's default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SlurmSpec")]
pub struct SlurmSettings {
    /// Partition, as `sbatch --partition` takes it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:+/@-]{1,200}$"), example = &"gpu")]
    pub partition: Option<String>,
    /// Account that the time is charged to.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:+/@-]{1,200}$"))]
    pub account: Option<String>,
    /// Quality of service.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:+/@-]{1,200}$"))]
    pub qos: Option<String>,
    /// Longest time of one job, as `sbatch --time` takes it: minutes, or `hours:minutes:seconds`. A run that takes longer goes
    /// on in the next job.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:+/@-]{1,200}$"), example = &"4:00:00")]
    pub time: Option<String>,
    /// Generic resources of one run, such as its GPU.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:+/@-]{1,200}$"), example = &"gpu:h100:1")]
    pub gres: Option<String>,
    /// Processors of one run, as `sbatch --cpus-per-task` takes them; by default the profile's `threads`, where it states them.
    #[schemars(range(min = 1, max = 4096))]
    pub cpus: Option<u64>,
    /// Nodes of one run.
    #[schemars(range(min = 1, max = 4096))]
    pub nodes: Option<u64>,
    /// Most runs at once.
    #[schemars(range(min = 1, max = 100000))]
    pub throttle: Option<u64>,
    /// Whether the timing session of a spec that claims speed shares its node with other jobs. By default it has the node to itself
    /// (`sbatch --exclusive`), since what other jobs disturb decides nothing.
    pub timing_shares_node: Option<bool>,
    /// Lines of shell that prepare a job, such as `module load cuda`. One that fails ends the job.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[^\x00-\x08\x0a-\x1f]{1,4000}$")), extend("examples" = [["module load cuda"]]))]
    pub setup: Vec<String>,
}

/// A hardware profile by name, with anything in it overridden; or a whole profile inline.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HardwareSpec")]
pub struct Profile {
    /// Name of a profile in `experiments/hardware/`, whose values the others here override.
    #[serde(rename = "profile")]
    pub name: String,
    /// Kind of device.
    pub device: DeviceKind,
    /// Number of devices.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub device_count: u64,
    /// Arithmetic of activations and matrix products.
    pub dtype: Precision,
    /// Sequences per device and micro-step.
    #[schemars(range(min = 1, max = 1048576), example = 32)]
    pub device_batch_size: u64,
    /// Threads for CPU work; 0: as many as the machine has cores.
    #[serde(default)]
    #[schemars(range(max = 4096))]
    pub threads: u64,
    /// Memory of one device in GiB; a plan that needs more is refused.
    #[schemars(range(min = 0.001, max = 1048576.0))]
    pub memory_gib: Option<f64>,
    /// Peak rate of one device at `dtype` in TFLOP/s (10^12 a second).
    #[schemars(range(min = 0.000001, max = 1000000.0))]
    pub peak_tflops: Option<f64>,
    /// Share of the peak that training reaches; with it the time is estimated.
    #[serde(default = "usual_efficiency")]
    #[schemars(range(min = 0.0001, max = 1.0))]
    pub efficiency: f64,
    /// Memory bandwidth of one device in GB/s (10^9 bytes a second).
    #[schemars(range(min = 0.001, max = 1000000.0))]
    pub memory_bandwidth_gbs: Option<f64>,
    /// What the machine must look like.
    #[serde(rename = "match", default)]
    pub requirements: Requirements,
    /// How its runs are submitted to a Slurm cluster, with `nanochat run --on slurm`.
    pub slurm: Option<SlurmSettings>,
}

impl Profile {
    /// One processor, of which nothing is known but the batch and the threads that it is given.
    pub fn cpu(device_batch_size: u64, threads: u64) -> Self {
        Self {
            name: "cpu".to_owned(),
            device: DeviceKind::Cpu,
            device_count: 1,
            dtype: Precision::F32,
            device_batch_size,
            threads,
            memory_gib: None,
            peak_tflops: None,
            efficiency: usual_efficiency(),
            memory_bandwidth_gbs: None,
            requirements: Requirements::default(),
            slurm: None,
        }
    }
}

fn one() -> u64 {
    1
}

fn usual_efficiency() -> f64 {
    0.4
}
