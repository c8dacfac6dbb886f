//! What a pass of the readable operations keeps in memory. They work on GPUs, where candle's own operations do the work, and
//! keep each result that the backward pass may need.
//!
//! The factors were fitted to ten shapes in f32 on a CPU, whose tensors are those of a GPU, within 12%;
//! `experiments/LOG.md` has the figures.

use super::ModelShape;
use super::shape::{has_value_embedding, kv_dim};

/// Numbers kept per layer, token and channel of the stream.
const STREAM: f64 = 37.5;
/// Numbers kept per token and channel of keys in each layer that has a value embedding.
const VALUE_EMBEDDING: f64 = 41.0;
/// Numbers kept per layer, head, query and key, whether the query sees it or not.
const SCORES: f64 = 9.75;
/// Numbers kept per token and channel of the stream outside of the layers.
const OUTSIDE: f64 = 6.0;
/// Numbers kept per token and entry of the vocabulary.
const LOGITS: f64 = 12.0;
/// Copies of all parameters during a pass: as variables, and their gradients.
pub(super) const COPIES: f64 = 2.0;
/// Numbers kept at most, unless one row keeps more: 16 GiB in f32. A fixed one, since where a batch is cut decides the last
/// bits of its gradient.
const MOST: f64 = (1u64 << 32) as f64;

/// Numbers that a pass with gradients keeps for one row of `length` tokens.
pub(super) fn numbers_per_row(shape: &ModelShape, length: usize) -> f64 {
    let (layers, tokens) = (shape.n_layer as f64, length as f64);
    let embedded = (0..shape.n_layer).filter(|layer| has_value_embedding(*layer, shape.n_layer)).count() as f64;
    let stream = (STREAM * layers + OUTSIDE) * shape.n_embd as f64;
    let values = VALUE_EMBEDDING * embedded * kv_dim(shape) as f64;
    let scores = SCORES * layers * shape.n_head as f64 * tokens;
    tokens * (stream + values + scores + LOGITS * shape.vocab_size as f64)
}

/// Rows of `length` tokens that go through a pass at a time, at least one.
pub fn rows_at_once(shape: &ModelShape, length: usize) -> usize {
    ((MOST / numbers_per_row(shape, length)) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(n_layer: usize, n_head: usize, width: usize, sequence_len: usize, vocab_size: usize) -> ModelShape {
        let window_pattern = "L".to_string();
        ModelShape { sequence_len, vocab_size, n_layer, n_head, n_kv_head: n_head, n_embd: width, window_pattern }
    }

    #[test]
    fn a_d12_of_2048_tokens_goes_row_by_row_and_a_small_model_in_whole_batches() {
        let d12 = shape(12, 6, 768, 2048, 32_768);
        // 12 layers of 37.5 numbers for each of 768 channels, and 6 outside; 41 in each of 6 layers with a value embedding;
        // 9.75 scores for each of 12 layers, 6 heads and 2,048 keys; 12 for each logit.
        let by_hand = 2048.0 * (456.0 * 768.0 + 246.0 * 768.0 + 702.0 * 2048.0 + 12.0 * 32_768.0);
        assert_eq!(numbers_per_row(&d12, 2048), by_hand);
        // 4.86e9 numbers are more than 2^32, and one row goes all the same.
        assert_eq!(rows_at_once(&d12, 2048), 1);
        assert!(rows_at_once(&shape(2, 2, 64, 64, 512), 64) > 512);
    }
}
