//! What a run is expected to cost on its profile.

use super::{Derived, Estimate, Precision};
use crate::experiment::Settings;

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// Memory of one device and time of all.
pub fn estimate(derived: &Derived, settings: &Settings) -> Estimate {
    let profile = &settings.profile;
    let rate = profile.peak_tflops.map(|tflops| tflops * 1e12 * profile.efficiency * profile.device_count as f64);
    Estimate {
        memory_gib: memory_bytes(derived, settings) / GIB,
        seconds: rate.map(|rate| derived.total_flops as f64 / rate),
    }
}

/// Weights, gradients and optimizer state in f32; activations kept for the backward pass; one chunk of logits.
fn memory_bytes(derived: &Derived, settings: &Settings) -> f64 {
    let profile = &settings.profile;
    let parameters = &derived.parameters;
    let matrices = parameters.transformer_matrices as f64;
    let others = parameters.total as f64 - matrices;
    let state = 4.0 * parameters.total as f64 * 2.0 + 4.0 * matrices + 8.0 * others;
    let model = &derived.model;
    let tokens = profile.device_batch_size as f64 * model.sequence_len as f64;
    let element = if profile.dtype == Precision::Bf16 { 2.0 } else { 4.0 };
    // Per layer: the residual stream, its norm, queries, keys, values, attention output, the second norm, and the four
    // times wider hidden layer before and after its activation.
    let per_token = model.n_layer as f64 * model.n_embd as f64 * 16.0 * element + model.n_embd as f64 * 8.0 * 4.0;
    state + tokens * per_token
}
