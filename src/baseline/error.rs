//! Why the baseline couldn't be driven or read.

use std::path::PathBuf;

/// Why the baseline couldn't be driven or read.
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
}
