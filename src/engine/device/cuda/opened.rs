//! The GPU itself, through CUDA's driver.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor};

use super::super::{Capability, DeviceError, DeviceMemory, gpus};
use super::needs::{check_capability, check_driver, explain};
use super::{Built, built, driver_is_loaded};

/// The first GPU that CUDA reports to this process, after a test computation.
pub(super) fn open() -> Result<Device, DeviceError> {
    if !driver_is_loaded() {
        return Err(DeviceError::NoDriver);
    }
    let built = built().ok_or_else(|| failed("its kernels don't say what they were compiled for"))?;
    // The driver's version is only checked after a failure: with NVIDIA's compatibility packages an older driver works.
    open_built(&built).map_err(|error| {
        let driver = gpus().first().map(|gpu| check_driver(&built, &gpu.driver));
        driver.and_then(Result::err).unwrap_or(error)
    })
}

fn open_built(built: &Built) -> Result<Device, DeviceError> {
    let device = quietly(|| Device::new_cuda(0), built)?;
    let (name, capability) = describe(&device, built)?;
    check_capability(built, &name, capability)?;
    quietly(|| try_out(&device), built)?;
    Ok(device)
}

/// Free and total memory of a device's GPU; none for other devices.
pub(super) fn memory(device: &Device) -> Option<DeviceMemory> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let (free, total) = stream.context().mem_get_info().ok()?;
    let gpu = stream.context().name().ok()?;
    Some(DeviceMemory { gpu, free_bytes: free as u64, total_bytes: total as u64 })
}

fn failed(reason: &str) -> DeviceError {
    DeviceError::Failed { what: "CUDA", reason: reason.to_string() }
}

fn describe(device: &Device, built: &Built) -> Result<(String, Capability), DeviceError> {
    let stream = device.as_cuda_device().map_err(|error| failed(&error.to_string()))?.cuda_stream();
    let context = stream.context();
    let explained = |error: candle_core::cuda_backend::cudarc::driver::DriverError| explain(&error.to_string(), built);
    let (major, minor) = context.compute_capability().map_err(explained)?;
    let number = |part: i32| u32::try_from(part).unwrap_or_default();
    Ok((context.name().map_err(explained)?, Capability { major: number(major), minor: number(minor) }))
}

/// A kernel, a matrix product and a copy to the host, which fail with a wrong driver or GPU.
fn try_out(device: &Device) -> candle_core::Result<()> {
    let ones = Tensor::ones((8, 8), DType::F32, device)?;
    let sum = ones.affine(2.0, 1.0)?.matmul(&ones)?.sum_all()?.to_scalar::<f32>()?;
    if sum != 1536.0 {
        candle_core::bail!("8 × 8 products of threes and ones summed to {sum}, not 1536");
    }
    Ok(())
}

/// Runs work that panics if a library is missing; the panic prints nothing and becomes an error.
fn quietly<T>(work: impl FnOnce() -> candle_core::Result<T>, built: &Built) -> Result<T, DeviceError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    match outcome {
        Ok(result) => result.map_err(|error| explain(&error.to_string(), built)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(explain(text.unwrap_or("it panicked"), built))
        }
    }
}
