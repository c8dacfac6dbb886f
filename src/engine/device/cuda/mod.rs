//! NVIDIA GPUs: what the binary's kernels need, whether the driver and the GPU have it, and what an error of CUDA's means.

#[cfg(any(test, feature = "cuda"))]
mod needs;
#[cfg(feature = "cuda")]
mod opened;

use std::path::Path;

use candle_core::Device;

use super::{Capability, DeviceError, DeviceMemory};

/// What the kernels in this binary were compiled by and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Release of CUDA, such as 13.0.
    pub cuda: (u32, u32),
    /// The GPUs that they run on have this compute capability or a later one.
    pub capability: Capability,
}

impl Built {
    /// The release as it is written.
    pub fn release(&self) -> String {
        format!("{}.{}", self.cuda.0, self.cuda.1)
    }
}

/// What the kernels in this binary were compiled by and for; none when it was built without CUDA.
pub fn built() -> Option<Built> {
    #[cfg(feature = "cuda")]
    return needs::read(candle_core::cuda_backend::kernels::AFFINE.ptx());
    #[cfg(not(feature = "cuda"))]
    None
}

/// The first GPU that CUDA shows to this process.
#[cfg(feature = "cuda")]
pub(super) fn open() -> Result<Device, DeviceError> {
    opened::open()
}

/// Nothing, since CUDA isn't in this binary.
#[cfg(not(feature = "cuda"))]
pub(super) fn open() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuiltIn { what: "CUDA", remedy: "`cuda/build`" })
}

/// What the GPU behind a device has left; none of other devices.
#[cfg(feature = "cuda")]
pub(super) fn memory(device: &Device) -> Option<DeviceMemory> {
    opened::memory(device)
}

/// Nothing, since CUDA isn't in this binary.
#[cfg(not(feature = "cuda"))]
pub(super) fn memory(_: &Device) -> Option<DeviceMemory> {
    None
}

/// Whether NVIDIA's driver is loaded: by its own sign, by the devices it makes (also in sandboxes that hide the sign), or by
/// the one that stands for it under Windows.
pub(super) fn driver_is_loaded() -> bool {
    let signs = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];
    cfg!(windows) || signs.iter().any(|sign| Path::new(sign).exists())
}
