//! Why a device can't be used, and why an operation on it failed.

use super::Capability;

/// Why a device can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum DeviceError {
    /// The binary was built without support for it.
    #[error("this binary was built without {what}")]
    #[diagnostic(help("build it with {remedy}, or choose a CPU profile"))]
    NotBuiltIn {
        /// `CUDA` or `Metal`.
        what: &'static str,
        /// How to build with support.
        remedy: &'static str,
    },
    /// No NVIDIA driver is loaded.
    #[error("no NVIDIA driver is loaded on this machine, so no GPU can be used")]
    #[diagnostic(help(
        "install the driver, give the container access to the GPU (`--gpus all`), or choose a CPU profile"
    ))]
    NoDriver,
    /// The driver is older than the CUDA release of the binary.
    #[error("NVIDIA driver {driver} is too old for this binary, which was built with CUDA {cuda}")]
    #[diagnostic(help("install driver {least} or newer, or build with a CUDA toolkit that driver {driver} supports"))]
    OldDriver {
        /// Version of the driver.
        driver: String,
        /// CUDA release that compiled the kernels.
        cuda: String,
        /// Oldest driver for that release.
        least: String,
    },
    /// The GPU is of an older generation than the kernels were compiled for.
    #[error("{gpu} has compute capability {found}, and this binary's kernels need {needed}")]
    #[diagnostic(help(
        "build the kernels for it with `CUDA_COMPUTE_CAP={}{} cuda/build` (bf16 needs 8.0), or choose another GPU with \
         CUDA_VISIBLE_DEVICES",
        found.major, found.minor
    ))]
    OldGpu {
        /// Model of the GPU.
        gpu: String,
        /// Its compute capability.
        found: Capability,
        /// The compute capability that the kernels were compiled for.
        needed: Capability,
    },
    /// The driver gives this process no GPU.
    #[error("the NVIDIA driver gives this process no GPU")]
    #[diagnostic(help("check `nvidia-smi`, and whether CUDA_VISIBLE_DEVICES hides all GPUs"))]
    NoGpu,
    /// A CUDA library can't be loaded.
    #[error("the CUDA library lib{library} can't be loaded")]
    #[diagnostic(help("put the folder with libcublas, libcublasLt and libcurand of CUDA {cuda} on LD_LIBRARY_PATH"))]
    NoLibrary {
        /// Its name, such as `cublas`.
        library: String,
        /// CUDA release that the binary was built with.
        cuda: String,
    },
    /// The GPU has too little free memory for the plan.
    #[error("the run is estimated to need {needed:.1} GiB, and {gpu} has {free:.1} of its {total:.1} GiB free")]
    #[diagnostic(help(
        "set hardware.device_batch_size lower, or end other programs on the GPU (`nvidia-smi` lists them)"
    ))]
    LittleMemory {
        /// Model of the GPU.
        gpu: String,
        /// Estimate in GiB.
        needed: f64,
        /// Free GiB.
        free: f64,
        /// Total GiB.
        total: f64,
    },
    /// The plan asks for several devices.
    #[error("profile `{profile}` asks for {count} devices, and this engine trains on one")]
    #[diagnostic(help("choose a profile with device_count: 1; `nanochat plan SPEC` says what one device takes"))]
    Several {
        /// Name of the hardware profile.
        profile: String,
        /// How many devices it asks for.
        count: u64,
    },
    /// Any other failure.
    #[error("the {what} device can't be used: {reason}")]
    #[diagnostic(help("see `nanochat doctor`"))]
    Failed {
        /// `CUDA` or `Metal`.
        what: &'static str,
        /// Message of the library.
        reason: String,
    },
}

/// Why a tensor operation failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TensorError {
    /// The device has no memory left.
    #[error("the device ran out of memory: {0}")]
    #[diagnostic(help("set hardware.device_batch_size lower, or end other programs on the device"))]
    OutOfMemory(String),
    /// Any other failure.
    #[error("tensor operation failed: {0}")]
    Failed(String),
}

impl TensorError {
    /// Whether the device's memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory(_))
    }
}

impl From<candle_core::Error> for TensorError {
    /// The one place that reads the text of candle's errors: candle has no variant for a full device.
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        match ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name)) {
            true => Self::OutOfMemory(text),
            false => Self::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_a_variant_of_its_own() {
        let error = |text: &str| TensorError::from(candle_core::Error::Msg(text.to_string()));
        assert!(error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").is_out_of_memory());
        assert!(error("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").is_out_of_memory());
        assert!(!error("shape mismatch in matmul").is_out_of_memory());
    }
}
