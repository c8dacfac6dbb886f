//! Errors of the optimizer room.

use crate::device::TensorError;
use crate::model::{ModelError, listed};

/// Errors of the optimizer room.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OptimError {
    /// Given state doesn't fit the model; every problem is kept, and the message lists the first ones.
    #[error("the optimizer state doesn't fit the model:\n  {}", listed(.problems))]
    #[diagnostic(help("use the state of a run with the same `model` settings"))]
    State {
        /// One line for each missing, unknown or misshaped tensor.
        problems: Vec<String>,
    },
    /// The model has no such parameter, or there is no gradient of it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// A tensor operation failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tensor(#[from] TensorError),
    /// The GPU failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Gpu(#[from] nanochat_gpu::DeviceError),
}

impl From<candle_core::Error> for OptimError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}
