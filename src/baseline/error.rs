//! Why the baseline couldn't be driven or read.

use std::path::PathBuf;

use nanochat_artifacts::ArtifactError;
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_engine::data::DataError;
use nanochat_engine::tokenizer::TokenizerError;

/// Why the baseline couldn't be driven or read. What goes wrong inside a run that was started is no error of this kind: it
/// ends in a result whose status is `failed`.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The plan can't be expressed in the baseline's flags.
    #[error("the baseline has no flags for {what}; change the spec so that both arms can train it")]
    NoFlag {
        /// What it can't do.
        what: String,
    },
    /// A file can't be read.
    #[error("can't read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The folder isn't a checkout of the baseline.
    #[error("{}: {reason}; clone karpathy/nanochat there, and check out the spec's commit", path.display())]
    NoCheckout {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The checkout is at another commit.
    #[error("{}: it is at commit {found}, the spec pins {wanted}; run `git checkout {wanted}` there", path.display())]
    WrongCommit {
        /// The checkout.
        path: PathBuf,
        /// Its commit.
        found: String,
        /// The spec's commit.
        wanted: String,
    },
    /// The checkout was changed.
    #[error(
        "{}: the baseline is measured unmodified, but these were changed: {}; put them back, or take a fresh clone",
        path.display(),
        changes.join(", ")
    )]
    Changed {
        /// The checkout.
        path: PathBuf,
        /// Changed and untracked files, with git's two letters.
        changes: Vec<String>,
    },
    /// Python can't be run.
    #[error("{}: {reason}; --python must name the interpreter of an environment with the baseline's packages", path.display())]
    Python {
        /// The interpreter.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// Packages that the baseline imports are missing.
    #[error("{}: the baseline's packages can't all be imported: {}; install them into that environment", path.display(), missing.join("; "))]
    MissingPackages {
        /// The interpreter.
        path: PathBuf,
        /// Packages, each with what Python said.
        missing: Vec<String>,
    },
    /// PyTorch doesn't see the plan's device.
    #[error(
        "the plan asks for {wanted}, but PyTorch {version} in that environment sees {found}; choose another profile, or install the build for that device"
    )]
    NoDevice {
        /// The plan's device.
        wanted: &'static str,
        /// PyTorch's version.
        version: String,
        /// What it sees.
        found: String,
    },
    /// The base folder may not be written to.
    #[error("{}: it is not empty and was not made by this program; name a new folder with --base-dir, so that nothing of yours is overwritten", path.display())]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or file for the baseline can't be written.
    #[error("can't {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Documents written for the baseline don't read back as they were.
    #[error("{}: the data written for the baseline doesn't read back as it was; is the disk full or damaged?", path.display())]
    DataDiffer {
        /// The folder.
        path: PathBuf,
    },
    /// One of our own small scripts failed inside the baseline's environment.
    #[error("the baseline's own code failed while {task}: {reason}")]
    Script {
        /// What the script does.
        task: &'static str,
        /// What Python said.
        reason: String,
    },
    /// The files of a finished run don't fit together.
    #[error("{}: {reason}", path.display())]
    Import {
        /// The file to blame.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("stopped by a signal")]
    Stopped,
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The baseline's checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A result.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl BaselineError {
    /// Wraps what the system said about `path`.
    pub(super) fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }
}
