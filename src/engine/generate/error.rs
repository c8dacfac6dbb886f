//! Why nothing could be generated.

use crate::model::ModelError;

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum GenerateError {
    /// The model failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),

    /// The prompt is empty.
    #[error("there is no prompt to continue")]
    #[diagnostic(help("a prompt has at least one token; an empty text is the token <|bos|> alone"))]
    EmptyPrompt,

    /// Sampling settings out of range.
    #[error("{0}")]
    #[diagnostic(help("see `nanochat generate --help`"))]
    Sampling(String),

    /// The key/value cache is above the limit.
    #[error(
        "a key/value cache of {rows} rows of {tokens} tokens takes {} MiB, more than the {} MiB allowed",
        bytes >> 20,
        allowed >> 20
    )]
    #[diagnostic(help("ask for fewer samples or fewer tokens"))]
    CacheTooLarge {
        /// Number of rows.
        rows: usize,
        /// Tokens of a row.
        tokens: usize,
        /// Total bytes.
        bytes: u64,
        /// The limit.
        allowed: u64,
    },
}
