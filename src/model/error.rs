//! Why the model can't do what it was asked.

use thiserror::Error;

use crate::plan::shape::ShapeError;

/// Errors of the model room.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The shape can't be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Given weights don't fit the shape; every problem is listed.
    #[error("the weights don't fit the model's shape:\n  {}", .problems.join("\n  "))]
    Weights {
        /// One line a missing, unknown, misshaped, wrongly typed or non-finite tensor.
        problems: Vec<String>,
    },
    /// Ids or targets have an unusable shape or type.
    #[error("{what} must be a tensor of shape (rows, tokens), at least one of each, of type {expected}; got {got}")]
    Batch {
        /// `ids` or `targets`.
        what: &'static str,
        /// Expected element type.
        expected: &'static str,
        /// Shape and type that came.
        got: String,
    },
    /// An id or target lies outside the vocabulary.
    #[error("{what} contain {value}, outside the vocabulary of {vocab_size} tokens")]
    OutsideVocabulary {
        /// `ids` or `targets`.
        what: &'static str,
        /// The offending value.
        value: i64,
        /// Entries of the vocabulary.
        vocab_size: usize,
    },
    /// All targets are ignored, so a mean doesn't exist.
    #[error("all targets are ignored (-1): there is no loss to take the mean of")]
    NothingToPredict,
    /// The batch differs from the cache's.
    #[error("the batch has {batch} rows, the key/value cache {cache}")]
    CacheRows {
        /// Rows of the batch.
        batch: usize,
        /// Rows of the cache.
        cache: usize,
    },
    /// The cache was made by a model whose passes take another way.
    #[error("the key/value cache was made for the kernels, which can't serve this model")]
    ForeignCache,
    /// Rows of different lengths, where the readable operations work.
    #[error("rows of different lengths can't be decoded together on this device")]
    Ragged,
    /// The cache can't be cut to more than it holds.
    #[error("a key/value cache of {length} tokens can't be cut to {wanted}")]
    CacheLength {
        /// Tokens held.
        length: usize,
        /// Tokens asked for.
        wanted: usize,
    },
    /// The cache can't be cut to what its windows don't reach back to.
    #[error("a key/value cache can't be cut to {wanted} tokens: its windows have moved past what these would see")]
    CacheWindow {
        /// Tokens asked for.
        wanted: usize,
    },
    /// Parameters or gradients belong to another shape.
    #[error("there is no tensor {name}, which a model of this shape has")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
