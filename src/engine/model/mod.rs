//! The transformer: parameters, forward pass, loss, gradients, key/value cache.
//!
//! The architecture is the baseline's (`nanochat/gpt.py`): RMS norms without weights, rotary positions, norm on queries
//! and keys, grouped queries, sliding windows, value embeddings on every second layer, smear of the previous token,
//! residual and input scalars a layer, backout of the middle layer, squared ReLU, capped logits, untied head.
//!
//! Parameters carry the baseline's names and live in name order. This room opens no file and reads no clock; randomness
//! comes from a given seed; it refuses weights that don't fit the shape, and ids or targets outside the vocabulary.

mod cache;
mod decoder;
mod decoding;
mod error;
mod forward;
mod gpt;
mod gradients;
mod inference;
mod initialize;
mod parameters;
mod passes;
mod scores;
mod weights;

#[cfg(test)]
mod gpu_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use cache::KvCache;
pub use decoder::Decoder;
pub use decoder::cache_bytes;
pub(crate) use decoding::score_row;
pub use error::ModelError;
pub(crate) use error::listed;
pub use gpt::compute_dtype;
pub use gpt::{Backend, Gpt, Part};
pub use gradients::Gradients;
pub use parameters::{
    BACKOUT_SCALAR, HEAD, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING, layer_name,
    value_embedding_name,
};
pub use parameters::{Parameters, parameter_shapes};
pub use passes::Evaluation;
pub(crate) use passes::{load_angles, load_weights, on_device};
pub use scores::{Continuation, TokenScore};
