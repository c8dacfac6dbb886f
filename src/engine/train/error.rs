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
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// The loss stopped being a number or exploded, or the state to be saved holds what is no number.
    #[error(
        "{what} at step {step}; the last good checkpoint is kept: lower the learning rates, look at the data near that step, or set `on_divergence: rollback`"
    )]
    Diverged {
        /// Step at which it was seen.
        step: u64,
        /// What was seen, and in which tensor.
        what: String,
    },
    /// It diverged again after it had gone back as often as a run may.
    #[error(
        "{what} at step {step}, after {times} rollbacks; the last good checkpoint is kept: lower the learning rates"
    )]
    DivergedAgain {
        /// Step at which it was seen.
        step: u64,
        /// What was seen, and in which tensor.
        what: String,
        /// How often it went back.
        times: usize,
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
