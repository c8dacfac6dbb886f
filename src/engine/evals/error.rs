//! Errors of evaluations.

use std::path::PathBuf;

use crate::data::DataError;
use crate::device::TensorError;
use crate::model::ModelError;

/// An error of an evaluation.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EvalError {
    /// The model failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),

    /// A tensor operation failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tensor(#[from] TensorError),

    /// The text could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),

    /// No target has bytes.
    #[error("bits per byte can't be computed: none of the targets is a token with bytes")]
    #[diagnostic(help("evaluate at least one batch; special tokens and ignored targets don't count"))]
    NoBytes,

    /// Fewer tokens than one batch.
    #[error("{tokens} tokens are less than one batch of {a_batch}")]
    #[diagnostic(help("evaluate at least {a_batch} tokens, or use a smaller batch"))]
    TooFewTokens {
        /// Wanted tokens.
        tokens: u64,
        /// Tokens of one batch.
        a_batch: u64,
    },

    /// A target outside the vocabulary.
    #[error("target {target} is outside the vocabulary of {vocab_size} tokens")]
    #[diagnostic(help("tokenizer and model belong to different runs"))]
    Target {
        /// The target.
        target: i64,
        /// Number of known lengths.
        vocab_size: usize,
    },

    /// A file of an evaluation bundle is missing or malformed.
    #[error("evaluation bundle, `{}`: {reason}", path.display())]
    #[diagnostic(help(
        "a bundle is a folder with core.yaml, eval_meta_data.csv and eval_data/, as the baseline's eval_bundle.zip unpacks"
    ))]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },

    /// A task has too few examples for its shots.
    #[error("task `{task}` wants {shots} examples before each question, and has {examples} examples in all")]
    #[diagnostic(help("evaluate more examples a task, or take the task out of core.yaml"))]
    TooFewExamples {
        /// The task's label.
        task: String,
        /// Wanted examples.
        shots: usize,
        /// Number of examples, the question itself included.
        examples: usize,
    },

    /// An example can't be evaluated.
    #[error("task `{task}`, example {example} in evaluation order: {reason}")]
    #[diagnostic(help("mend the example, or take the task out of core.yaml"))]
    Example {
        /// The task's label.
        task: String,
        /// Its position.
        example: usize,
        /// Why.
        reason: String,
    },
}

impl From<candle_core::Error> for EvalError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}
