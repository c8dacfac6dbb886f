//! What can go wrong with checkpoints, with the place and the way out.

use std::io;
use std::path::PathBuf;

/// An error of the checkpoint room.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    #[diagnostic(help(
        "free space or permissions may be lacking; checkpoints written before are untouched, and the run continues from the newest of them"
    ))]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On which file or folder.
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

    /// A stored checkpoint is not what was written.
    #[error("the checkpoint `{}` is damaged: {reason}", path.display())]
    #[diagnostic(help("delete the folder, or restore it from a copy"))]
    Damaged {
        /// The step's folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Checkpoints exist, and none of them is whole.
    #[error("none of the {} checkpoints in `{}` is whole: {}", skipped.len(), folder.display(), reasons(skipped))]
    #[diagnostic(help("restore one from a copy, or start over with `--force`"))]
    NoneWhole {
        /// The folder of all checkpoints.
        folder: PathBuf,
        /// Each with its reason.
        skipped: Vec<(PathBuf, String)>,
    },

    /// The wanted step isn't there.
    #[error("`{}` holds no checkpoint of step {step}; it has {available:?}", folder.display())]
    NoSuchStep {
        /// The folder of all checkpoints.
        folder: PathBuf,
        /// The wanted step.
        step: u64,
        /// The steps that are there.
        available: Vec<u64>,
    },

    /// A name that can't be a file or tensor name.
    #[error("`{name}` cannot name a part of a checkpoint: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },

    /// A tensor that can't be stored or restored.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What went wrong.
        reason: String,
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

    /// A PyTorch file that can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Format(#[from] nanochat_formats::FormatError),

    /// A file of the baseline's that isn't what it should be.
    #[error("cannot read `{}` as the baseline's {kind}: {reason}", path.display())]
    #[diagnostic(help("only what the baseline's own save routine writes is read, and no code in it is run"))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it was taken for.
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

    /// Wraps an error about one tensor.
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
