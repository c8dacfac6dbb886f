//! The reference forward pass, over any parameters: plain tensors for inference, variables when gradients are wanted.

use candle_core::{D, Result, Tensor};

use super::cache::Tensors;
use super::parameters::{
    BACKOUT_SCALAR, HEAD, INPUT_SCALARS, Parameters, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING,
    layer_name, value_embedding_name,
};
use crate::ops::reference::{
    add_value_embedding, attention, embedding, linear, residual_mix, rms_norm, rotary_norm_scale, rotary_table, smear,
    soft_cap, squared_relu,
};
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{has_value_embedding, head_dim, window_sizes};

/// A forward pass over given parameters.
pub(super) struct Forward<'a> {
    pub(super) shape: &'a ModelShape,
    pub(super) parameters: &'a Parameters,
    /// What products of weights, of attention and of the head round their operands to; gates never do.
    pub(super) compute_dtype: ComputeDtype,
}

/// What every layer of one pass shares.
struct Pass {
    /// Token ids (B, T).
    ids: Tensor,
    /// Rotary tables (T, D/2).
    cos: Tensor,
    sin: Tensor,
    /// Window of each layer.
    windows: Vec<usize>,
}

impl Forward<'_> {
    /// Capped logits (B, T, V) of `ids` (B, T), which follow the tokens of the cache, if one is given.
    pub(super) fn logits(&self, ids: &Tensor, cache: Option<&mut Tensors>) -> Result<Tensor> {
        let wte = self.parameter(TOKEN_EMBEDDING)?;
        let x = rms_norm(&embedding(wte, ids)?)?; // (B, T, C)
        let before = match cache.as_deref().and_then(Tensors::last_tokens) {
            Some(tokens) => {
                let last = Tensor::from_vec(tokens, (ids.dim(0)?, 1), ids.device())?;
                Some(rms_norm(&embedding(wte, &last)?)?)
            }
            None => None,
        };
        let x0 = smear(&x, before.as_ref(), self.parameter(SMEAR_GATE)?, self.parameter(SMEAR_SCALAR)?)?;
        let start = cache.as_deref().map_or(0, Tensors::length);
        let (cos, sin) = rotary_table(start, ids.dim(1)?, head_dim(self.shape), x0.dtype(), x0.device())?;
        let pass = Pass { ids: ids.clone(), cos, sin, windows: window_sizes(self.shape) };
        let x = self.trunk(&x0, &pass, cache)?;
        let logits = linear(&rms_norm(&x)?, self.parameter(HEAD)?, self.compute_dtype)?;
        soft_cap(&logits.narrow(D::Minus1, 0, self.shape.vocab_size)?.contiguous()?)
    }

    /// All layers, then the middle one's output subtracted.
    fn trunk(&self, x0: &Tensor, pass: &Pass, mut cache: Option<&mut Tensors>) -> Result<Tensor> {
        let middle = self.shape.n_layer / 2;
        let mut x = x0.clone();
        let mut backout = None;
        for layer in 0..self.shape.n_layer {
            let lambda = self.parameter(RESIDUAL_SCALARS)?.narrow(0, layer, 1)?;
            let lambda0 = self.parameter(INPUT_SCALARS)?.narrow(0, layer, 1)?;
            x = residual_mix(&x, x0, &lambda, &lambda0)?;
            x = (&x + self.attention(layer, &rms_norm(&x)?, pass, cache.as_deref_mut())?)?;
            x = (&x + self.feed_forward(layer, &rms_norm(&x)?)?)?;
            if layer == middle {
                backout = Some(x.clone());
            }
        }
        match backout {
            Some(backout) => &x - backout.broadcast_mul(self.parameter(BACKOUT_SCALAR)?)?,
            None => Ok(x),
        }
    }

    /// One layer's attention on its normalised input (B, T, C).
    fn attention(&self, layer: usize, x: &Tensor, pass: &Pass, cache: Option<&mut Tensors>) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let (groups, head_dim) = (self.shape.n_kv_head, head_dim(self.shape));
        let heads = |matrix: &str, heads: usize| -> Result<Tensor> {
            linear(x, self.matrix(layer, matrix)?, self.compute_dtype)?.reshape((batch, length, heads, head_dim))
        };
        let q = rotary_norm_scale(&heads("attn.c_q", self.shape.n_head)?, &pass.cos, &pass.sin)?;
        let mut k = rotary_norm_scale(&heads("attn.c_k", groups)?, &pass.cos, &pass.sin)?;
        let mut v = heads("attn.c_v", groups)?;
        if has_value_embedding(layer, self.shape.n_layer) {
            let table = self.parameter(&value_embedding_name(layer))?;
            let extra = embedding(table, &pass.ids)?.reshape((batch, length, groups, head_dim))?;
            v = add_value_embedding(&v, &extra, x, self.matrix(layer, "attn.ve_gate")?)?;
        }
        if let Some(cache) = cache {
            (k, v) = cache.store(layer, &k, &v)?;
        }
        let y = attention(&q, &k, &v, pass.windows[layer], self.compute_dtype)?.reshape((batch, length, width))?;
        linear(&y, self.matrix(layer, "attn.c_proj")?, self.compute_dtype)
    }

    /// One layer's feed-forward part on its normalised input (B, T, C).
    fn feed_forward(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let hidden = squared_relu(&linear(x, self.matrix(layer, "mlp.c_fc")?, self.compute_dtype)?)?;
        linear(&hidden, self.matrix(layer, "mlp.c_proj")?, self.compute_dtype)
    }

    fn matrix(&self, layer: usize, matrix: &str) -> Result<&Tensor> {
        self.parameter(&layer_name(layer, matrix))
    }

    fn parameter(&self, name: &str) -> Result<&Tensor> {
        self.parameters.get(name).ok_or_else(|| candle_core::Error::Msg(format!("the model has no parameter {name}")))
    }
}
