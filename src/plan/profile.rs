//! What a hardware profile says.

use super::{DeviceKind, Precision};

/// What the machine must look like; what isn't stated doesn't matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Requirements {
    /// Operating system: `linux`, `macos` or `windows`.
    pub os: Option<String>,
    /// Processor architecture, such as `x86_64` or `aarch64`.
    pub arch: Option<String>,
    /// A part of the processor's model name, whatever its case.
    pub cpu: Option<String>,
    /// Processor features, such as `avx2`.
    pub cpu_features: Option<Vec<String>>,
    /// Cores that the process may use, at least.
    pub min_cores: Option<u64>,
    /// Memory in GiB, at least; the control group's limit counts.
    pub min_memory_gib: Option<f64>,
    /// A part of each GPU's model name, whatever its case.
    pub gpu: Option<String>,
    /// Number of such GPUs, at least.
    pub gpu_count: Option<u64>,
}

/// A hardware profile, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name; `inline` when the spec holds it.
    pub name: String,
    /// Kind of device.
    pub device: DeviceKind,
    /// Number of devices.
    pub device_count: u64,
    /// Arithmetic.
    pub dtype: Precision,
    /// Sequences per device and micro-step.
    pub device_batch_size: u64,
    /// Threads for CPU work; 0: all cores.
    pub threads: u64,
    /// Memory of one device in GiB, when stated.
    pub memory_gib: Option<f64>,
    /// Peak rate of one device in TFLOP/s, when stated.
    pub peak_tflops: Option<f64>,
    /// Share of the peak that training reaches.
    pub efficiency: f64,
    /// Memory bandwidth of one device in GB/s, when stated.
    pub memory_bandwidth_gbs: Option<f64>,
    /// What the machine must look like.
    pub requirements: Requirements,
}
