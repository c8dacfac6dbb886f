//! What can go wrong in an evaluation.

use std::path::PathBuf;

use crate::data::DataError;
use crate::model::ModelError;

/// An error of an evaluation.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EvalError {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),

    /// The text could not be read.
    #[error(transparent)]
    Data(#[from] DataError),

    /// There was nothing to divide by.
    #[error("bits per byte of nothing: none of the targets is a token with bytes")]
    #[diagnostic(help("evaluate at least one batch; special tokens and ignored targets don't count"))]
    NoBytes,

    /// Less than one batch.
    #[error("{tokens} tokens are less than one batch of {a_batch}")]
    #[diagnostic(help("evaluate at least {a_batch} tokens, or use a smaller batch"))]
    TooFewTokens {
        /// Wanted tokens.
        tokens: u64,
        /// Tokens of one batch.
        a_batch: u64,
    },

    /// A target that the token lengths don't know.
    #[error("target {target} is outside the vocabulary of {vocab_size} tokens")]
    #[diagnostic(help("tokenizer and model belong to different runs"))]
    Target {
        /// The target.
        target: i64,
        /// Number of known lengths.
        vocab_size: usize,
    },

    /// A file of an evaluation bundle that is missing or isn't what it should be.
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

    /// A task with too few examples for its shots.
    #[error("task `{task}` wants {shots} examples before each question, and has {examples} examples in all")]
    #[diagnostic(help("evaluate more examples a task, or take the task out of core.yaml"))]
    TooFewExamples {
        /// The task's label.
        task: String,
        /// Wanted examples.
        shots: usize,
        /// Examples at hand, the question itself among them.
        examples: usize,
    },

    /// An example that can't be posed.
    #[error("task `{task}`, example {example} in evaluation order: {reason}")]
    Example {
        /// The task's label.
        task: String,
        /// Its position.
        example: usize,
        /// Why.
        reason: String,
    },
}
