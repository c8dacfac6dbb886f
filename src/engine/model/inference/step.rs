//! One token a row: the pass that decoding repeats.
//!
//! What it computes is what [`super::forward::Pass`] computes of the same runs, by kernels that keep rows apart: a row's
//! logits have the same bits whatever is beside it, however its cache lies in pages, and on any number of threads. After the
//! first step of a size nothing is allocated but pages of the cache.

use std::collections::BTreeMap;

use candle_core::DType;
use half::bf16;

use super::buffers::sized;
use super::rows::Row;
use crate::model::ModelError;
use crate::model::parameters::{
    BACKOUT_SCALAR, HEAD, INPUT_SCALARS, Parameters, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING,
    layer_name, value_embedding_name,
};
use crate::model::weights::Weights;
use crate::ops::reference::rotary_frequency;
use nanochat_kernels::rows::{Elements, Epilogue, Product, multiply};
use nanochat_kernels::smear::NO_PREDECESSOR;
use nanochat_kernels::{Scratch, decode_attention, embedding, norm, residual, rotary, smear, value};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{MLP_EXPANSION, has_value_embedding, head_dim, kv_dim, window_sizes};

/// Weights of matrix products in bf16, by name.
pub(in crate::model) type Narrow = BTreeMap<String, Vec<bf16>>;

/// The matrices of a layer.
const MATRICES: [&str; 6] = ["attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// Rounds the weights of matrix products to bf16, in place; the same as bf16.
pub(in crate::model) fn narrowed(shape: &ModelShape, parameters: &mut Parameters) -> Result<Narrow, ModelError> {
    let layers = (0..shape.n_layer).flat_map(|layer| MATRICES.map(|matrix| layer_name(layer, matrix)));
    let mut narrow = Narrow::new();
    for name in layers.chain([HEAD.to_string()]) {
        let Some(tensor) = parameters.get_mut(&name) else { return Err(ModelError::Missing { name }) };
        let rounded = tensor.to_dtype(DType::BF16)?;
        *tensor = rounded.to_dtype(tensor.dtype())?;
        narrow.insert(name, rounded.flatten_all()?.to_vec1()?);
    }
    Ok(narrow)
}

/// The parameters as a step reads them.
pub(in crate::model) struct StepWeights<'a> {
    embedding: &'a [f32],
    smear_gate: &'a [f32],
    smear_lambda: f32,
    backout: f32,
    head: Elements<'a>,
    layers: Vec<LayerWeights<'a>>,
    /// Radians a position, by pair of channels.
    frequencies: Vec<f32>,
}

/// One layer's parameters.
struct LayerWeights<'a> {
    matrices: [Elements<'a>; 6],
    lambdas: [f32; 2],
    /// Value embedding and its gate.
    value: Option<[&'a [f32]; 2]>,
    window: usize,
}

impl<'a> StepWeights<'a> {
    /// Finds the parameters; matrices in bf16 where these are given.
    pub(in crate::model) fn new(
        shape: &ModelShape,
        weights: &Weights<'a, f32>,
        narrow: Option<&'a Narrow>,
    ) -> Result<Self, ModelError> {
        let matrix = |name: String| match narrow.and_then(|narrow| narrow.get(&name)) {
            Some(elements) => Ok(Elements::Bf16(elements)),
            None => weights.get(&name).map(Elements::F32),
        };
        let layer = |(layer, window): (usize, usize)| -> Result<LayerWeights<'a>, ModelError> {
            let [q, k, v, out, hidden, back] = MATRICES.map(|name| matrix(layer_name(layer, name)));
            let value = match has_value_embedding(layer, shape.n_layer) {
                true => {
                    Some([weights.get(&value_embedding_name(layer))?, weights.get(&layer_name(layer, "attn.ve_gate"))?])
                }
                false => None,
            };
            let lambdas = [weights.entry(RESIDUAL_SCALARS, layer)?, weights.entry(INPUT_SCALARS, layer)?];
            Ok(LayerWeights { matrices: [q?, k?, v?, out?, hidden?, back?], lambdas, value, window })
        };
        let size = head_dim(shape);
        Ok(Self {
            embedding: weights.get(TOKEN_EMBEDDING)?,
            smear_gate: weights.get(SMEAR_GATE)?,
            smear_lambda: weights.entry(SMEAR_SCALAR, 0)?,
            backout: weights.entry(BACKOUT_SCALAR, 0)?,
            head: matrix(HEAD.to_string())?,
            layers: window_sizes(shape).into_iter().enumerate().map(layer).collect::<Result<_, _>>()?,
            frequencies: (0..size / 2).map(|pair| rotary_frequency(pair, size) as f32).collect(),
        })
    }
}

/// Activations and scratch of a step, kept from one to the next.
#[derive(Debug, Default)]
pub(in crate::model) struct StepBuffers {
    /// Ids of cached predecessors, and for each row which of the embeddings is its predecessor's.
    beyond: Vec<u32>,
    before: Vec<u32>,
    /// Normalised embeddings: of the new tokens, then of their predecessors.
    embedded: Vec<f32>,
    x0: Vec<f32>,
    stream: Vec<f32>,
    next: Vec<f32>,
    middle: Vec<f32>,
    normed: Vec<f32>,
    /// Queries and keys before and after their rotation, values.
    projected: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    hidden: Vec<f32>,
    /// Factors that only a backward pass would read.
    unread: Vec<f32>,
    /// Cosines and sines of the rows' positions.
    cos: Vec<f32>,
    sin: Vec<f32>,
    scratch: Scratch<f32>,
    logits: Vec<f32>,
}

/// Feeds its new token to each row: the capped logits after it, row after row.
pub(in crate::model) fn step<'b>(
    shape: &ModelShape,
    weights: &StepWeights<'_>,
    ids: &[u32],
    rows: &mut [Row],
    buffers: &'b mut StepBuffers,
) -> &'b [f32] {
    let (count, width) = (ids.len(), shape.n_embd);
    let elements = count * width;
    embed(weights, ids, rows, width, buffers);
    turn(weights, rows, buffers);
    for (number, layer) in weights.layers.iter().enumerate() {
        {
            let StepBuffers { stream, x0, next, normed, unread, .. } = &mut *buffers;
            let (mixed, normed) = (sized(next, elements), sized(normed, elements));
            residual::mix(
                &stream[..elements],
                &x0[..elements],
                layer.lambdas,
                width,
                mixed,
                normed,
                sized(unread, count),
            );
        }
        attend(shape, layer, number, ids, rows, buffers);
        feed_forward(layer, count, elements, buffers);
        if number == shape.n_layer / 2 {
            sized(&mut buffers.middle, elements).copy_from_slice(&buffers.next[..elements]);
        }
        std::mem::swap(&mut buffers.stream, &mut buffers.next);
    }
    for (row, id) in rows.iter_mut().zip(ids) {
        row.advance(&[*id]);
    }
    let StepBuffers { stream, middle, normed, unread, logits, .. } = buffers;
    let normed = &mut normed[..elements];
    residual::backout(&stream[..elements], &middle[..elements], weights.backout, width, normed, sized(unread, count));
    let logits = sized(logits, count * shape.vocab_size);
    let (outputs, epilogue) = (shape.vocab_size, Epilogue::SoftCap);
    multiply(normed, count, [Product { weights: weights.head, outputs, y: &mut *logits, epilogue }]);
    logits
}

/// Normalised embeddings, and the same smeared: the first stream.
fn embed(weights: &StepWeights<'_>, ids: &[u32], rows: &[Row], width: usize, buffers: &mut StepBuffers) {
    let StepBuffers { beyond, before, embedded, x0, stream, unread, .. } = buffers;
    beyond.clear();
    before.clear();
    for row in rows {
        before.push(row.last().map_or(NO_PREDECESSOR, |id| {
            beyond.push(id);
            (ids.len() + beyond.len() - 1) as u32
        }));
    }
    let total = ids.len() + beyond.len();
    let gathered = sized(stream, total * width);
    let (own, others) = gathered.split_at_mut(ids.len() * width);
    embedding::gather(weights.embedding, ids, width, own);
    embedding::gather(weights.embedding, beyond, width, others);
    let embedded = sized(embedded, total * width);
    norm::forward(gathered, width, embedded, sized(unread, total));
    let x0 = sized(x0, ids.len() * width);
    let smear = smear::Smear { length: ids.len(), width, gate: weights.smear_gate, lambda: weights.smear_lambda };
    smear::forward_ragged(embedded, before, smear, x0);
    stream[..x0.len()].copy_from_slice(x0);
}

/// Cosines and sines of the rows' positions, as the reference table has them.
fn turn(weights: &StepWeights<'_>, rows: &[Row], buffers: &mut StepBuffers) {
    let StepBuffers { cos, sin, .. } = buffers;
    cos.clear();
    sin.clear();
    for row in rows {
        let position = row.tokens().len() as f32;
        let angles = weights.frequencies.iter().map(|frequency| f64::from(position * frequency));
        cos.extend(angles.clone().map(|angle| angle.cos() as f32));
        sin.extend(angles.map(|angle| angle.sin() as f32));
    }
}

/// Adds what the heads attend to to the stream; the cache takes up the layer's keys and values.
fn attend(
    shape: &ModelShape,
    layer: &LayerWeights<'_>,
    number: usize,
    ids: &[u32],
    rows: &mut [Row],
    buffers: &mut StepBuffers,
) {
    let StepBuffers { next, normed, projected, q, k, v, cos, sin, scratch, .. } = buffers;
    let (count, width, kv, size) = (ids.len(), shape.n_embd, kv_dim(shape), head_dim(shape));
    let normed = &normed[..count * width];
    let [query, key, values, out, ..] = layer.matrices;
    let (before_q, before_k) = sized(projected, count * (width + kv)).split_at_mut(count * width);
    let (q, k, v) = (sized(q, count * width), sized(k, count * kv), sized(v, count * kv));
    let product = |weights, outputs, y| Product { weights, outputs, y, epilogue: Epilogue::Overwrite };
    let products =
        [product(query, width, &mut *before_q), product(key, kv, &mut *before_k), product(values, kv, &mut *v)];
    multiply(normed, count, products);
    for (at, row) in rows.iter_mut().enumerate() {
        let (wide, narrow, pairs) = (at * width..(at + 1) * width, at * kv..(at + 1) * kv, at * size / 2);
        let angles = rotary::Angles { cos: &cos[pairs..], sin: &sin[pairs..] };
        rotary::forward_token(&before_q[wide.clone()], angles, size, &mut q[wide.clone()]);
        rotary::forward_token(&before_k[narrow.clone()], angles, size, &mut k[narrow.clone()]);
        if let Some([table, gate]) = layer.value {
            let mix = value::Mix { ids: &ids[at..], table, gate, x: &normed[wide], width };
            value::mix_token(&mut v[narrow.clone()], mix, size);
        }
        row.append(number, [&k[narrow.clone()], &v[narrow]], 0, 1, 1);
    }
    let heads = decode_attention::Shape { heads: shape.n_head, groups: shape.n_kv_head, size };
    let longest = rows.iter().map(|row| row.tokens().len() + 1).max().unwrap_or(0).min(layer.window + 1);
    // Room for all that a window sees from the start, so that nothing grows as rows do.
    scratch.reserve(shape.n_head / shape.n_kv_head * layer.window.saturating_add(1).min(longest.next_power_of_two()));
    let rows = &*rows;
    let taken = &mut before_q[..count * width];
    decode_attention::forward(heads, q, |row| rows[row].seen_by_the_next(number), longest, taken, scratch);
    multiply(
        taken,
        count,
        [Product { weights: out, outputs: width, y: &mut next[..count * width], epilogue: Epilogue::Accumulate }],
    );
}

/// Adds the feed-forward part to the stream.
fn feed_forward(layer: &LayerWeights<'_>, count: usize, elements: usize, buffers: &mut StepBuffers) {
    let StepBuffers { next, normed, hidden, unread, .. } = buffers;
    let width = elements / count;
    let [.., into, back] = layer.matrices;
    let (next, normed) = (&mut next[..elements], &mut normed[..elements]);
    norm::forward(next, width, normed, sized(unread, count));
    let hidden = sized(hidden, MLP_EXPANSION * elements);
    let (outputs, epilogue) = (MLP_EXPANSION * width, Epilogue::SquaredRelu);
    multiply(normed, count, [Product { weights: into, outputs, y: &mut *hidden, epilogue }]);
    multiply(hidden, count, [Product { weights: back, outputs: width, y: next, epilogue: Epilogue::Accumulate }]);
}
