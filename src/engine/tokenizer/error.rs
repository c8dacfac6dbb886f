//! What can go wrong with a tokenizer, each with the place and the way out.

use std::path::{Path, PathBuf};

/// Why a tokenizer could not be trained, read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TokenizerError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without a tokenizer, or a file of no known kind.
    #[error(
        "{}: no tokenizer here; a tokenizer is a folder with `tokenizer.json`, `tokenizer.pkl` or one `.tiktoken` file, or such a file itself",
        path.display()
    )]
    NotFound {
        /// Where it was sought.
        path: PathBuf,
    },
    /// A folder with several rank files, of which none is the obvious one.
    #[error("{}: {count} `.tiktoken` files here; name the one that is meant", path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A file that claims to be a tokenizer and is not.
    #[error("{}: {place}: {problem}", path.display())]
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
    /// A text on which a published vocabulary's expression gives up.
    #[error("the text can't be cut into pieces: {problem}")]
    Split {
        /// What the expression's engine said.
        problem: String,
    },
    /// Ranks that are no byte-pair vocabulary.
    #[error("invalid ranks: {0}")]
    InvalidRanks(String),
    /// Fewer tokens than the bytes and the special tokens need.
    #[error("a vocabulary of {vocab_size} is too small: 256 bytes and 9 special tokens need at least {minimum}")]
    VocabularyTooSmall {
        /// What was asked for.
        vocab_size: usize,
        /// What is needed.
        minimum: usize,
    },
    /// The texts have too few different pairs for the vocabulary.
    #[error(
        "the training text supports a vocabulary of at most {possible} tokens, {vocab_size} were asked for; give more text or a smaller vocabulary"
    )]
    TextTooSmall {
        /// What was asked for.
        vocab_size: usize,
        /// What the text yields.
        possible: usize,
    },
}

impl TokenizerError {
    /// Wraps what the system said about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// A fault at `place` of `path`.
    pub(crate) fn malformed(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), place: place.into(), problem: problem.into() }
    }
}
