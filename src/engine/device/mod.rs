//! Opens the device that a plan computes on, or gives an error that says why it can't be used. Never opens another device.

mod cuda;
mod error;
mod gpus;
pub mod memory;

use candle_core::Device;

use nanochat_plan::DeviceKind;

pub use cuda::{Built, built};
pub use error::{DeviceError, TensorError};
pub use gpus::{Gpu, GpuUse, gpu_use, gpus};

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

/// Opens the first device of a kind, and checks that it computes.
///
/// # Errors
/// Why it can't be used.
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

/// Free and total memory of a GPU; none for a CPU, or where the driver doesn't report it.
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    cuda::memory(device)
}

/// Memory of a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceMemory {
    /// Model of the GPU.
    pub gpu: String,
    /// Free bytes.
    pub free_bytes: u64,
    /// Total bytes.
    pub total_bytes: u64,
}

/// Refuses an estimate of `needed` GiB that is above the GPU's free memory, before anything is allocated there.
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
    fn an_estimate_above_the_free_memory_is_refused_with_figures() {
        let memory = DeviceMemory { gpu: "NVIDIA L4".into(), free_bytes: 3 << 30, total_bytes: 22 << 30 };
        assert_eq!(has_room(&memory, 2.9), Ok(()));
        let message = has_room(&memory, 3.1).unwrap_err().to_string();
        assert!(message.contains("need 3.1 GiB, and NVIDIA L4 has 3.0 of its 22.0 GiB free"), "{message}");
    }

    #[test]
    fn the_cpu_always_opens_and_no_device_is_replaced_by_another() {
        assert!(open_device(DeviceKind::Cpu).unwrap().is_cpu());
        for kind in [DeviceKind::Cuda, DeviceKind::Metal] {
            if let Ok(device) = open_device(kind) {
                assert!(!device.is_cpu());
            }
        }
    }
}
