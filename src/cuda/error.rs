//! Errors of the driver and of libraries as errors of the device.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;
use nanochat_gpu::DeviceError;

/// A command of the driver that failed.
pub(crate) fn failed(command: impl Into<String>, error: DriverError) -> DeviceError {
    let text = error.error_string().ok().map(|text| text.to_string_lossy().into_owned());
    let reason = match text {
        Some(text) => format!("{text} ({:?})", error.0),
        None => format!("{:?}", error.0),
    };
    DeviceError::Failed { command: command.into(), reason }
}

/// The same for an allocation, whose memory may not suffice.
pub(crate) fn not_allocated(bytes: usize, error: DriverError) -> DeviceError {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes },
        _ => failed(format!("an allocation of {bytes} bytes"), error),
    }
}

/// What can't be done while commands are recorded.
pub(crate) fn not_recorded(command: &str, reason: &str) -> DeviceError {
    DeviceError::Failed { command: command.into(), reason: format!("it can't be recorded: {reason}") }
}
