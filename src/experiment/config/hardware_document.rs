//! Hardware as the user writes it: a profile's file, or the `hardware` section of a spec.

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::{BudgetSpec, CheckpointSpec, EvalSpec, OptimizerSpec, ReproducibilitySpec};
use super::schema_parts as parts;

/// `schema` entry of a hardware profile.
pub const PROFILE_SCHEMA: &str = "nanochat.hardware/v1";

/// Kinds of compute device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// Arithmetic of activations and matrix products; master weights and optimizer state are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// bfloat16 products with f32 accumulation.
    Bf16,
}

/// What the machine must look like; what isn't stated doesn't matter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchSpec {
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

/// Operating systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
}

/// A hardware profile by name, with anything in it overridden; or a whole profile inline.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HardwareSpec {
    /// Name of a profile in `experiments/hardware/`, whose values the others here override.
    pub profile: Option<String>,
    /// Kind of device.
    pub device: Option<Device>,
    /// Number of devices.
    #[schemars(range(min = 1, max = 4096))]
    pub device_count: Option<u64>,
    /// Arithmetic of activations and matrix products.
    pub dtype: Option<Dtype>,
    /// Sequences per device and micro-step.
    #[schemars(range(min = 1, max = 1048576), example = 32)]
    pub device_batch_size: Option<u64>,
    /// Threads for CPU work; 0: as many as the machine has cores.
    #[schemars(range(max = 4096))]
    pub threads: Option<u64>,
    /// Memory of one device in GiB; a plan that needs more is refused.
    #[schemars(range(min = 0.001, max = 1048576.0))]
    pub memory_gib: Option<f64>,
    /// Peak rate of one device at `dtype` in TFLOP/s (10^12 a second).
    #[schemars(range(min = 0.000001, max = 1000000.0))]
    pub peak_tflops: Option<f64>,
    /// Share of the peak that training reaches; with it the time is estimated.
    #[schemars(range(min = 0.0001, max = 1.0))]
    pub efficiency: Option<f64>,
    /// Memory bandwidth of one device in GB/s (10^9 bytes a second).
    #[schemars(range(min = 0.001, max = 1000000.0))]
    pub memory_bandwidth_gbs: Option<f64>,
    /// What the machine must look like.
    #[serde(rename = "match")]
    pub requirements: Option<MatchSpec>,
}

/// A hardware profile: `experiments/hardware/<name>.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Hardware profile", rename = "Hardware")]
pub struct ProfileDocument {
    /// Kind and version of this document: `nanochat.hardware/v1`.
    #[schemars(schema_with = "parts::profile_schema_id")]
    pub schema: Option<String>,
    /// Name of the profile; its file is called so.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub name: Option<String>,
    /// What machine it describes.
    pub description: Option<String>,
    /// Kind of device.
    pub device: Option<Device>,
    /// Number of devices.
    #[schemars(range(min = 1, max = 4096))]
    pub device_count: Option<u64>,
    /// Arithmetic of activations and matrix products.
    pub dtype: Option<Dtype>,
    /// Sequences per device and micro-step.
    #[schemars(range(min = 1, max = 1048576), example = 32)]
    pub device_batch_size: Option<u64>,
    /// Threads for CPU work; 0: as many as the machine has cores.
    #[schemars(range(max = 4096))]
    pub threads: Option<u64>,
    /// Memory of one device in GiB; a plan that needs more is refused.
    #[schemars(range(min = 0.001, max = 1048576.0))]
    pub memory_gib: Option<f64>,
    /// Peak rate of one device at `dtype` in TFLOP/s (10^12 a second).
    #[schemars(range(min = 0.000001, max = 1000000.0))]
    pub peak_tflops: Option<f64>,
    /// Share of the peak that training reaches; with it the time is estimated.
    #[schemars(range(min = 0.0001, max = 1.0))]
    pub efficiency: Option<f64>,
    /// Memory bandwidth of one device in GB/s (10^9 bytes a second).
    #[schemars(range(min = 0.001, max = 1000000.0))]
    pub memory_bandwidth_gbs: Option<f64>,
    /// What the machine must look like.
    #[serde(rename = "match")]
    pub requirements: Option<MatchSpec>,
    /// What is laid over a spec when this profile stands in for the spec's own (`--profile`): a smoke test of its shape.
    pub stand_in: Option<StandInSpec>,
}

/// Parts of a spec that a profile replaces when it stands in for another.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandInSpec {
    /// Seeds.
    #[schemars(schema_with = "parts::seeds")]
    pub seeds: Option<Vec<u64>>,
    /// Sequences per device and micro-step.
    #[schemars(range(min = 1, max = 1048576))]
    pub device_batch_size: Option<u64>,
    /// Budget.
    pub budget: Option<BudgetSpec>,
    /// Optimizer settings.
    pub optimizer: Option<OptimizerSpec>,
    /// Evaluation.
    pub eval: Option<EvalSpec>,
    /// Checkpoints.
    pub checkpoint: Option<CheckpointSpec>,
    /// Repeats.
    pub reproducibility: Option<ReproducibilitySpec>,
}
