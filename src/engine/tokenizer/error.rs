//! Errors of tokenizers.

use std::path::{Path, PathBuf};

/// Why a tokenizer could not be trained, read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TokenizerError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("check that the path exists and its permissions"))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file can't be put in place.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] nanochat_artifacts::ArtifactError),
    /// A folder without a tokenizer, or a file of another kind.
    #[error("{}: no tokenizer here", path.display())]
    #[diagnostic(help(
        "a tokenizer is a folder with `tokenizer.json`, `tokenizer.pkl` or one `.tiktoken` file, or such a file itself"
    ))]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A folder with several rank files.
    #[error("{}: {count} `.tiktoken` files here", path.display())]
    #[diagnostic(help("name one of the files"))]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// Number of files.
        count: usize,
    },
    /// A file of a tokenizer is malformed.
    #[error("{}: {place}: {problem}", path.display())]
    #[diagnostic(help("train the tokenizer again, or restore the file from a copy"))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, byte offset or key within the file.
        place: String,
        /// What is wrong there, and what was expected.
        problem: String,
    },
    /// A pickle that can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Format(#[from] nanochat_formats::FormatError),
    /// The regular expression of a published vocabulary fails on a text.
    #[error("the text can't be split into pieces: {problem}")]
    #[diagnostic(help("use a shorter text"))]
    Split {
        /// Error of the regular expression's engine.
        problem: String,
    },
    /// Ranks that are not a byte-pair vocabulary.
    #[error("invalid ranks: {0}")]
    #[diagnostic(help("ranks are the 256 single bytes, then merges of earlier tokens"))]
    InvalidRanks(String),
    /// Fewer tokens than the bytes and the special tokens need.
    #[error("a vocabulary of {vocab_size} is too small: 256 bytes and 9 special tokens need at least {minimum}")]
    #[diagnostic(help("set the vocabulary's size to {minimum} or more"))]
    VocabularyTooSmall {
        /// The wanted size.
        vocab_size: usize,
        /// The smallest possible size.
        minimum: usize,
    },
    /// The texts have too few different pairs for the vocabulary.
    #[error("the training text supports a vocabulary of at most {possible} tokens, {vocab_size} were asked for")]
    #[diagnostic(help("give more text or a smaller vocabulary"))]
    TextTooSmall {
        /// The wanted size.
        vocab_size: usize,
        /// The largest size that the text supports.
        possible: usize,
    },
}

impl TokenizerError {
    /// Wraps a system error about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// A malformed `place` of `path`.
    pub(crate) fn malformed(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), place: place.into(), problem: problem.into() }
    }
}
