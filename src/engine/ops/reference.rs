//! The reference form of every operation: elementary candle operations only, so that gradients come from candle.
//!
//! Shapes are written as `(B, T, …)`: `B` rows of `T` tokens, `C` channels, `H` query heads and `G` key/value heads of
//! `D` channels each, `V` vocabulary entries. Functions are generic in the float type, which the tests use to hold them
//! against a scalar oracle in f64.

use candle_core::{D, DType, Device, Result, Tensor};

use super::product;
use nanochat_kernels::gemm::ComputeDtype;

pub use nanochat_kernels::constants::{LOGIT_CAP, NORM_EPSILON, QK_SCALE, ROTARY_BASE, VALUE_GATE_SCALE};

/// Divides each vector of the last dimension by its root mean square; there are no weights.
pub fn rms_norm(x: &Tensor) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&mean_square.affine(1.0, NORM_EPSILON)?.sqrt()?)
}

/// `x` (…, in) times the transpose of `weight` (out, in).
pub fn linear(x: &Tensor, weight: &Tensor, compute_dtype: ComputeDtype) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    let y = product(&x.reshape(((), inputs))?, &weight.t()?, compute_dtype)?;
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    y.reshape(dims)
}

/// Rows of `table` (V, C) picked by `ids` (B, T): (B, T, C).
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (batch, length) = ids.dims2()?;
    table.index_select(&ids.flatten_all()?, 0)?.reshape((batch, length, ()))
}

/// 1 / (1 + e^-x), through tanh, so that neither it nor its gradient overflows.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}

/// Radians a position by which a pair of channels of a head is turned.
pub fn rotary_frequency(pair: usize, head_dim: usize) -> f64 {
    ROTARY_BASE.powf(-(2.0 * pair as f64) / head_dim as f64)
}

/// Cosines and sines (T, D/2) of the rotary angles of positions `start .. start + length`.
///
/// In f32 and below the angle is the f32 product of position and inverse wavelength, as in the baseline; in f64 it is
/// exact, for the oracle.
pub fn rotary_table(
    start: usize,
    length: usize,
    head_dim: usize,
    dtype: DType,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let angles = |position: usize, pair: usize| {
        let inverse = rotary_frequency(pair, head_dim);
        match dtype {
            DType::F64 => position as f64 * inverse,
            _ => f64::from(position as f32 * inverse as f32),
        }
    };
    let table = |function: fn(f64) -> f64| -> Result<Tensor> {
        let pairs = head_dim / 2;
        let values: Vec<f64> = (start..start + length)
            .flat_map(|position| (0..pairs).map(move |pair| (position, pair)))
            .map(|(position, pair)| function(angles(position, pair)))
            .collect();
        Tensor::from_vec(values, (length, pairs), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

/// Turns the channel pairs (i, i + D/2) of `x` (B, T, H, D) by minus the angles of the tables (T, D/2).
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let first = x.narrow(D::Minus1, 0, half)?;
    let second = x.narrow(D::Minus1, half, half)?;
    let turned_first = (first.broadcast_mul(&cos)? + second.broadcast_mul(&sin)?)?;
    let turned_second = (second.broadcast_mul(&cos)? - first.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_first, turned_second], D::Minus1)
}

/// Rotary embedding, then the norm of each head, then [`QK_SCALE`]: what queries and keys go through.
pub fn rotary_norm_scale(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    rms_norm(&rotary(x, cos, sin)?)?.affine(QK_SCALE, 0.0)
}

/// Causal attention with grouped queries and a sliding window: (B, T, H, D).
///
/// `q` is (B, T, H, D); `k` and `v` are (B, S, G, D) with S ≥ T, the queries being the last T of the S positions. A query
/// sees itself and `window` positions to its left.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, window: usize, compute_dtype: ComputeDtype) -> Result<Tensor> {
    let (_, queries, heads, head_dim) = q.dims4()?;
    let (_, keys, groups, _) = k.dims4()?;
    let q = q.transpose(1, 2)?.contiguous()?;
    let k = repeat_heads(&k.transpose(1, 2)?, heads / groups)?;
    let v = repeat_heads(&v.transpose(1, 2)?, heads / groups)?;
    let scores = product(&q, &k.t()?, compute_dtype)?.affine((head_dim as f64).powf(-0.5), 0.0)?;
    let mask = causal_mask(queries, keys, window, q.dtype(), q.device())?;
    let weights = softmax(&scores.broadcast_add(&mask)?)?;
    product(&weights, &v, compute_dtype)?.transpose(1, 2)?.contiguous()
}

/// Repeats each of the G heads of `x` (B, G, S, D) `times` over: (B, G·times, S, D), contiguous.
fn repeat_heads(x: &Tensor, times: usize) -> Result<Tensor> {
    if times == 1 {
        return x.contiguous();
    }
    let (batch, groups, length, head_dim) = x.dims4()?;
    let x = x.unsqueeze(2)?.broadcast_as((batch, groups, times, length, head_dim))?;
    x.contiguous()?.reshape((batch, groups * times, length, head_dim))
}

/// 0 where the query (row) may see the key (column), minus infinity elsewhere: (T, S). Made on the device.
fn causal_mask(queries: usize, keys: usize, window: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    // Positions are whole elements far below 2^24, which f32 holds exactly.
    let positions = |from: usize| Tensor::arange(from as f32, keys as f32, device);
    let behind = positions(keys - queries)?.unsqueeze(1)?.broadcast_sub(&positions(0)?.unsqueeze(0)?)?;
    let visible = (behind.ge(0f32)? * behind.le(window.min(keys) as f32)?)?;
    let nothing = behind.zeros_like()?;
    visible.where_cond(&nothing, &nothing.affine(1.0, f64::NEG_INFINITY)?)?.to_dtype(dtype)
}

/// Softmax over the last dimension. The maximum is a constant to the gradient.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exponentials = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

/// Mixes each token's predecessor into it: `x + λ σ(gate · x[..c]) previous`, where c is the gate's width.
///
/// `x` is (B, T, C) normalised embeddings, `gate` (1, c), `lambda` (1). `before` (B, 1, C) is the predecessor of the first
/// token, if it has one.
pub fn smear(x: &Tensor, before: Option<&Tensor>, gate: &Tensor, lambda: &Tensor) -> Result<Tensor> {
    let length = x.dim(1)?;
    if let Some(before) = before {
        let previous = Tensor::cat(&[before, &x.narrow(1, 0, length - 1)?], 1)?;
        return add_gated(x, &previous, gate, lambda);
    }
    if length == 1 {
        return Ok(x.clone());
    }
    let rest = add_gated(&x.narrow(1, 1, length - 1)?, &x.narrow(1, 0, length - 1)?, gate, lambda)?;
    Tensor::cat(&[&x.narrow(1, 0, 1)?, &rest], 1)
}

/// `x + λ σ(gate · x[..c]) previous`, all of (B, T, C).
fn add_gated(x: &Tensor, previous: &Tensor, gate: &Tensor, lambda: &Tensor) -> Result<Tensor> {
    let channels = x.narrow(D::Minus1, 0, gate.dim(1)?)?.contiguous()?;
    let weight = sigmoid(&linear(&channels, gate, ComputeDtype::Full)?)?.broadcast_mul(lambda)?;
    x + previous.broadcast_mul(&weight)?
}

/// Adds the value embedding to the values: `v + 3 σ(gate · x[..c]) embedding`, one gate a key/value head.
///
/// `v` and `embedding` are (B, T, G, D), `x` is the layer's normalised input (B, T, C), `gate` is (G, c).
pub fn add_value_embedding(v: &Tensor, embedding: &Tensor, x: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let channels = x.narrow(D::Minus1, 0, gate.dim(1)?)?.contiguous()?;
    let weight = sigmoid(&linear(&channels, gate, ComputeDtype::Full)?)?.affine(VALUE_GATE_SCALE, 0.0)?;
    v + embedding.broadcast_mul(&weight.unsqueeze(D::Minus1)?)?
}

/// max(x, 0)².
pub fn squared_relu(x: &Tensor) -> Result<Tensor> {
    x.relu()?.sqr()
}

/// `λ x + λ₀ x₀`: the residual stream as a layer takes it in; both factors have one entry.
pub fn residual_mix(x: &Tensor, x0: &Tensor, lambda: &Tensor, lambda0: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(lambda)? + x0.broadcast_mul(lambda0)?
}

/// Squashes logits smoothly into ± [`LOGIT_CAP`].
pub fn soft_cap(logits: &Tensor) -> Result<Tensor> {
    logits.affine(1.0 / LOGIT_CAP, 0.0)?.tanh()?.affine(LOGIT_CAP, 0.0)
}

/// Cross-entropy of `logits` (N, V) against `targets` (N) with entries below V: (N), in nats.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let chosen = shifted.gather(&targets.unsqueeze(1)?, D::Minus1)?;
    (log_total - chosen)?.squeeze(1)
}
