//! Why a step can't be taken, or state not be restored.

use thiserror::Error;

use crate::model::{ModelError, listed};

/// Errors of the optimizer room.
#[derive(Debug, Error)]
pub enum OptimError {
    /// Given state doesn't fit the model; every problem is kept, and the first ones are told.
    #[error("the optimizer state doesn't fit the model:\n  {}", listed(.problems))]
    State {
        /// One line a missing, unknown or misshaped tensor.
        problems: Vec<String>,
    },
    /// The model lacks a parameter, or the gradients one of its sums.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
