//! Forward pass over the kernels.

use super::Weights;
use super::buffers::{Buffers, Dims, LayerBuffers, carve};
use crate::model::ModelError;
use crate::model::parameters::{
    BACKOUT_SCALAR, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING, layer_name,
    value_embedding_name,
};
use crate::ops::Element;
use nanochat_kernels::gemm::{Matrix, Threads, WriteMode, multiply};
use nanochat_kernels::{Scratch, attention, embedding, norm, residual, rotary, smear, squared_relu, value};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{has_value_embedding, window_sizes};

/// Computes the head's normalised input, keeping in the buffers what the backward pass needs.
pub(super) fn stream<T: Element>(
    shape: &ModelShape,
    weights: &Weights<'_, T>,
    ids: &[u32],
    dims: &Dims,
    buffers: &mut Buffers<T>,
) -> Result<(), ModelError> {
    embed(weights, ids, dims, buffers)?;
    for (layer, window) in window_sizes(shape).into_iter().enumerate() {
        let lambdas = [weights.entry(RESIDUAL_SCALARS, layer)?, weights.entry(INPUT_SCALARS, layer)?];
        let Buffers { streams, layers, cos, sin, wide, attention, .. } = &mut *buffers;
        let kept = layers.len();
        let kept = &mut layers[layer % kept];
        let (before, after) = streams.split_at_mut(layer + 1);
        let (x, x0, out) = (&before[layer], &before[0], &mut after[0]);
        residual::mix(x, x0, lambdas, dims.width, out, &mut kept.normed, &mut kept.inverse);
        let angles = rotary::Angles { cos, sin };
        let at = Layer { shape, weights, ids, dims, layer };
        at.attention(window, angles, kept, wide, attention)?;
        at.project(layer_name(layer, "attn.c_proj"), &kept.attended, out, WriteMode::Accumulate)?;
        norm::forward(out, dims.width, &mut kept.normed2, &mut kept.inverse2);
        at.project(layer_name(layer, "mlp.c_fc"), &kept.normed2, &mut kept.hidden, WriteMode::Overwrite)?;
        squared_relu::forward(&mut kept.hidden, wide);
        at.project(layer_name(layer, "mlp.c_proj"), wide, out, WriteMode::Accumulate)?;
    }
    let Buffers { streams, normed, inverse_final, .. } = buffers;
    let (last, middle) = (&streams[shape.n_layer], &streams[shape.n_layer / 2 + 1]);
    residual::backout(last, middle, weights.entry(BACKOUT_SCALAR, 0)?, dims.width, normed, inverse_final);
    Ok(())
}

/// Normalised embeddings, and the first stream: the same smeared.
fn embed<T: Element>(
    weights: &Weights<'_, T>,
    ids: &[u32],
    dims: &Dims,
    buffers: &mut Buffers<T>,
) -> Result<(), ModelError> {
    let Buffers { streams, embedded, inverse, sigma, .. } = buffers;
    let first = &mut streams[0];
    embedding::gather(weights.get(TOKEN_EMBEDDING)?, ids, dims.width, first);
    norm::forward(first, dims.width, embedded, inverse);
    let smear = smear_of(weights, dims)?;
    smear::forward(embedded, smear, first, sigma);
    Ok(())
}

/// One layer of one pass.
struct Layer<'a, T> {
    shape: &'a ModelShape,
    weights: &'a Weights<'a, T>,
    ids: &'a [u32],
    dims: &'a Dims,
    layer: usize,
}

impl<T: Element> Layer<'_, T> {
    /// From the layer's normalised input to what its heads attend to.
    fn attention(
        &self,
        window: usize,
        angles: rotary::Angles<'_, T>,
        kept: &mut LayerBuffers<T>,
        wide: &mut [T],
        scratch: &Scratch<T>,
    ) -> Result<(), ModelError> {
        let (dims, name) = (self.dims, |matrix: &str| layer_name(self.layer, matrix));
        let [q, k, v, _] = carve(&mut wide[..], [dims.stream(), dims.keys(), dims.keys(), 0]);
        self.project(name("attn.c_q"), &kept.normed, q, WriteMode::Overwrite)?;
        self.project(name("attn.c_k"), &kept.normed, k, WriteMode::Overwrite)?;
        self.project(name("attn.c_v"), &kept.normed, v, WriteMode::Overwrite)?;
        rotary::forward(q, angles, dims.query_heads(), &mut kept.q, &mut kept.inverse_q);
        rotary::forward(k, angles, dims.key_heads(), &mut kept.k, &mut kept.inverse_k);
        if has_value_embedding(self.layer, self.shape.n_layer) {
            let mix = value_mix(self.weights, self.ids, self.layer, dims, &kept.normed)?;
            value::forward_mixed(v, mix, dims.key_heads(), &mut kept.v, &mut kept.sigma);
        } else {
            value::forward(v, dims.key_heads(), &mut kept.v);
        }
        let inputs = attention::Inputs { q: &kept.q, k: &kept.k, v: &kept.v };
        let shape = dims.attention(window);
        attention::forward(shape, inputs, q, &mut kept.lse, scratch);
        attention::to_tokens(q, shape, &mut kept.attended);
        Ok(())
    }

    /// `x` times the transposed weights of that name.
    fn project(&self, name: String, x: &[T], y: &mut [T], mode: WriteMode) -> Result<(), ModelError> {
        let tokens = self.dims.tokens();
        let (inputs, outputs) = (x.len() / tokens, y.len() / tokens);
        let weight = Matrix::new(self.weights.get(&name)?, outputs, inputs).transposed();
        multiply(y, Matrix::new(x, tokens, inputs), weight, mode, Threads::Pool, self.dims.compute_dtype);
        Ok(())
    }
}

/// The smear's parameters and sizes.
pub(super) fn smear_of<'a, T: Element>(
    weights: &Weights<'a, T>,
    dims: &Dims,
) -> Result<smear::Smear<'a, T>, ModelError> {
    let (gate, lambda) = (weights.get(SMEAR_GATE)?, weights.entry(SMEAR_SCALAR, 0)?);
    Ok(smear::Smear { length: dims.length, width: dims.width, gate, lambda })
}

/// What a layer with a value embedding mixes into its values.
pub(super) fn value_mix<'a, T: Element>(
    weights: &Weights<'a, T>,
    ids: &'a [u32],
    layer: usize,
    dims: &Dims,
    x: &'a [T],
) -> Result<value::Mix<'a, T>, ModelError> {
    Ok(value::Mix {
        ids,
        table: weights.get(&value_embedding_name(layer))?,
        gate: weights.get(&layer_name(layer, "attn.ve_gate"))?,
        x,
        width: dims.width,
    })
}
