//! NVIDIA GPUs: what the binary's kernels need, whether driver and GPU meet it, and the meaning of CUDA's errors.

#[cfg(any(test, feature = "cuda"))]
mod needs;
#[cfg(feature = "cuda")]
mod opened;

use std::path::Path;

use candle_core::Device;

use super::{Capability, DeviceError, DeviceMemory};

/// The CUDA release and compute capability that this binary's kernels were compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Release of CUDA, such as 13.0.
    pub cuda: (u32, u32),
    /// The GPUs that they run on have this compute capability or a later one.
    pub capability: Capability,
}

impl Built {
    /// The release as text.
    pub fn release(&self) -> String {
        format!("{}.{}", self.cuda.0, self.cuda.1)
    }
}

/// The CUDA release and compute capability of this binary; none if it was built without CUDA.
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

/// An error, since this binary was built without CUDA.
#[cfg(not(feature = "cuda"))]
pub(super) fn open() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuiltIn { what: "CUDA", remedy: "`cuda/build`" })
}

/// Free and total memory of a device's GPU; none for other devices.
#[cfg(feature = "cuda")]
pub(super) fn memory(device: &Device) -> Option<DeviceMemory> {
    opened::memory(device)
}

/// None, since this binary was built without CUDA.
#[cfg(not(feature = "cuda"))]
pub(super) fn memory(_: &Device) -> Option<DeviceMemory> {
    None
}

/// Whether NVIDIA's driver is loaded: by its version file, by its device files (sandboxes may hide the version file), or by
/// the device of WSL.
pub(super) fn driver_is_loaded() -> bool {
    let signs = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];
    cfg!(windows) || signs.iter().any(|sign| Path::new(sign).exists())
}
