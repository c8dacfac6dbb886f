//! Why training stopped.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::device::TensorError;
use crate::evals::EvalError;
use crate::model::ModelError;
use crate::optim::OptimError;

/// Why training stopped.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TrainError {
    /// The data stream failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The model failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// The optimizer failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Optim(#[from] OptimError),
    /// A tensor operation failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tensor(#[from] TensorError),
    /// A checkpoint couldn't be written or read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The evaluation failed; training up to there is saved.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Evaluation(#[from] EvalError),
    /// The loss is not finite or exploded, or the state to be saved holds a value that is not finite.
    #[error("{what} at step {step}; the last good checkpoint is kept")]
    #[diagnostic(help("lower the learning rates, look at the data near that step, or set `on_divergence: rollback`"))]
    Diverged {
        /// The step.
        step: u64,
        /// What diverged, and in which tensor.
        what: String,
    },
    /// The run diverged after the largest number of rollbacks.
    #[error("{what} at step {step}, after {times} rollbacks; the last good checkpoint is kept")]
    #[diagnostic(help("lower the learning rates"))]
    DivergedAgain {
        /// The step.
        step: u64,
        /// What diverged, and in which tensor.
        what: String,
        /// Number of rollbacks before.
        times: usize,
    },
    /// A stored state belongs to another plan, or is incomplete.
    #[error("the stored state can't be continued: {reason}")]
    #[diagnostic(help("start over with --force"))]
    State {
        /// What doesn't fit.
        reason: String,
    },
    /// The engine has no support for a setting of the plan.
    #[error("{what}")]
    #[diagnostic(help("{remedy}"))]
    Unsupported {
        /// The setting.
        what: String,
        /// What to change.
        remedy: String,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}

impl TrainError {
    /// Whether a stop was requested while data or an evaluation was made.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Data(DataError::Stopped) | Self::Evaluation(EvalError::Data(DataError::Stopped)))
    }

    /// Whether training stopped because the device's memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        let tensor = match self {
            Self::Optim(OptimError::Gpu(error)) => {
                return matches!(error, nanochat_gpu::DeviceError::OutOfMemory { .. });
            }
            Self::Tensor(error)
            | Self::Model(ModelError::Tensor(error))
            | Self::Optim(OptimError::Tensor(error) | OptimError::Model(ModelError::Tensor(error)))
            | Self::Checkpoint(CheckpointError::Operation { error, .. })
            | Self::Evaluation(EvalError::Tensor(error) | EvalError::Model(ModelError::Tensor(error))) => error,
            _ => return false,
        };
        tensor.is_out_of_memory()
    }
}
