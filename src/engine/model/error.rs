//! Why the model can't do what it was asked.

use thiserror::Error;

use nanochat_plan::shape::ShapeError;

/// Problems that an error tells of at most.
const MOST_TOLD: usize = 12;
/// Characters of each at most: names of tensors come from files, which may hold anything.
const LONGEST_TOLD: usize = 240;

/// Problems as lines under an error's first: as many as help.
pub(crate) fn listed(problems: &[String]) -> String {
    let told = problems.iter().take(MOST_TOLD).map(|problem| match problem.char_indices().nth(LONGEST_TOLD) {
        Some((end, _)) => format!("{}…", &problem[..end]),
        None => problem.clone(),
    });
    let more = problems.len().saturating_sub(MOST_TOLD);
    let rest = (more > 0).then(|| format!("… and {more} more"));
    told.chain(rest).collect::<Vec<_>>().join("\n  ")
}

/// Errors of the model room.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The shape can't be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Given weights don't fit the shape; every problem is kept, and the first ones are told.
    #[error("the weights don't fit the model's shape:\n  {}", listed(.problems))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_of_as_many_problems_as_help() {
        let problems = |count: usize| (0..count).map(|number| format!("tensor {number}: missing")).collect::<Vec<_>>();
        assert_eq!(listed(&problems(2)), "tensor 0: missing\n  tensor 1: missing");
        assert!(listed(&problems(12)).ends_with("tensor 11: missing"));
        assert!(listed(&problems(5000)).ends_with("tensor 11: missing\n  … and 4988 more"));
        assert_eq!(listed(&["é".repeat(1000)]).chars().count(), LONGEST_TOLD + 1);
    }
}
