//! The device that a command computes on.

use super::CliError;
use nanochat_engine::device::open_device;
use nanochat_plan::DeviceKind;

/// Where to compute. Never another device than the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DeviceArg {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
    /// Apple's GPU.
    Metal,
}

impl DeviceArg {
    /// Opens it, or says what is in the way (exit code 1).
    pub fn open(self) -> Result<candle_core::Device, CliError> {
        let kind = match self {
            Self::Cpu => DeviceKind::Cpu,
            Self::Cuda => DeviceKind::Cuda,
            Self::Metal => DeviceKind::Metal,
        };
        open_device(kind).map_err(|error| CliError::failed(miette::miette!("{error}")))
    }
}
