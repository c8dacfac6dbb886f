//! What can go wrong with data, each with the place and the way out.

use std::path::{Path, PathBuf};

/// Why documents could not be read or packed.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No such folder or file.
    #[error("{}: no such folder or file; `data.path` must name what holds the {kind}", path.display())]
    Missing {
        /// Where it was sought.
        path: PathBuf,
        /// What was sought there.
        kind: &'static str,
    },
    /// A folder without shards.
    #[error("{}: no `*.{extension}` files here; `data.path` must name the folder that holds the shards", path.display())]
    NoShards {
        /// The folder.
        path: PathBuf,
        /// How the files' names end.
        extension: &'static str,
    },
    /// A path that doesn't say by itself what it holds.
    #[error("{}: can't tell the kind of data; expected a folder with shards of one kind, `.parquet`, `.jsonl` or `.txt`, or a `.jsonl` or `.txt` file", path.display())]
    UnknownKind {
        /// The folder or file.
        path: PathBuf,
    },
    /// A folder that would mix two corpora.
    #[error("{}: there are shards here already; give an empty or a new folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing would be left to train on.
    #[error(
        "{}: only one parquet shard; the last shard is the validation split, so at least two are needed: add a shard, or part this one in two",
        path.display()
    )]
    OneShard {
        /// The shard.
        path: PathBuf,
    },
    /// A split without documents.
    #[error("{description}: the {split} split has no documents; {remedy}")]
    EmptySplit {
        /// Where the documents come from.
        description: String,
        /// Which split.
        split: super::Split,
        /// What to do.
        remedy: &'static str,
    },
    /// A parquet file that is damaged, or not what the baseline's layout says.
    #[error("{}: {problem}", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A line of a text shard that holds no document.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The shard.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// Bytes that are no text.
    #[error("{}: not UTF-8 at byte {offset}; convert the file, or take the damaged part out", path.display())]
    NotUtf8 {
        /// The shard.
        path: PathBuf,
        /// Offset in the file of the first byte that is not UTF-8, counted from 0.
        offset: u64,
    },
    /// A shard changed under a running program.
    #[error("{}: changed since it was opened; a run needs its data to stay as it is", path.display())]
    Changed {
        /// The shard.
        path: PathBuf,
    },
    /// Sizes that make no batch.
    #[error("a batch of {batch_size} rows of {sequence_len} tokens can't be built; both must be at least 1")]
    EmptyBatch {
        /// Rows.
        batch_size: usize,
        /// Tokens a row.
        sequence_len: usize,
    },
    /// No thread for reading ahead.
    #[error("can't start a thread to read data: {0}")]
    Thread(std::io::Error),
    /// The thread that reads ahead ended by a fault of this program.
    #[error("the thread that reads data stopped; its message stands above")]
    ThreadStopped,
    /// A stored position that doesn't belong to this data.
    #[error(
        "the stored loader state doesn't belong to this data: {0}; start the run over, or give it the data it began with"
    )]
    State(String),
    /// Training a tokenizer on the documents failed.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
}

impl DataError {
    /// Wraps what the system said about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// A fault of a parquet file.
    pub(crate) fn parquet(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Parquet { path: path.to_path_buf(), problem: problem.to_string() }
    }
}
