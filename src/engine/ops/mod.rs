//! Differentiable functions of the model.
//!
//! [`reference`] holds each of them in its reference form, composed of candle's elementary operations: any device, any
//! float type, and a gradient by candle's own `backward`. Refused here, because they cut the graph without an error and
//! leave parameters untrained: `candle_nn::ops::{rms_norm, softmax_last_dim, layer_norm}` and `rotary_emb::rope`.

#[cfg(test)]
mod kernel_tests;
mod product;
pub mod reference;
pub mod tensors;

pub use product::product;
pub use tensors::Element;
