//! Activations and scratch, kept from one evaluation to the next.

use crate::ops::Element;
use crate::ops::reference::rotary_table;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{Scratch, attention, head, rotary};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{MLP_EXPANSION, head_dim, kv_dim, window_sizes};

/// Sizes that decide how large the buffers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dims {
    /// Rows of the batch.
    pub(super) rows: usize,
    /// Tokens in a row.
    pub(super) length: usize,
    /// Channels of the stream.
    pub(super) width: usize,
    /// Channels of all key heads.
    pub(super) kv: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// Key/value heads.
    pub(super) groups: usize,
    /// Channels of a head.
    pub(super) size: usize,
    /// Layers.
    pub(super) layers: usize,
    /// Vocabulary.
    pub(super) vocab: usize,
    /// What products round their operands to.
    pub(super) compute_dtype: ComputeDtype,
    /// The longest window.
    window: usize,
}

impl Dims {
    pub(super) fn new(shape: &ModelShape, (rows, length): (usize, usize), compute_dtype: ComputeDtype) -> Self {
        Self {
            rows,
            length,
            width: shape.n_embd,
            kv: kv_dim(shape),
            heads: shape.n_head,
            groups: shape.n_kv_head,
            size: head_dim(shape),
            layers: shape.n_layer,
            vocab: shape.vocab_size,
            compute_dtype,
            window: window_sizes(shape).into_iter().max().unwrap_or(0),
        }
    }

    /// Tokens of the batch.
    pub(super) fn tokens(&self) -> usize {
        self.rows * self.length
    }

    /// Elements of the stream.
    pub(super) fn stream(&self) -> usize {
        self.tokens() * self.width
    }

    /// Elements of all keys.
    pub(super) fn keys(&self) -> usize {
        self.tokens() * self.kv
    }

    /// Query heads as the rotary kernel takes them.
    pub(super) fn query_heads(&self) -> rotary::Heads {
        rotary::Heads { length: self.length, count: self.heads, size: self.size }
    }

    /// Key/value heads as the rotary kernel takes them.
    pub(super) fn key_heads(&self) -> rotary::Heads {
        rotary::Heads { length: self.length, count: self.groups, size: self.size }
    }

    /// One layer's attention.
    pub(super) fn attention(&self, window: usize) -> attention::Shape {
        let Self { rows, length, heads, groups, size, compute_dtype, .. } = *self;
        attention::Shape { rows, length, heads, groups, size, window, compute_dtype }
    }
}

/// What one layer keeps for its backward pass. Inverse roots and sigmoids have one number a token (and head).
#[derive(Debug, Default)]
pub(super) struct LayerBuffers<T> {
    /// Normalised input of attention, token-major.
    pub(super) normed: Vec<T>,
    pub(super) inverse: Vec<T>,
    /// Queries, keys and values, head-major.
    pub(super) q: Vec<T>,
    pub(super) inverse_q: Vec<T>,
    pub(super) k: Vec<T>,
    pub(super) inverse_k: Vec<T>,
    pub(super) v: Vec<T>,
    /// Sigmoids of the value-embedding gate.
    pub(super) sigma: Vec<T>,
    /// Attention's result, token-major, and the logarithms of its sums.
    pub(super) attended: Vec<T>,
    pub(super) lse: Vec<T>,
    /// Normalised input of the feed-forward part.
    pub(super) normed2: Vec<T>,
    pub(super) inverse2: Vec<T>,
    /// Hidden activations cut off at 0.
    pub(super) hidden: Vec<T>,
}

/// All buffers of one size of batch.
#[derive(Debug, Default)]
pub(super) struct Buffers<T> {
    dims: Option<Dims>,
    /// Cosines and sines of the positions, length × D/2.
    pub(super) cos: Vec<T>,
    pub(super) sin: Vec<T>,
    /// Normalised embeddings, their factors, and the smear's sigmoids.
    pub(super) embedded: Vec<T>,
    pub(super) inverse: Vec<T>,
    pub(super) sigma: Vec<T>,
    /// What each layer takes in, the smeared embeddings first, and what the last one gives out.
    pub(super) streams: Vec<Vec<T>>,
    /// One a layer, or a single one that all layers use when there is no backward pass.
    pub(super) layers: Vec<LayerBuffers<T>>,
    /// Normalised input of the head.
    pub(super) normed: Vec<T>,
    pub(super) inverse_final: Vec<T>,
    pub(super) losses: Vec<T>,
    /// Scratch: a chunk of logits, and four streams' worth twice.
    pub(super) logits: Vec<T>,
    pub(super) wide: Vec<T>,
    pub(super) wide2: Vec<T>,
    pub(super) attention: Scratch<T>,
    /// Gradients of the head's input, the stream, the smeared embeddings, and the middle layer's output.
    pub(super) dnormed: Vec<T>,
    pub(super) dstream: Vec<T>,
    pub(super) dx0: Vec<T>,
    pub(super) dmiddle: Vec<T>,
    /// Scratch with one number a token and head.
    pub(super) delta: Vec<T>,
    pub(super) gates: Vec<T>,
}

impl<T: Element> Buffers<T> {
    /// Gives the buffers the sizes for `dims`; memory is only taken where they grow.
    fn fit(&mut self, dims: &Dims, training: bool) {
        self.attention.reserve(dims.attention(dims.window).workspace_elements());
        if self.dims.as_ref() == Some(dims) {
            return;
        }
        let (tokens, stream, keys) = (dims.tokens(), dims.stream(), dims.keys());
        let size = |buffer: &mut Vec<T>, length: usize| buffer.resize(length, T::ZERO);
        let hidden = MLP_EXPANSION * stream;
        size(&mut self.embedded, stream);
        size(&mut self.inverse, tokens);
        size(&mut self.sigma, tokens);
        self.streams.resize_with(dims.layers + 1, Vec::new);
        self.streams.iter_mut().for_each(|buffer| size(buffer, stream));
        self.layers.resize_with(if training { dims.layers } else { 1 }, LayerBuffers::default);
        for layer in &mut self.layers {
            for buffer in [&mut layer.normed, &mut layer.q, &mut layer.attended, &mut layer.normed2] {
                size(buffer, stream);
            }
            [&mut layer.k, &mut layer.v].into_iter().for_each(|buffer| size(buffer, keys));
            [&mut layer.inverse, &mut layer.inverse2].into_iter().for_each(|buffer| size(buffer, tokens));
            [&mut layer.inverse_q, &mut layer.lse].into_iter().for_each(|buffer| size(buffer, tokens * dims.heads));
            [&mut layer.inverse_k, &mut layer.sigma].into_iter().for_each(|buffer| size(buffer, tokens * dims.groups));
            size(&mut layer.hidden, hidden);
        }
        size(&mut self.normed, stream);
        size(&mut self.inverse_final, tokens);
        size(&mut self.losses, tokens);
        size(&mut self.logits, tokens.min(head::chunk_rows(dims.vocab)) * dims.vocab);
        size(&mut self.wide, hidden);
        if training {
            size(&mut self.wide2, hidden);
            for buffer in [&mut self.dnormed, &mut self.dstream, &mut self.dx0, &mut self.dmiddle] {
                size(buffer, stream);
            }
            size(&mut self.delta, tokens * dims.heads);
            size(&mut self.gates, tokens * dims.groups);
        }
        self.turn(dims);
        self.dims = Some(dims.clone());
    }

    /// Computes the rotary tables.
    fn turn(&mut self, dims: &Dims) {
        let table = |tensor: candle_core::Tensor| -> Option<Vec<T>> {
            let values =
                tensor.to_dtype(candle_core::DType::F64).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1::<f64>());
            Some(values.ok()?.into_iter().map(T::of).collect())
        };
        let device = &candle_core::Device::Cpu;
        if let Ok((cos, sin)) = rotary_table(0, dims.length, dims.size, T::DTYPE, device)
            && let (Some(cos), Some(sin)) = (table(cos), table(sin))
        {
            (self.cos, self.sin) = (cos, sin);
        }
    }
}

/// Buffers for training and for inference.
#[derive(Debug, Default)]
pub(crate) struct Workspace<T> {
    training: Buffers<T>,
    inference: Buffers<T>,
}

impl<T: Element> Workspace<T> {
    /// Buffers that keep every layer's activations.
    pub(super) fn training(&mut self, dims: &Dims) -> &mut Buffers<T> {
        self.training.fit(dims, true);
        &mut self.training
    }

    /// Buffers that keep one layer's activations.
    pub(super) fn inference(&mut self, dims: &Dims) -> &mut Buffers<T> {
        self.inference.fit(dims, false);
        &mut self.inference
    }
}

/// Cuts a buffer into consecutive parts of the given sizes.
pub(super) fn carve<T, const N: usize>(mut buffer: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    sizes.map(|size| {
        let (part, rest) = std::mem::take(&mut buffer).split_at_mut(size);
        buffer = rest;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::shapes;

    /// Where the largest buffers lie, and how much they hold.
    fn places(buffers: &Buffers<f32>) -> Vec<(*const f32, usize)> {
        let layers = buffers.layers.iter().flat_map(|layer| [&layer.normed, &layer.q, &layer.k, &layer.hidden]);
        let others = [&buffers.embedded, &buffers.logits, &buffers.wide, &buffers.wide2, &buffers.dstream];
        layers.chain(&buffers.streams).chain(others).map(|buffer| (buffer.as_ptr(), buffer.capacity())).collect()
    }

    #[test]
    fn buffers_stay_where_they_are_from_one_micro_step_to_the_next() {
        let shape = &shapes()[2];
        let dims = |rows, length| Dims::new(shape, (rows, length), ComputeDtype::Full);
        let mut workspace = Workspace::<f32>::default();
        let first = places(workspace.training(&dims(4, 20)));
        assert_eq!(first, places(workspace.training(&dims(4, 20))));
        // A smaller batch in between, as at the end of an evaluation, costs nothing either.
        workspace.training(&dims(2, 7));
        assert_eq!(first, places(workspace.training(&dims(4, 20))));
    }
}
