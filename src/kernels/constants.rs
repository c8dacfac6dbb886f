//! The architecture's constants (`nanochat/gpt.py`).

/// Added to the mean square under the root: PyTorch's default, the machine epsilon of f32, in every float type.
pub const NORM_EPSILON: f64 = f32::EPSILON as f64;
/// Base of the rotary wavelengths (`_precompute_rotary_embeddings`).
pub const ROTARY_BASE: f64 = 100_000.0;
/// Queries and keys are both multiplied by this after their norm, which sharpens attention.
pub const QK_SCALE: f64 = 1.2;
/// The value-embedding gate lies between 0 and this.
pub const VALUE_GATE_SCALE: f64 = 3.0;
/// Logits are squashed into ± this.
pub const LOGIT_CAP: f64 = 15.0;
