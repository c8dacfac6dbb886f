//! Why an experiment or a run couldn't be carried out.

use nanochat_artifacts::ArtifactError;
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_engine::data::DataError;
use nanochat_engine::device::DeviceError;
use nanochat_engine::evals::EvalError;
use nanochat_engine::model::ModelError;
use nanochat_engine::tokenizer::TokenizerError;
use nanochat_engine::train::TrainError;
use nanochat_lab::report::ReportError;
use nanochat_lab::scorecard::ScorecardError;

/// Why an experiment or a run couldn't be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A result couldn't be read or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A checkpoint couldn't be read or written, or another process has the run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The data can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The tokenizer can't be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The starting weights can't be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The evaluation's tasks can't be used.
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The verdicts couldn't be reached.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
    /// The reports couldn't be rendered.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The file of starting weights can't be read.
    #[error(
        "can't read the starting weights {path}: {reason}; init.weights needs a safetensors file with the baseline's parameter names"
    )]
    Weights {
        /// The file.
        path: String,
        /// What was wrong.
        reason: String,
    },
    /// The plan starts from the baseline's own initial weights, which only the baseline can make.
    #[error(
        "`init: baseline` needs the baseline's initial weights at {path}; have them written with `nanochat baseline weights SPEC --checkout FOLDER --python PATH`"
    )]
    BaselineWeights {
        /// Where they would lie.
        path: String,
    },
    /// A checkpoint of the baseline's can't begin this run.
    #[error("can't go on from the baseline's checkpoint in {path}: {reason}")]
    Adoption {
        /// Its folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// The device can't be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its memory ran out in the middle of the work.
    #[error(
        "the device ran out of memory, though the run was estimated to need {estimate:.1} GiB; set hardware.device_batch_size below {batch}, or \
         end what else runs on it ({reason})"
    )]
    OutOfDeviceMemory {
        /// Estimated GiB.
        estimate: f64,
        /// Sequences a micro-step.
        batch: u64,
        /// In the words of the library.
        reason: String,
    },
    /// The tokenizer doesn't fit the plan.
    #[error(
        "the tokenizer has {found} tokens, the plan says {planned}; set model.vocab_size or the tokenizer so that they agree"
    )]
    VocabularyMismatch {
        /// Tokens in the tokenizer.
        found: usize,
        /// Tokens in the plan.
        planned: usize,
    },
    /// A bug: the engine panicked. The run is recorded as failed and the others go on.
    #[error("internal error: {0}; please report it with the plan.json of this run")]
    Panicked(String),
}
