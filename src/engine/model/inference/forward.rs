//! One pass over the kernels.

use std::ops::Range;

use super::buffers::{Buffers, keep, sized};
use super::rows::Row;
use super::runs::{Before, Runs};
use crate::model::ModelError;
use crate::model::parameters::{
    BACKOUT_SCALAR, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING, layer_name,
    value_embedding_name,
};
use crate::model::weights::{OnCpu, Weights};
use nanochat_kernels::gemm::{Matrix, Threads, WriteMode, multiply};
use nanochat_kernels::{attention, embedding, norm, ragged_attention, residual, rotary, smear, squared_relu, value};
use nanochat_plan::shape::{MLP_EXPANSION, has_value_embedding, head_dim, kv_dim, window_sizes};

/// A pass over some runs.
pub(super) struct Pass<'a> {
    model: &'a OnCpu<'a>,
    weights: &'a Weights<'a, f32>,
    runs: &'a Runs,
    /// The tokens whose prediction is wanted.
    wanted: Vec<Range<usize>>,
    /// Tokens at work: all of them, and in the last layer those that are wanted.
    tokens: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(model: &'a OnCpu<'a>, weights: &'a Weights<'a, f32>, runs: &'a Runs) -> Self {
        Self { model, weights, runs, wanted: runs.wanted().collect(), tokens: runs.ids.len() }
    }

    /// Computes the head's normalised input for the wanted tokens, and has the rows of the cache that runs follow take
    /// their tokens up; how many are wanted.
    pub(super) fn run(&mut self, rows: &mut [Row], buffers: &mut Buffers) -> Result<usize, ModelError> {
        let shape = self.model.shape;
        let width = shape.n_embd;
        if self.tokens == 0 {
            return Ok(0);
        }
        buffers.turn(self.runs, head_dim(shape))?;
        self.embed(rows, buffers)?;
        for (layer, window) in window_sizes(shape).into_iter().enumerate() {
            self.mix(layer, buffers)?;
            self.keys_and_values(layer, buffers)?;
            let last = layer + 1 == shape.n_layer;
            if last {
                self.keep_wanted(buffers);
            }
            self.attend(layer, last, window, rows, buffers)?;
            for (run, before) in self.runs.list.iter().map(|run| (run, run.before)) {
                if let Before::Cached(row) = before {
                    let (total, count) = (self.runs.ids.len(), run.tokens.len());
                    rows[row].append(layer, [&buffers.k, &buffers.v], run.tokens.start, count, total);
                }
            }
            self.feed_forward(layer, buffers)?;
            if layer == shape.n_layer / 2 {
                let elements = self.tokens * width;
                sized(&mut buffers.middle, elements).copy_from_slice(&buffers.next[..elements]);
            }
            std::mem::swap(&mut buffers.stream, &mut buffers.next);
        }
        for run in &self.runs.list {
            if let Before::Cached(row) = run.before {
                rows[row].advance(&self.runs.ids[run.tokens.clone()]);
            }
        }
        let Buffers { stream, middle, normed, unread, .. } = buffers;
        let elements = self.tokens * width;
        let lambda = self.weights.entry(BACKOUT_SCALAR, 0)?;
        let factors = sized(unread, self.tokens);
        residual::backout(&stream[..elements], &middle[..elements], lambda, width, &mut normed[..elements], factors);
        Ok(self.tokens)
    }

    /// Normalised embeddings, and the same smeared: the first stream.
    fn embed(&self, rows: &[Row], buffers: &mut Buffers) -> Result<(), ModelError> {
        let Buffers { embedded, x0, stream, unread, .. } = buffers;
        let (width, tokens) = (self.model.shape.n_embd, self.tokens);
        let (before, beyond) = self.runs.predecessors(rows);
        let table = self.weights.get(TOKEN_EMBEDDING)?;
        let total = tokens + beyond.len();
        let gathered = sized(stream, total * width);
        let (own, others) = gathered.split_at_mut(tokens * width);
        embedding::gather(table, &self.runs.ids, width, own);
        embedding::gather(table, &beyond, width, others);
        let embedded = sized(embedded, total * width);
        norm::forward(gathered, width, embedded, sized(unread, total));
        let (gate, lambda) = (self.weights.get(SMEAR_GATE)?, self.weights.entry(SMEAR_SCALAR, 0)?);
        let x0 = sized(x0, tokens * width);
        smear::forward_ragged(embedded, &before, smear::Smear { length: tokens, width, gate, lambda }, x0);
        stream[..x0.len()].copy_from_slice(x0);
        Ok(())
    }

    /// What the layer takes in, and its norm.
    fn mix(&self, layer: usize, buffers: &mut Buffers) -> Result<(), ModelError> {
        let Buffers { stream, x0, next, normed, unread, .. } = buffers;
        let (tokens, width) = (self.tokens, self.model.shape.n_embd);
        let lambdas = [self.weights.entry(RESIDUAL_SCALARS, layer)?, self.weights.entry(INPUT_SCALARS, layer)?];
        let elements = tokens * width;
        let (mixed, normed) = (sized(next, elements), sized(normed, elements));
        residual::mix(&stream[..elements], &x0[..elements], lambdas, width, mixed, normed, sized(unread, tokens));
        Ok(())
    }

    /// The layer's keys and values of all tokens, head-major.
    fn keys_and_values(&self, layer: usize, buffers: &mut Buffers) -> Result<(), ModelError> {
        let Buffers { normed, tokens, k, v, cos, sin, unread, .. } = buffers;
        let (shape, count) = (self.model.shape, self.tokens);
        let heads = rotary::Heads { length: count, count: shape.n_kv_head, size: head_dim(shape) };
        let elements = count * kv_dim(shape);
        let (projected, factors) = (sized(tokens, elements), sized(unread, count * shape.n_kv_head));
        let x = &normed[..count * shape.n_embd];
        self.project(layer, "attn.c_k", x, projected, WriteMode::Overwrite)?;
        rotary::forward(projected, Buffers::angles(cos, sin), heads, sized(k, elements), factors);
        self.project(layer, "attn.c_v", x, projected, WriteMode::Overwrite)?;
        let v = sized(v, elements);
        if has_value_embedding(layer, shape.n_layer) {
            let table = self.weights.get(&value_embedding_name(layer))?;
            let gate = self.weights.get(&layer_name(layer, "attn.ve_gate"))?;
            let mix = value::Mix { ids: &self.runs.ids, table, gate, x, width: shape.n_embd };
            value::forward_mixed(projected, mix, heads, v, factors);
        } else {
            value::forward(projected, heads, v);
        }
        Ok(())
    }

    /// Leaves the wanted tokens alone in what is still to be read.
    fn keep_wanted(&mut self, buffers: &mut Buffers) {
        let shape = self.model.shape;
        let Buffers { next, normed, middle, cos, sin, .. } = buffers;
        for (buffer, width) in [(next, shape.n_embd), (normed, shape.n_embd), (middle, shape.n_embd)]
            .into_iter()
            .chain([(cos, head_dim(shape) / 2), (sin, head_dim(shape) / 2)])
        {
            // The middle layer may be this one, and have given nothing out yet.
            if buffer.len() >= self.tokens * width {
                keep(buffer, &self.wanted, width);
            }
        }
        self.tokens = self.wanted.iter().map(Range::len).sum();
    }

    /// Adds what the heads attend to to the stream.
    fn attend(
        &self,
        layer: usize,
        last: bool,
        window: usize,
        rows: &[Row],
        buffers: &mut Buffers,
    ) -> Result<(), ModelError> {
        let Buffers { next, normed, tokens, q, k, v, cos, sin, unread, hidden, attention: scratch, .. } = buffers;
        let (shape, count) = (self.model.shape, self.tokens);
        let (size, elements) = (head_dim(shape), count * shape.n_embd);
        let heads = rotary::Heads { length: count, count: shape.n_head, size };
        let (projected, q) = (sized(tokens, elements), sized(q, elements));
        self.project(layer, "attn.c_q", &normed[..elements], projected, WriteMode::Overwrite)?;
        rotary::forward(projected, Buffers::angles(cos, sin), heads, q, sized(unread, count * shape.n_head));
        let spans = self.runs.spans(last, layer, rows, [k, v], size);
        let (heads, groups, compute_dtype) = (shape.n_head, shape.n_kv_head, self.model.compute_dtype);
        let ragged = ragged_attention::Shape { heads, groups, size, window, compute_dtype };
        scratch.reserve(ragged_attention::workspace_elements(ragged, &spans));
        let taken = sized(hidden, elements);
        ragged_attention::forward(ragged, q, &spans, taken, scratch);
        let whole = attention::Shape { rows: 1, length: count, heads, groups, size, window, compute_dtype };
        attention::to_tokens(taken, whole, projected);
        self.project(layer, "attn.c_proj", projected, &mut next[..elements], WriteMode::Accumulate)
    }

    /// Adds the feed-forward part to the stream.
    fn feed_forward(&self, layer: usize, buffers: &mut Buffers) -> Result<(), ModelError> {
        let Buffers { next, normed, hidden, squared, unread, .. } = buffers;
        let (width, count) = (self.model.shape.n_embd, self.tokens);
        let elements = count * width;
        let (hidden, squared) = (sized(hidden, MLP_EXPANSION * elements), sized(squared, MLP_EXPANSION * elements));
        norm::forward(&next[..elements], width, &mut normed[..elements], sized(unread, count));
        self.project(layer, "mlp.c_fc", &normed[..elements], hidden, WriteMode::Overwrite)?;
        squared_relu::forward(hidden, squared);
        self.project(layer, "mlp.c_proj", squared, &mut next[..elements], WriteMode::Accumulate)
    }

    /// `x` times a layer's transposed weights.
    fn project(&self, layer: usize, matrix: &str, x: &[f32], y: &mut [f32], mode: WriteMode) -> Result<(), ModelError> {
        let tokens = self.tokens;
        let (inputs, outputs) = (x.len() / tokens, y.len() / tokens);
        let weight = Matrix::new(self.weights.get(&layer_name(layer, matrix))?, outputs, inputs).transposed();
        multiply(y, Matrix::new(x, tokens, inputs), weight, mode, Threads::Pool, self.model.compute_dtype);
        Ok(())
    }
}
