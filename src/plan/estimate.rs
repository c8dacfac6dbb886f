//! What a run is expected to cost on its profile.
//!
//! Weights, gradients and optimizer state follow from the parameter counts. What the backward pass keeps was fitted to
//! four CPU shapes in f32 and held against others, in f32 and bfloat16; `experiments/LOG.md` has the figures. On a CPU
//! bfloat16 rounds the operands of products, and activations stay in f32. On GPUs the readable operations work, whose
//! memory `readable.rs` counts; there nothing was measured.

use super::reference::{COPIES, numbers_per_row, rows_at_once};
use super::{Derived, DeviceKind, Estimate, Profile};

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes of the program itself, a small corpus and its tokenizer.
const PROCESS_BYTES: f64 = 64e6;
/// Bytes of CUDA's context, kernels and libraries on a GPU.
const DEVICE_BYTES: f64 = 600e6;
/// Numbers that each layer keeps per token and channel.
const LAYER_ACTIVATIONS: f64 = 13.5;
/// Bytes kept per token and channel outside of the layers: embeddings, the residual stream, the head.
const STREAM_BYTES: f64 = 110.0;

/// Memory of one device and time of all.
pub fn estimate(derived: &Derived, profile: &Profile) -> Estimate {
    let rate = profile.peak_tflops.map(|tflops| tflops * 1e12 * profile.efficiency * profile.device_count as f64);
    Estimate {
        memory_gib: memory_bytes(derived, profile) / GIB,
        seconds: rate.map(|rate| derived.total_flops as f64 / rate),
    }
}

/// Peak bytes of one device.
fn memory_bytes(derived: &Derived, profile: &Profile) -> f64 {
    let total = derived.parameters.total as f64;
    let matrices = derived.parameters.transformer_matrices as f64;
    // Weights and gradients; Muon's momentum of the matrices; Adam's two moments of the rest. All in f32.
    let state = 8.0 * total + 4.0 * matrices + 8.0 * (total - matrices);
    let model = &derived.model;
    let rows = profile.device_batch_size;
    if profile.device != DeviceKind::Cpu {
        let rows = rows.min(rows_at_once(model, model.sequence_len) as u64) as f64;
        let pass = COPIES * total + rows * numbers_per_row(model, model.sequence_len);
        return DEVICE_BYTES + state + 4.0 * pass;
    }
    let tokens = rows as f64 * model.sequence_len as f64;
    let per_channel = model.n_layer as f64 * LAYER_ACTIVATIONS * 4.0 + STREAM_BYTES;
    PROCESS_BYTES + state + tokens * model.n_embd as f64 * per_channel
}
