//! Why nothing could be generated.

use crate::model::ModelError;

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum GenerateError {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// Nothing to continue.
    #[error("there is no prompt to continue")]
    #[diagnostic(help("a prompt has at least one token; an empty text is the token <|bos|> alone"))]
    EmptyPrompt,

    /// Settings that make no sense.
    #[error("{0}")]
    Sampling(String),

    /// The key/value cache would not fit.
    #[error(
        "a key/value cache of {rows} rows of {tokens} tokens takes {} MiB, more than the {} MiB allowed",
        bytes >> 20,
        allowed >> 20
    )]
    #[diagnostic(help("ask for fewer samples or fewer tokens"))]
    CacheTooLarge {
        /// Rows.
        rows: usize,
        /// Tokens in each.
        tokens: usize,
        /// Bytes in all.
        bytes: u64,
        /// The limit.
        allowed: u64,
    },
}
