//! Backward pass over the kernels, from the gradient of the head's input to those of all parameters but the head's.

use super::Weights;
use super::buffers::{Buffers, Dims, LayerBuffers, carve};
use super::forward::{smear_of, value_mix};
use crate::model::parameters::{
    BACKOUT_SCALAR, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING, layer_name,
    value_embedding_name,
};
use crate::model::{Gradients, ModelError};
use crate::ops::Element;
use crate::ops::tensors::update;
use nanochat_kernels::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use nanochat_kernels::{attention, embedding, norm, residual, rotary, smear, squared_relu, value};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{VALUE_GATE_CHANNELS, has_value_embedding, window_sizes};

/// Adds the gradients to `into`; the buffers hold what the forward pass kept, and the gradient of the head's input.
pub(super) fn gradients<T: Element>(
    shape: &ModelShape,
    weights: &Weights<'_, T>,
    ids: &[u32],
    dims: &Dims,
    buffers: &mut Buffers<T>,
    into: &Gradients,
) -> Result<(), ModelError> {
    let middle = shape.n_layer / 2;
    backout(weights, dims, middle, buffers, into)?;
    buffers.dx0.fill(T::ZERO);
    for (layer, window) in window_sizes(shape).into_iter().enumerate().rev() {
        if layer == middle {
            residual::add(&mut buffers.dstream, &buffers.dmiddle);
        }
        let at = Layer { shape, weights, ids, dims, layer, into };
        at.feed_forward(buffers)?;
        at.attention(window, buffers)?;
        at.mix(buffers)?;
    }
    residual::add(&mut buffers.dx0, &buffers.dstream);
    embed(weights, ids, dims, buffers, into)
}

/// Through the head's norm and the backout.
fn backout<T: Element>(
    weights: &Weights<'_, T>,
    dims: &Dims,
    middle: usize,
    buffers: &mut Buffers<T>,
    into: &Gradients,
) -> Result<(), ModelError> {
    let Buffers { dnormed, normed, inverse_final, streams, dstream, dmiddle, .. } = buffers;
    let lambda = weights.entry(BACKOUT_SCALAR, 0)?;
    let middle = &streams[middle + 1];
    let backout = residual::Backout { dnormed, normed, inverse: inverse_final, middle, lambda };
    let slope = residual::backout_backward(backout, dims.width, dstream, dmiddle);
    add_entry::<T>(into, BACKOUT_SCALAR, 0, slope)
}

/// Through the smear and the embedding's norm into the token embedding.
fn embed<T: Element>(
    weights: &Weights<'_, T>,
    ids: &[u32],
    dims: &Dims,
    buffers: &mut Buffers<T>,
    into: &Gradients,
) -> Result<(), ModelError> {
    let Buffers { dx0, embedded, inverse, sigma, dstream, dnormed, inverse_final, .. } = buffers;
    let smear = smear_of(weights, dims)?;
    let mut slope = 0.0;
    update(into.get(SMEAR_GATE)?, |dgate| {
        slope = smear::backward(dx0, embedded, smear, sigma, dstream, dgate, inverse_final);
    })?;
    add_entry::<T>(into, SMEAR_SCALAR, 0, slope)?;
    dnormed.fill(T::ZERO);
    norm::backward_add(dstream, embedded, inverse, dims.width, dnormed);
    update(into.get(TOKEN_EMBEDDING)?, |table| embedding::scatter_add(dnormed, ids, dims.width, table))?;
    Ok(())
}

/// Adds to one entry of a gradient.
fn add_entry<T: Element>(into: &Gradients, name: &str, index: usize, value: f64) -> Result<(), ModelError> {
    update(into.get(name)?, |entries: &mut [T]| {
        if let Some(entry) = entries.get_mut(index) {
            *entry += T::of(value);
        }
    })?;
    Ok(())
}

/// One layer of one pass. Between its parts `dstream` holds the gradient of the stream.
struct Layer<'a, T> {
    shape: &'a ModelShape,
    weights: &'a Weights<'a, T>,
    ids: &'a [u32],
    dims: &'a Dims,
    layer: usize,
    into: &'a Gradients,
}

impl<T: Element> Layer<'_, T> {
    /// Through the feed-forward part.
    fn feed_forward(&self, buffers: &mut Buffers<T>) -> Result<(), ModelError> {
        let Buffers { layers, wide, wide2, dstream, dnormed, .. } = buffers;
        let LayerBuffers { hidden, normed2, inverse2, .. } = &layers[self.layer];
        self.input_gradient("mlp.c_proj", dstream, wide2, WriteMode::Overwrite)?;
        squared_relu::backward(hidden, wide2, wide);
        self.weight_gradient("mlp.c_proj", dstream, wide)?;
        self.weight_gradient("mlp.c_fc", wide2, normed2)?;
        self.input_gradient("mlp.c_fc", wide2, dnormed, WriteMode::Overwrite)?;
        norm::backward_add(dnormed, normed2, inverse2, self.dims.width, dstream);
        Ok(())
    }

    /// Through attention: leaves the gradient of its normalised input in `dnormed`.
    fn attention(&self, window: usize, buffers: &mut Buffers<T>) -> Result<(), ModelError> {
        let dims = self.dims;
        let Buffers { layers, wide, wide2, dstream, dnormed, delta, gates, attention, cos, sin, .. } = buffers;
        let kept = &layers[self.layer];
        let (stream, keys) = (dims.stream(), dims.keys());
        let [dout, dq, dk, dv] = carve(&mut wide[..], [stream, stream, keys, keys]);
        self.input_gradient("attn.c_proj", dstream, dnormed, WriteMode::Overwrite)?;
        self.weight_gradient("attn.c_proj", dstream, &kept.attended)?;
        let shape = dims.attention(window);
        attention::prepare_backward(dnormed, &kept.attended, shape, dout, delta);
        let inputs = attention::Inputs { q: &kept.q, k: &kept.k, v: &kept.v };
        let saved = attention::Saved { lse: &kept.lse, dout, delta };
        let outputs = attention::Outputs { dq: &mut *dq, dk: &mut *dk, dv: &mut *dv };
        attention::backward(shape, inputs, saved, outputs, attention);
        let [dq_tokens, dk_tokens, dv_tokens, _] = carve(&mut wide2[..], [stream, keys, keys, 0]);
        let angles = rotary::Angles { cos, sin };
        rotary::backward(dq, &kept.q, &kept.inverse_q, angles, dims.query_heads(), dq_tokens);
        rotary::backward(dk, &kept.k, &kept.inverse_k, angles, dims.key_heads(), dk_tokens);
        value::backward(dv, dims.key_heads(), dv_tokens);
        let parts = [("attn.c_q", &*dq_tokens), ("attn.c_k", dk_tokens), ("attn.c_v", dv_tokens)];
        for (part, (matrix, gradient)) in parts.into_iter().enumerate() {
            let mode = if part == 0 { WriteMode::Overwrite } else { WriteMode::Accumulate };
            self.weight_gradient(matrix, gradient, &kept.normed)?;
            self.input_gradient(matrix, gradient, dnormed, mode)?;
        }
        if has_value_embedding(self.layer, self.shape.n_layer) {
            self.value_embedding(dv, kept, &mut dq_tokens[..keys], gates, dnormed)?;
        }
        Ok(())
    }

    /// Into the value embedding and its gate.
    fn value_embedding(
        &self,
        dv: &[T],
        kept: &LayerBuffers<T>,
        embedded: &mut [T],
        gates: &mut [T],
        dnormed: &mut [T],
    ) -> Result<(), ModelError> {
        let dims = self.dims;
        let mix = value_mix(self.weights, self.ids, self.layer, dims, &kept.normed)?;
        value::backward_mixed(dv, mix, &kept.sigma, dims.key_heads(), embedded, gates, dnormed);
        update(self.into.get(&value_embedding_name(self.layer))?, |table| {
            embedding::scatter_add(embedded, self.ids, dims.kv, table);
        })?;
        let tokens = dims.tokens();
        let x = Matrix::strided(&kept.normed, tokens, VALUE_GATE_CHANNELS, dims.width);
        let slopes = Matrix::new(gates, tokens, dims.groups).transposed();
        update(self.into.get(&layer_name(self.layer, "attn.ve_gate"))?, |dgate| {
            multiply(dgate, slopes, x, WriteMode::Accumulate, Threads::Pool, ComputeDtype::Full);
        })?;
        Ok(())
    }

    /// Through attention's norm and the mix of stream and smeared embeddings.
    fn mix(&self, buffers: &mut Buffers<T>) -> Result<(), ModelError> {
        let Buffers { layers, streams, dnormed, dstream, dx0, .. } = buffers;
        let kept = &layers[self.layer];
        let lambda = self.weights.entry(RESIDUAL_SCALARS, self.layer)?;
        let lambda0 = self.weights.entry(INPUT_SCALARS, self.layer)?;
        let mixed = residual::Mixed {
            dnormed,
            normed: &kept.normed,
            inverse: &kept.inverse,
            x: &streams[self.layer],
            x0: &streams[0],
            lambdas: [lambda, lambda0],
        };
        let [slope, slope0] = residual::mix_backward(mixed, self.dims.width, dstream, dx0);
        add_entry::<T>(self.into, RESIDUAL_SCALARS, self.layer, slope)?;
        add_entry::<T>(self.into, INPUT_SCALARS, self.layer, slope0)
    }

    /// The gradient of a matrix's input, from that of its output.
    fn input_gradient(&self, matrix: &str, dy: &[T], dx: &mut [T], mode: WriteMode) -> Result<(), ModelError> {
        let tokens = self.dims.tokens();
        let (inputs, outputs) = (dx.len() / tokens, dy.len() / tokens);
        let weight = Matrix::new(self.weights.get(&layer_name(self.layer, matrix))?, outputs, inputs);
        multiply(dx, Matrix::new(dy, tokens, outputs), weight, mode, Threads::Pool, self.dims.compute_dtype);
        Ok(())
    }

    /// The gradient of a matrix, from its input and the gradient of its output.
    fn weight_gradient(&self, matrix: &str, dy: &[T], x: &[T]) -> Result<(), ModelError> {
        let tokens = self.dims.tokens();
        let (inputs, outputs) = (x.len() / tokens, dy.len() / tokens);
        update(self.into.get(&layer_name(self.layer, matrix))?, |dweight| {
            let dy = Matrix::new(dy, tokens, outputs).transposed();
            multiply(
                dweight,
                dy,
                Matrix::new(x, tokens, inputs),
                WriteMode::Accumulate,
                Threads::Pool,
                self.dims.compute_dtype,
            );
        })?;
        Ok(())
    }
}
