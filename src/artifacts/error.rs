//! What can go wrong between documents and the disk, always with the path and a way out.

use std::io;
use std::path::{Path, PathBuf};

/// Longest file or folder name, in bytes; leaves room below the usual 255 for suffixes.
pub const MAX_NAME_BYTES: usize = 200;

/// An error while reading or writing artifacts.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The operating system refused.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// What to do about it.
        #[help]
        remedy: String,
    },
    /// The file is not JSON, or not of the document's form.
    #[error("`{}` line {line}, column {column}: {message}", path.display())]
    #[diagnostic(help(
        "{document} documents are written by `nanochat run`; restore the file from git, or run the experiment again"
    ))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
        /// The schema that was expected.
        document: &'static str,
    },
    /// The document says that it is of another kind.
    #[error("`{}` is {}, expected `{expected}`", path.display(), found.as_ref().map_or("without a `schema` entry".to_string(), |s| format!("a `{s}` document")))]
    #[diagnostic(help("give a file of that kind, or use the version of nanochat that wrote it"))]
    WrongSchema {
        /// The file.
        path: PathBuf,
        /// Expected schema string.
        expected: &'static str,
        /// The schema string in the file, if it has one.
        found: Option<String>,
    },
    /// A document in a form that an earlier version wrote.
    #[error("`{}` is a `{found}` document, which an earlier version of nanochat wrote and this one no longer reads", path.display())]
    #[diagnostic(help("measure again with `nanochat bench`, or use the version that wrote it"))]
    Retired {
        /// The file.
        path: PathBuf,
        /// The schema string in the file.
        found: String,
    },
    /// A file that is longer than what it should be.
    #[error("`{}` has {}, more than the {limit} that are read of such a file", path.display(), bytes.map_or("no end".to_string(), |bytes| format!("{bytes} bytes")))]
    #[diagnostic(help("no run writes files of that size: restore it from git, or give another file"))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length, if that is known.
        bytes: Option<u64>,
        /// The most that is read.
        limit: u64,
    },
    /// A number that JSON can't hold.
    #[error("`{}`: `{key}` is {value}, which JSON can't hold", path.display())]
    #[diagnostic(help(
        "a figure that doesn't exist is left out (null); one that is not finite means that the run diverged"
    ))]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
        /// Dotted key of the number.
        key: String,
        /// `NaN`, `inf` or `-inf`.
        value: f64,
    },
    /// A value that can't be turned into JSON, such as a map whose keys are no strings.
    #[error("`{}` can't be written as JSON: {message}", path.display())]
    Unwritable {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A parquet file that can't be read or written, or lacks what its kind needs.
    #[error("`{}`: {message}", path.display())]
    #[diagnostic(help("the file is damaged or of another kind; restore it from git, or run the experiment again"))]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Git couldn't give what was asked.
    #[error("{message}")]
    #[diagnostic(help(
        "revisions are read from the git repository of the current folder; `git log --oneline` shows what there is"
    ))]
    Git {
        /// What it says.
        message: String,
    },
    /// A folder that isn't where the layout has it.
    #[error("`{}` is not {expected}", path.display())]
    #[diagnostic(help("results lie in `results/<experiment>/` and reports in `reports/` beside it"))]
    Misplaced {
        /// The folder.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// A name that must not become a part of a path.
    #[error("{what} `{}` can't be a file name: {why}", name.escape_debug())]
    #[diagnostic(help(
        "use letters, digits, `-`, `_` and `.`, beginning with a letter or digit, at most {} bytes",
        MAX_NAME_BYTES
    ))]
    Name {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
}

impl ArtifactError {
    /// Wraps an operating-system error with the way out that fits its kind.
    pub fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "check the path; results are written by `nanochat run`",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "give this user write access to the folder, or use another one"
            }
            io::ErrorKind::InvalidInput => {
                "what lies there is not from this program: remove it, or put a regular file in its place"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free space on this disk; what was there before is untouched"
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                "a file stands where a folder belongs, or the reverse: move it"
            }
            _ => "nothing was changed; try again once the cause is gone",
        };
        Self::Io { operation, path: path.as_ref().to_path_buf(), source, remedy: remedy.to_string() }
    }

    /// Whether the file simply isn't there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
