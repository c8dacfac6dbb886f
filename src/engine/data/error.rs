//! Errors of training data.

use std::path::{Path, PathBuf};

/// Why documents could not be read or packed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DataError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("check that the path exists and its permissions"))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// No such folder or file.
    #[error("{}: no such folder or file", path.display())]
    #[diagnostic(help("`data.path` must name the folder or file that holds the {kind}"))]
    Missing {
        /// The path.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
    },
    /// A folder without shards.
    #[error("{}: no `*.{extension}` files here", path.display())]
    #[diagnostic(help("`data.path` must name the folder that holds the shards"))]
    NoShards {
        /// The folder.
        path: PathBuf,
        /// Extension of the shards.
        extension: &'static str,
    },
    /// Shards of the baseline's corpus that aren't there.
    #[error("{}: {missing} of {of} shards are missing", path.display())]
    #[diagnostic(help("`{command}` downloads them"))]
    MissingShards {
        /// The folder.
        path: PathBuf,
        /// How many.
        missing: usize,
        /// Of how many.
        of: usize,
        /// The command that downloads them.
        command: String,
    },
    /// A shard that is a link to nothing.
    #[error("{}: a link to a file that isn't there", path.display())]
    #[diagnostic(help(
        "bring the file back, or remove the link: without it another shard would become the validation split"
    ))]
    BrokenLink {
        /// The link.
        path: PathBuf,
    },
    /// A compressed shard that can't be decompressed.
    #[error("{}: can't be decompressed: {reason}", path.display())]
    #[diagnostic(help("is it cut off, or compressed by another program than its name says? Bring the file again"))]
    Packed {
        /// The shard.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file that isn't what its name says.
    #[error("{}: {told}", path.display())]
    #[diagnostic(help("`data.path` must name shards of text or parquet"))]
    Disguised {
        /// The file.
        path: PathBuf,
        /// What it is.
        told: &'static str,
    },
    /// A path whose kind of data can't be told from its files.
    #[error("{}: can't tell the kind of data{found}", path.display())]
    #[diagnostic(help(
        "name a folder with shards of one kind, `.parquet`, `.jsonl` (also `.jsonl.gz`, `.jsonl.zst`) or `.txt`, or a file of the latter two"
    ))]
    UnknownKind {
        /// The folder or file.
        path: PathBuf,
        /// Which files are there, in words.
        found: String,
    },
    /// The output folder holds shards already.
    #[error("{}: there are shards here already", path.display())]
    #[diagnostic(help("name an empty or a new folder"))]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// One shard, which leaves no training split.
    #[error("{}: only one parquet shard", path.display())]
    #[diagnostic(help(
        "the last shard is the validation split, so at least two are needed: add a shard, or split this one in two"
    ))]
    OneShard {
        /// The shard.
        path: PathBuf,
    },
    /// A split without documents.
    #[error("{description}: the {split} split has no documents")]
    #[diagnostic(help("{remedy}"))]
    EmptySplit {
        /// Where the documents come from.
        description: String,
        /// The split.
        split: super::Split,
        /// What to do.
        remedy: &'static str,
    },
    /// A parquet file is damaged, or not in the baseline's layout.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help(
        "a shard is a parquet file with the documents as strings in the column that `data.field` names, `text` by default"
    ))]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A line of a text shard holds no document.
    #[error("{}, line {line}: {problem}", path.display())]
    #[diagnostic(help("each line is a JSON object with the document in the field that `data.field` names"))]
    Line {
        /// The shard.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The text is not UTF-8.
    #[error("{}: not UTF-8 at byte {offset}", path.display())]
    #[diagnostic(help("convert the file to UTF-8, or remove the damaged part"))]
    NotUtf8 {
        /// The shard.
        path: PathBuf,
        /// Offset in the file of the first byte that is not UTF-8, counted from 0.
        offset: u64,
    },
    /// A shard changed while the program ran.
    #[error("{}: changed since it was opened", path.display())]
    #[diagnostic(help("start again, and don't change the data during a run"))]
    Changed {
        /// The shard.
        path: PathBuf,
    },
    /// A batch without tokens.
    #[error("a batch of {batch_size} rows of {sequence_len} tokens can't be built")]
    #[diagnostic(help("both must be at least 1"))]
    EmptyBatch {
        /// Rows.
        batch_size: usize,
        /// Tokens a row.
        sequence_len: usize,
    },
    /// The thread that reads ahead can't be started.
    #[error("can't start a thread to read data: {0}")]
    #[diagnostic(help("check the limits on threads and memory (`ulimit -a`)"))]
    Thread(std::io::Error),
    /// The thread that reads ahead panicked.
    #[error("the thread that reads data stopped; its message is printed above")]
    #[diagnostic(help("this is a bug: please report it with the message"))]
    ThreadStopped,
    /// A stop was requested while data was prepared.
    #[error("stopped by a signal")]
    Stopped,
    /// A stored position belongs to other data.
    #[error("the stored loader state doesn't belong to this data: {0}")]
    #[diagnostic(help("start the run over, or use the data that it began with"))]
    State(String),
    /// Training a tokenizer on the documents failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
}

impl DataError {
    /// Wraps a system error about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// A malformed parquet file.
    pub(crate) fn parquet(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Parquet { path: path.to_path_buf(), problem: problem.to_string() }
    }
}
