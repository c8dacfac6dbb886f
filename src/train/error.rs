//! Why training stopped.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::evals::EvalError;
use crate::model::ModelError;
use crate::optim::OptimError;

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data stream failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The optimizer failed.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A checkpoint couldn't be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The evaluation failed; training up to there is saved.
    #[error("evaluation failed: {0}")]
    Evaluation(#[from] EvalError),
    /// The loss is no longer a number.
    #[error(
        "the loss became {loss} at step {step}{}; the last good checkpoint is kept: lower the learning rates, or look at the data near that step",
        tensor.as_ref().map(|name| format!(", first seen in `{name}`")).unwrap_or_default()
    )]
    Diverged {
        /// Step at which it happened.
        step: u64,
        /// The loss.
        loss: f64,
        /// First parameter whose gradient or value is not finite.
        tensor: Option<String>,
    },
    /// A stored state belongs to another plan, or is incomplete.
    #[error("the stored state can't be continued: {reason}; start over with --force")]
    State {
        /// What doesn't fit.
        reason: String,
    },
    /// The plan asks for what this engine can't do.
    #[error("{what}; {remedy}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// What to change.
        remedy: String,
    },
}
