//! Errors of checkpoints.

use std::io;
use std::path::PathBuf;

use crate::device::TensorError;

/// An error of the checkpoint room.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    #[diagnostic(help(
        "check free space and permissions; earlier checkpoints are untouched, and the run continues from the newest of them"
    ))]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The new checkpoint reads back differently from what was written.
    #[error("the checkpoint just written to `{}` reads back differently: {reason}", path.display())]
    #[diagnostic(help("the storage is faulty; older checkpoints were kept"))]
    ReadBack {
        /// The step's folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },

    /// A stored checkpoint is damaged.
    #[error("the checkpoint `{}` is damaged: {reason}", path.display())]
    #[diagnostic(help("delete the folder, or restore it from a copy"))]
    Damaged {
        /// The step's folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Checkpoints exist, and all of them are damaged.
    #[error("none of the {} checkpoints in `{}` is whole: {}", skipped.len(), folder.display(), reasons(skipped))]
    #[diagnostic(help("restore one from a copy, or start over with `--force`"))]
    NoneWhole {
        /// The folder of all checkpoints.
        folder: PathBuf,
        /// Each with its reason.
        skipped: Vec<(PathBuf, String)>,
    },

    /// There is no checkpoint of the wanted step.
    #[error("`{}` holds no checkpoint of step {step}; it has {available:?}", folder.display())]
    #[diagnostic(help("name one of these steps, or leave the step out for the newest"))]
    NoSuchStep {
        /// The folder of all checkpoints.
        folder: PathBuf,
        /// The wanted step.
        step: u64,
        /// The steps that it has.
        available: Vec<u64>,
    },

    /// A name that can't be a file or tensor name.
    #[error("`{name}` cannot name a part of a checkpoint: {reason}")]
    #[diagnostic(help("delete the checkpoint, or restore it from a copy"))]
    Name {
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },

    /// A tensor that can't be stored or restored.
    #[error("tensor `{name}`: {reason}")]
    #[diagnostic(help("checkpoints hold tensors of f32, bf16, f16, integers and bytes"))]
    Tensor {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },

    /// An operation on a tensor failed.
    #[error("tensor `{name}`: {error}")]
    #[diagnostic(help("see `nanochat doctor` for the device and its free memory"))]
    Operation {
        /// Its name.
        name: String,
        /// Why.
        error: TensorError,
    },

    /// Another process works on the same run.
    #[error("`{}` is in use by {holder}", folder.display())]
    #[diagnostic(help("wait for it, or stop it: a run belongs to one process at a time"))]
    Locked {
        /// The locked folder.
        folder: PathBuf,
        /// Who holds it.
        holder: String,
    },

    /// Another process has taken the run over.
    #[error("`{}` was taken over by another process, since this one stood still for too long", folder.display())]
    #[diagnostic(help("nothing more is written here: the other process goes on from the last checkpoint"))]
    Lost {
        /// The folder.
        folder: PathBuf,
    },

    /// The lease of a run can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lease(#[from] nanochat_artifacts::ArtifactError),

    /// A PyTorch file that can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Format(#[from] nanochat_formats::FormatError),

    /// A file of a baseline checkpoint is malformed.
    #[error("cannot read `{}` as the baseline's {kind}: {reason}", path.display())]
    #[diagnostic(help(
        "only files written by the baseline's own save routine can be read; no code in them is executed"
    ))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The kind of file.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl CheckpointError {
    /// Wraps a file-system error with the action and place.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Wraps a failed operation on one tensor.
    pub(super) fn operation(name: &str, error: candle_core::Error) -> Self {
        Self::Operation { name: name.to_string(), error: error.into() }
    }

    /// An error about one tensor.
    pub(super) fn tensor(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::Tensor { name: name.to_string(), reason: reason.to_string() }
    }
}

/// The reasons in one line.
fn reasons(skipped: &[(PathBuf, String)]) -> String {
    let lines: Vec<String> = skipped
        .iter()
        .map(|(path, reason)| format!("{}: {reason}", path.file_name().unwrap_or_default().to_string_lossy()))
        .collect();
    lines.join("; ")
}
