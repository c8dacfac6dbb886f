//! Errors of the model room.

use nanochat_plan::shape::ShapeError;

use crate::device::TensorError;

/// Most problems that a message lists.
const MOST_LISTED: usize = 12;
/// Most characters of each: names of tensors come from files, which may hold anything.
const LONGEST_LISTED: usize = 240;

/// Problems as the lines of a message, up to a limit.
pub(crate) fn listed(problems: &[String]) -> String {
    let shown = problems.iter().take(MOST_LISTED).map(|problem| match problem.char_indices().nth(LONGEST_LISTED) {
        Some((end, _)) => format!("{}…", &problem[..end]),
        None => problem.clone(),
    });
    let more = problems.len().saturating_sub(MOST_LISTED);
    let rest = (more > 0).then(|| format!("… and {more} more"));
    shown.chain(rest).collect::<Vec<_>>().join("\n  ")
}

/// Errors of the model room.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ModelError {
    /// The shape can't be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Given weights don't fit the shape; every problem is kept, and the message lists the first ones.
    #[error("the weights don't fit the model's shape:\n  {}", listed(.problems))]
    #[diagnostic(help("use weights of a model with the same `model` settings"))]
    Weights {
        /// One line for each missing, unknown, misshaped, wrongly typed or non-finite tensor.
        problems: Vec<String>,
    },
    /// Ids or targets have an unusable shape or type.
    #[error("{what} must be a tensor of shape (rows, tokens), at least one of each, of type {expected}; got {got}")]
    #[diagnostic(help("pass whole rows of token ids"))]
    Batch {
        /// `ids` or `targets`.
        what: &'static str,
        /// Expected element type.
        expected: &'static str,
        /// Shape and type of the tensor.
        got: String,
    },
    /// An id or target lies outside the vocabulary.
    #[error("{what} contain {value}, outside the vocabulary of {vocab_size} tokens")]
    #[diagnostic(help("use the tokenizer that the model was trained with"))]
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
    #[diagnostic(help("give at least one target of 0 or more"))]
    NothingToPredict,
    /// The batch differs from the cache's.
    #[error("the batch has {batch} rows, the key/value cache {cache}")]
    #[diagnostic(help("make the cache for the rows of the batch"))]
    CacheRows {
        /// Rows of the batch.
        batch: usize,
        /// Rows of the cache.
        cache: usize,
    },
    /// The cache was made by a model with another implementation of the forward pass.
    #[error("the key/value cache was made for the kernels, which this model doesn't use")]
    #[diagnostic(help("make the cache with the model that uses it"))]
    ForeignCache,
    /// Rows of different lengths, where the reference implementation computes.
    #[error("rows of different lengths can't be decoded together on this device")]
    #[diagnostic(help("decode rows of equal lengths together"))]
    Ragged,
    /// The cache can't be cut to more than it holds.
    #[error("a key/value cache of {length} tokens can't be cut to {wanted}")]
    #[diagnostic(help("cut it to at most its length"))]
    CacheLength {
        /// Tokens in the cache.
        length: usize,
        /// Wanted tokens.
        wanted: usize,
    },
    /// The cache can't be cut to a length whose window it no longer holds.
    #[error(
        "a key/value cache can't be cut to {wanted} tokens: their attention windows reach back to tokens that it no longer holds"
    )]
    #[diagnostic(help("compute the shorter prompt again"))]
    CacheWindow {
        /// Wanted tokens.
        wanted: usize,
    },
    /// Parameters or gradients belong to another shape.
    #[error("there is no tensor {name}, which a model of this shape has")]
    #[diagnostic(help("use parameters of a model with the same `model` settings"))]
    Missing {
        /// The parameter.
        name: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tensor(#[from] TensorError),
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lists_a_limited_number_of_problems() {
        let problems = |count: usize| (0..count).map(|number| format!("tensor {number}: missing")).collect::<Vec<_>>();
        assert_eq!(listed(&problems(2)), "tensor 0: missing\n  tensor 1: missing");
        assert!(listed(&problems(12)).ends_with("tensor 11: missing"));
        assert!(listed(&problems(5000)).ends_with("tensor 11: missing\n  … and 4988 more"));
        assert_eq!(listed(&["é".repeat(1000)]).chars().count(), LONGEST_LISTED + 1);
    }
}
