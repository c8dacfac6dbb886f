//! Why a model can't be exported, with the way out.

use std::io;
use std::path::PathBuf;

use nanochat_artifacts::{ArtifactError, ExportCheck};
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_engine::model::ModelError;
use nanochat_engine::optim::OptimError;
use nanochat_engine::tokenizer::TokenizerError;
use nanochat_engine::trained::TrainedError;
use nanochat_formats::FormatError;

/// An error of the export room.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ExportError {
    /// Something lies where the export is to go.
    #[error("`{}` is in the way: {reason}", path.display())]
    #[diagnostic(help(
        "name a folder that is absent or empty; only an earlier export is replaced, with no file added to it"
    ))]
    Occupied {
        /// The target.
        path: PathBuf,
        /// What is there.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    #[diagnostic(help("free space or permissions may be lacking; whatever lay at the target before is untouched"))]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Weights that the chosen type or layout can't hold.
    #[error("the weights can't be exported so: {reason}")]
    #[diagnostic(help("`--dtype f32` holds them as they are"))]
    Weights {
        /// Why.
        reason: String,
    },
    /// What was written computes something else.
    #[error(
        "`{}` differs from the source by {:e}, where {:e} is the most that it may: {}",
        check.file, check.max_abs, check.bound.unwrap_or_default(), check.quantity
    )]
    #[diagnostic(help("nothing was put in place; this is a fault of the program or of the storage, please report it"))]
    Differs {
        /// The comparison.
        check: ExportCheck,
    },
    /// A graph that can't be read back or computed.
    #[error("`{}`: {reason}", path.display())]
    #[diagnostic(help("nothing was put in place; this is a fault of the program or of the storage, please report it"))]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Tensors that can't be made.
    #[error("computing: {0}")]
    Tensors(#[from] candle_core::Error),
    /// A checkpoint file that can't be written or read back.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of another program's format that can't be written or read back.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Format(#[from] FormatError),
    /// A document around the run, or of the export.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Document(#[from] ArtifactError),
    /// The model that was read back.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// The optimizer's state.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Optimizer(#[from] OptimError),
    /// The tokenizer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The export can't be opened again.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Trained(#[from] TrainedError),
}

impl ExportError {
    /// Wraps an error of the file system with action and place.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
