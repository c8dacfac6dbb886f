//! Arithmetic of a model's shape: windows, parameter and FLOP counts, key/value-cache traffic.
//!
//! Pure functions of [`ModelShape`], each equal to the baseline's own (`nanochat/gpt.py`), so that plan and model share
//! one copy. [`validate`] refuses what the architecture can't be; the other functions take a shape that passed it.

use thiserror::Error;

use super::{ModelShape, ParameterCounts};

/// The vocabulary is padded to a multiple of this many rows.
pub const VOCAB_MULTIPLE: usize = 64;
/// Channels of the normalised embedding that the smear gate reads.
pub const SMEAR_CHANNELS: usize = 24;
/// Channels of a layer's normalised input that the value-embedding gate reads.
pub const VALUE_GATE_CHANNELS: usize = 12;
/// Width of the feed-forward layer as a multiple of the residual stream's.
pub const MLP_EXPANSION: usize = 4;
/// Channels of the residual stream at most.
pub const MAX_WIDTH: usize = 131_072;
/// Layers at most.
const MAX_LAYERS: usize = 1000;
/// Tokens of the context and entries of the vocabulary at most.
const MAX_TOKENS: usize = 1 << 24;
/// Short windows are rounded up to a multiple of this many tokens.
const WINDOW_TILE: usize = 128;
/// A short window is this fraction of the context.
const SHORT_WINDOW_DIVISOR: usize = 4;

/// Why a shape can't be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// A dimension is zero.
    #[error("model.{name} is 0; it must be at least 1")]
    Zero {
        /// The dimension's name.
        name: &'static str,
    },
    /// A dimension is beyond all that is planned for: a damaged or hostile file may say anything.
    #[error("model.{name} is {size}; it must be at most {limit}")]
    TooLarge {
        /// The dimension's name.
        name: &'static str,
        /// What it is.
        size: usize,
        /// The most it may be.
        limit: usize,
    },
    /// Heads don't divide the width.
    #[error("model.n_embd ({n_embd}) must be a multiple of model.n_head ({n_head})")]
    HeadsDontDivide {
        /// Width in channels.
        n_embd: usize,
        /// Query heads.
        n_head: usize,
    },
    /// Rotary embeddings turn pairs of channels.
    #[error(
        "the head dimension ({head_dim} = n_embd / n_head) must be even, since rotary embeddings turn pairs of channels"
    )]
    OddHead {
        /// Channels per head.
        head_dim: usize,
    },
    /// Key/value heads don't divide the query heads.
    #[error("model.n_kv_head ({n_kv_head}) must divide model.n_head ({n_head})")]
    GroupsDontDivide {
        /// Query heads.
        n_head: usize,
        /// Key/value heads.
        n_kv_head: usize,
    },
    /// The smear gate reads a fixed number of channels.
    #[error("model.n_embd ({n_embd}) must be at least {SMEAR_CHANNELS}, the channels that the smear gate reads")]
    TooNarrow {
        /// Width in channels.
        n_embd: usize,
    },
    /// A window pattern is made of `S` and `L`.
    #[error("model.window_pattern {pattern:?} must be one or more of the letters S (short) and L (long)")]
    WindowPattern {
        /// The pattern as written.
        pattern: String,
    },
}

/// Refuses shapes that the architecture can't have; the first problem found.
pub fn validate(shape: &ModelShape) -> Result<(), ShapeError> {
    let dimensions = [
        ("sequence_len", shape.sequence_len, MAX_TOKENS),
        ("vocab_size", shape.vocab_size, MAX_TOKENS),
        ("n_layer", shape.n_layer, MAX_LAYERS),
        ("n_head", shape.n_head, MAX_WIDTH),
        ("n_kv_head", shape.n_kv_head, MAX_WIDTH),
        ("n_embd", shape.n_embd, MAX_WIDTH),
    ];
    for (name, size, limit) in dimensions {
        match size {
            0 => return Err(ShapeError::Zero { name }),
            _ if size > limit => return Err(ShapeError::TooLarge { name, size, limit }),
            _ => {}
        }
    }
    if !shape.n_embd.is_multiple_of(shape.n_head) {
        return Err(ShapeError::HeadsDontDivide { n_embd: shape.n_embd, n_head: shape.n_head });
    }
    if !head_dim(shape).is_multiple_of(2) {
        return Err(ShapeError::OddHead { head_dim: head_dim(shape) });
    }
    if !shape.n_head.is_multiple_of(shape.n_kv_head) {
        return Err(ShapeError::GroupsDontDivide { n_head: shape.n_head, n_kv_head: shape.n_kv_head });
    }
    if shape.n_embd < SMEAR_CHANNELS {
        return Err(ShapeError::TooNarrow { n_embd: shape.n_embd });
    }
    let pattern = &shape.window_pattern;
    if pattern.is_empty() || !pattern.chars().all(|letter| matches!(letter, 'S' | 'L' | 's' | 'l')) {
        return Err(ShapeError::WindowPattern { pattern: pattern.clone() });
    }
    Ok(())
}

/// Channels per attention head.
pub fn head_dim(shape: &ModelShape) -> usize {
    shape.n_embd / shape.n_head
}

/// Channels of all key (or value) heads together.
pub fn kv_dim(shape: &ModelShape) -> usize {
    shape.n_kv_head * head_dim(shape)
}

/// Rows of the embedding tables: the vocabulary rounded up to a multiple of [`VOCAB_MULTIPLE`].
pub fn padded_vocab_size(vocab_size: usize) -> usize {
    vocab_size.next_multiple_of(VOCAB_MULTIPLE)
}

/// Whether a layer mixes a value embedding in: every second one, the last included.
pub fn has_value_embedding(layer: usize, n_layer: usize) -> bool {
    layer % 2 == (n_layer + 1) % 2
}

/// Tokens to the left that a query of each layer sees besides itself; the context length means all of them.
pub fn window_sizes(shape: &ModelShape) -> Vec<usize> {
    let long = shape.sequence_len;
    let short = long.div_ceil(SHORT_WINDOW_DIVISOR).next_multiple_of(WINDOW_TILE);
    let is_short = |letter: char| letter.eq_ignore_ascii_case(&'S');
    let mut windows: Vec<usize> = (shape.window_pattern.chars().cycle().take(shape.n_layer))
        .map(|letter| if is_short(letter) { short } else { long })
        .collect();
    windows.resize(shape.n_layer, long);
    if let Some(last) = windows.last_mut() {
        *last = long;
    }
    windows
}

/// Parameter counts by group (`num_scaling_params`).
pub fn parameter_counts(shape: &ModelShape) -> ParameterCounts {
    let wte = count(&[padded_vocab_size(shape.vocab_size), shape.n_embd]);
    let value_embeds = count(&[value_embedding_layers(shape), padded_vocab_size(shape.vocab_size), kv_dim(shape)]);
    let lm_head = wte;
    let transformer_matrices = layer_matrices(shape);
    let scalars = count(&[2, shape.n_layer]) + SMEAR_CHANNELS as u64 + 2;
    let total = wte + value_embeds + lm_head + transformer_matrices + scalars;
    ParameterCounts { wte, value_embeds, lm_head, transformer_matrices, scalars, total }
}

/// Training FLOPs a token, forward and backward (`estimate_flops`): six a matrix parameter, and attention over the
/// whole window.
pub fn flops_per_token(shape: &ModelShape) -> u64 {
    let attention: u64 = (window_sizes(shape).into_iter())
        .map(|window| 12 * count(&[shape.n_embd, window.min(shape.sequence_len)]))
        .sum();
    6 * matrix_parameters(shape) + attention
}

/// Forward FLOPs to prefill a prompt of `tokens` (`estimate_prefill_flops`).
pub fn prefill_flops(shape: &ModelShape, tokens: u64) -> u64 {
    let attention: u64 = (window_sizes(shape).into_iter())
        .map(|window| {
            let window = tokens.min(window as u64);
            let attended = window * (window + 1) / 2 + (tokens - window) * window;
            4 * shape.n_embd as u64 * attended
        })
        .sum();
    2 * matrix_parameters(shape) * tokens + attention
}

/// Forward FLOPs to decode one token at a context of `context` tokens (`estimate_decode_flops`).
pub fn decode_flops(shape: &ModelShape, context: u64) -> u64 {
    let attention: u64 =
        (window_sizes(shape).into_iter()).map(|window| 4 * shape.n_embd as u64 * context.min(window as u64)).sum();
    2 * matrix_parameters(shape) + attention
}

/// Bytes of key/value cache that one token takes in all layers, a row, at `element_bytes` a number.
pub fn kv_bytes_per_token(shape: &ModelShape, element_bytes: u64) -> u64 {
    count(&[shape.n_layer, 2, kv_dim(shape)]) * element_bytes
}

/// Bytes of key/value cache that one decode step reads at a context of `context` tokens, a row (`kv_read_bytes`).
pub fn kv_read_bytes(shape: &ModelShape, context: u64, element_bytes: u64) -> u64 {
    let tokens: u64 = window_sizes(shape).into_iter().map(|window| context.min(window as u64)).sum();
    count(&[2, kv_dim(shape)]) * element_bytes * tokens
}

/// Parameters that multiply the token stream: layer matrices, output projection and smear gate (`num_matmul_params`).
fn matrix_parameters(shape: &ModelShape) -> u64 {
    layer_matrices(shape) + count(&[padded_vocab_size(shape.vocab_size), shape.n_embd]) + SMEAR_CHANNELS as u64
}

/// Parameters of all layers' matrices, value-embedding gates included.
fn layer_matrices(shape: &ModelShape) -> u64 {
    let attention = 2 * count(&[shape.n_embd, shape.n_embd]) + 2 * count(&[shape.n_embd, kv_dim(shape)]);
    let mlp = 2 * count(&[MLP_EXPANSION, shape.n_embd, shape.n_embd]);
    let gates = count(&[value_embedding_layers(shape), shape.n_kv_head, VALUE_GATE_CHANNELS]);
    shape.n_layer as u64 * (attention + mlp) + gates
}

/// Number of layers with a value embedding.
fn value_embedding_layers(shape: &ModelShape) -> usize {
    shape.n_layer.div_ceil(2)
}

/// Product of dimensions, in 64 bits.
fn count(dimensions: &[usize]) -> u64 {
    dimensions.iter().map(|dimension| *dimension as u64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(
        sequence_len: usize,
        vocab_size: usize,
        layers: usize,
        heads: (usize, usize),
        n_embd: usize,
        pattern: &str,
    ) -> ModelShape {
        ModelShape {
            sequence_len,
            vocab_size,
            n_layer: layers,
            n_head: heads.0,
            n_kv_head: heads.1,
            n_embd,
            window_pattern: pattern.to_string(),
        }
    }

    #[test]
    fn figures_equal_the_reference_models() {
        let full = shape(64, 500, 4, (4, 4), 64, "L");
        let grouped = shape(512, 300, 3, (4, 2), 64, "SSL");
        let counts = |wte, value_embeds, lm_head, transformer_matrices, scalars, total| ParameterCounts {
            wte,
            value_embeds,
            lm_head,
            transformer_matrices,
            scalars,
            total,
        };
        assert_eq!(parameter_counts(&full), counts(32768, 65536, 32768, 196704, 34, 327810));
        assert_eq!(parameter_counts(&grouped), counts(20480, 20480, 20480, 135216, 32, 196688));
        let figures = |shape: &ModelShape| {
            [
                flops_per_token(shape),
                prefill_flops(shape, 32),
                decode_flops(shape, 48),
                kv_bytes_per_token(shape, 4),
                kv_read_bytes(shape, 48, 4),
            ]
        };
        assert_eq!(figures(&full), [1573584, 15228416, 508144, 2048, 98304]);
        assert_eq!(figures(&grouped), [1524144, 10371584, 348304, 768, 36864]);
        assert_eq!(window_sizes(&full), [64; 4]);
        assert_eq!(window_sizes(&grouped), [128, 128, 512]);
    }

    #[test]
    fn counts_equal_the_reference_depths() {
        let cases = [
            (4, 256, 2, 36_700_242, 11_534_384, 80_216_496),
            (12, 768, 6, 286_261_730, 110_100_912, 759_696_048),
            (26, 1664, 13, 1_681_786_938, 918_423_532, 5_991_051_288),
        ];
        for (depth, width, heads, total, scaling, flops) in cases {
            let shape = shape(2048, 32768, depth, (heads, heads), width, "SSSL");
            assert_eq!(parameter_counts(&shape).total, total, "d{depth}");
            assert_eq!(parameter_counts(&shape).scaling(), scaling, "d{depth}");
            assert_eq!(flops_per_token(&shape), flops, "d{depth}");
        }
    }

    #[test]
    fn value_embeddings_alternate_and_include_the_last_layer() {
        for n_layer in 1..9 {
            let with: Vec<usize> = (0..n_layer).filter(|layer| has_value_embedding(*layer, n_layer)).collect();
            assert_eq!(with.last(), Some(&(n_layer - 1)));
            assert!(with.windows(2).all(|pair| pair[1] - pair[0] == 2));
            assert_eq!(with.len(), value_embedding_layers(&shape(64, 64, n_layer, (1, 1), 64, "L")));
        }
    }

    #[test]
    fn short_windows_are_rounded_up_to_a_tile_and_the_last_layer_is_long() {
        assert_eq!(window_sizes(&shape(2048, 64, 5, (1, 1), 64, "SSSL")), [512, 512, 512, 2048, 2048]);
        assert_eq!(window_sizes(&shape(2049, 64, 2, (1, 1), 64, "s")), [640, 2049]);
        assert_eq!(window_sizes(&shape(64, 64, 2, (1, 1), 64, "SL")), [128, 64]);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let cases = [
            (shape(0, 64, 1, (1, 1), 64, "L"), ShapeError::Zero { name: "sequence_len" }),
            (
                shape(8, 64, 1001, (1, 1), 64, "L"),
                ShapeError::TooLarge { name: "n_layer", size: 1001, limit: MAX_LAYERS },
            ),
            (
                shape(8, usize::MAX, 1, (1, 1), 64, "L"),
                ShapeError::TooLarge { name: "vocab_size", size: usize::MAX, limit: MAX_TOKENS },
            ),
            (shape(8, 64, 1, (3, 3), 64, "L"), ShapeError::HeadsDontDivide { n_embd: 64, n_head: 3 }),
            (shape(8, 64, 1, (9, 9), 27, "L"), ShapeError::OddHead { head_dim: 3 }),
            (shape(8, 64, 1, (4, 3), 64, "L"), ShapeError::GroupsDontDivide { n_head: 4, n_kv_head: 3 }),
            (shape(8, 64, 1, (1, 1), 16, "L"), ShapeError::TooNarrow { n_embd: 16 }),
            (shape(8, 64, 1, (1, 1), 64, "SXL"), ShapeError::WindowPattern { pattern: "SXL".to_string() }),
        ];
        for (shape, error) in cases {
            assert_eq!(validate(&shape), Err(error));
        }
        assert_eq!(validate(&shape(8, 1, 1, (2, 1), 64, "L")), Ok(()));
    }
}
