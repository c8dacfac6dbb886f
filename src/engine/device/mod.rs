//! Opens what a plan computes on: the device that was asked for, or an error that says what is in the way. Never another.

mod cuda;
mod gpus;
pub mod memory;

use candle_core::Device;
use nanochat_plan::DeviceKind;

pub use cuda::{Built, built};
pub use gpus::{Gpu, gpus};

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// A compute capability, such as 9.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    /// Generation.
    pub major: u32,
    /// Within the generation.
    pub minor: u32,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a device can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// Support for it isn't in this binary.
    #[error("this binary was built without {what}; build it with {remedy}, or choose a CPU profile")]
    NotBuiltIn {
        /// `CUDA` or `Metal`.
        what: &'static str,
        /// How to build it in.
        remedy: &'static str,
    },
    /// No NVIDIA driver is loaded.
    #[error(
        "no NVIDIA driver is loaded on this machine, so no GPU can be used; install the driver, let the container see it \
         (`--gpus all`), or choose a CPU profile"
    )]
    NoDriver,
    /// The driver is older than what the binary was built with.
    #[error(
        "NVIDIA driver {driver} is too old for this binary, which was built with CUDA {cuda}; install driver {least} or newer, or \
         build with a CUDA toolkit that driver {driver} supports"
    )]
    OldDriver {
        /// Version of the driver, or what it was too old for.
        driver: String,
        /// CUDA release that the kernels were compiled by.
        cuda: String,
        /// Oldest driver for that release.
        least: String,
    },
    /// The GPU is of an older generation than the kernels were compiled for.
    #[error(
        "{gpu} has compute capability {found}, and this binary's kernels need {needed}; build them for it with \
         `CUDA_COMPUTE_CAP={}{} cuda/build` (bf16 needs 8.0), or choose another GPU with CUDA_VISIBLE_DEVICES",
        found.major, found.minor
    )]
    OldGpu {
        /// Its model.
        gpu: String,
        /// What it has.
        found: Capability,
        /// What the kernels were compiled for.
        needed: Capability,
    },
    /// There is a driver, and no GPU that it would give to this process.
    #[error(
        "the NVIDIA driver gives this process no GPU; see `nvidia-smi`, and whether CUDA_VISIBLE_DEVICES hides them all"
    )]
    NoGpu,
    /// A library of CUDA's can't be loaded.
    #[error(
        "CUDA's lib{library} can't be loaded; put the folder that holds libcublas, libcublasLt and libcurand of CUDA {cuda} on \
         LD_LIBRARY_PATH"
    )]
    NoLibrary {
        /// Its name, such as `cublas`.
        library: String,
        /// CUDA release that the binary was built with.
        cuda: String,
    },
    /// The GPU has too little free memory for what is planned.
    #[error(
        "the run is estimated to need {needed:.1} GiB, and {gpu} has {free:.1} of its {total:.1} GiB free; set \
         hardware.device_batch_size lower, or end what else runs on it (`nvidia-smi` shows it)"
    )]
    LittleMemory {
        /// Its model.
        gpu: String,
        /// Estimate in GiB.
        needed: f64,
        /// Free GiB.
        free: f64,
        /// All GiB.
        total: f64,
    },
    /// The plan wants several.
    #[error(
        "profile `{profile}` asks for {count} devices, this engine trains on one; choose a profile with device_count: 1"
    )]
    Several {
        /// Name of the hardware profile.
        profile: String,
        /// How many.
        count: u64,
    },
    /// Something else; in the words of the library.
    #[error("the {what} device can't be used: {reason}; see `nanochat doctor`")]
    Failed {
        /// `CUDA` or `Metal`.
        what: &'static str,
        /// What it says.
        reason: String,
    },
}

/// Opens the first device of a kind, and sees that it computes.
///
/// # Errors
/// What is in the way, with the way out.
pub fn open_device(kind: DeviceKind) -> Result<Device, DeviceError> {
    match kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda => cuda::open(),
        DeviceKind::Metal if !cfg!(feature = "metal") => {
            Err(DeviceError::NotBuiltIn { what: "Metal", remedy: "`cargo build --release --features metal`" })
        }
        DeviceKind::Metal => {
            Device::new_metal(0).map_err(|error| DeviceError::Failed { what: "Metal", reason: error.to_string() })
        }
    }
}

/// What a GPU has left; none of a processor, or where it doesn't say.
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    cuda::memory(device)
}

/// Whether an error's words say that a device's memory ran out.
pub fn is_out_of_memory(reason: &str) -> bool {
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| reason.contains(name))
}

/// What a device has, as far as it says.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceMemory {
    /// Its model.
    pub gpu: String,
    /// Free bytes.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// Refuses an estimate of `needed` GiB that a GPU's free memory doesn't hold, before anything is allocated there.
///
/// # Errors
/// [`DeviceError::LittleMemory`].
pub fn has_room(memory: &DeviceMemory, needed: f64) -> Result<(), DeviceError> {
    let [free, total] = [memory.free_bytes, memory.total_bytes].map(|bytes| bytes as f64 / GIB);
    if needed > free {
        return Err(DeviceError::LittleMemory { gpu: memory.gpu.clone(), needed, free, total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_told_with_its_figures() {
        let memory = DeviceMemory { gpu: "NVIDIA L4".into(), free_bytes: 3 << 30, total_bytes: 22 << 30 };
        assert_eq!(has_room(&memory, 2.9), Ok(()));
        let told = has_room(&memory, 3.1).unwrap_err().to_string();
        assert!(told.contains("need 3.1 GiB, and NVIDIA L4 has 3.0 of its 22.0 GiB free"), "{told}");
    }

    #[test]
    fn the_processor_is_always_there_and_nothing_stands_in_for_another_device() {
        assert!(open_device(DeviceKind::Cpu).unwrap().is_cpu());
        for kind in [DeviceKind::Cuda, DeviceKind::Metal] {
            if let Ok(device) = open_device(kind) {
                assert!(!device.is_cpu());
            }
        }
    }
}
