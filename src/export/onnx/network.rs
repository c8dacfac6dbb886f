//! The transformer as a graph: the reference forward pass (`model/forward.rs`), operation by operation, in f32.
//!
//! Weights are named as the parameters are; matrices are stored transposed, (inputs, outputs), as `MatMul` takes them, and
//! without the rows that pad the vocabulary. Every row of a batch holds as many tokens as the others.

use nanochat_artifacts::ExportType;
use nanochat_engine::model::{
    BACKOUT_SCALAR, HEAD, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING,
};
use nanochat_engine::model::{layer_name, value_embedding_name};
use nanochat_engine::ops::reference::{LOGIT_CAP, NORM_EPSILON, QK_SCALE, ROTARY_BASE, VALUE_GATE_SCALE};
use nanochat_formats::onnx::proto::{Graph, element};
use nanochat_formats::onnx::{Builder, Size, Value, whole};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{SMEAR_CHANNELS, VALUE_GATE_CHANNELS, has_value_embedding, head_dim, window_sizes};

const BATCH: Size = Size::Named("batch");
const TOKENS: Size = Size::Named("sequence");
const PAST: Size = Size::Named("past_sequence");
const TOTAL: Size = Size::Named("total_sequence");

/// The last entry of an axis, wherever it is.
const END: i64 = i64::MAX;

/// Names of a layer's cached keys and values, (batch, key/value heads, tokens, channels), in and out.
pub(super) fn cache_names(layer: usize) -> [[String; 2]; 2] {
    ["past_key_values", "present"].map(|side| ["key", "value"].map(|kind| format!("{side}.{layer}.{kind}")))
}

/// The graph's name of the ids, (batch, tokens) in i64.
pub(super) const IDS: &str = "input_ids";
/// The graph's name of the capped logits, (batch, tokens, vocabulary).
pub(super) const LOGITS: &str = "logits";
/// The normalised embedding of the token before the first, (batch, 1, width), zeros where there is none: what is smeared.
pub(super) const PAST_EMBEDDING: &str = "past_embedding";
/// The same of the last token, for the next call.
pub(super) const PRESENT_EMBEDDING: &str = "present_embedding";

/// A graph being built from a shape.
pub(super) struct Network<'a> {
    shape: &'a ModelShape,
    weights: ExportType,
    cached: bool,
    graph: Builder,
}

/// What all layers share.
struct Shared {
    ids: Value,
    /// Rotary tables (tokens, head_dim / 2).
    cos: Value,
    sin: Value,
    /// For each layer 0 where a query sees a key and −∞ elsewhere, (tokens, keys).
    masks: Vec<Value>,
    /// Cached keys and values of each layer.
    past: Vec<[Value; 2]>,
}

impl<'a> Network<'a> {
    /// A graph of the model, which takes weights of a type and a cache or none.
    pub fn new(shape: &'a ModelShape, weights: ExportType, cached: bool) -> Self {
        Self { shape, weights, cached, graph: Builder::default() }
    }

    /// Builds it.
    pub fn build(mut self) -> Graph {
        let ids = self.graph.input(IDS, element::INT64, &[BATCH, TOKENS]);
        let past = if self.cached { self.cache_inputs() } else { Vec::new() };
        let x0 = self.embed(&ids);
        let shared = self.share(ids, past);
        let middle = self.shape.n_layer / 2;
        let (mut x, mut backout) = (x0.clone(), None);
        for layer in 0..self.shape.n_layer {
            self.graph.enter(format!("layer.{layer}"));
            x = self.layer(layer, &x, &x0, &shared);
            if layer == middle {
                backout = Some(x.clone());
            }
        }
        self.graph.enter("head");
        if let Some(backout) = backout {
            let taken = self.multiply(&backout, &BACKOUT_SCALAR.into());
            x = self.graph.node("Sub", &[&x, &taken]);
        }
        let logits = self.head(&x);
        self.graph.output(&logits, LOGITS, element::FLOAT, &[BATCH, TOKENS, Size::Fixed(self.shape.vocab_size)]);
        self.graph.finish(if self.cached { "nanochat_with_past" } else { "nanochat" })
    }

    fn cache_inputs(&mut self) -> Vec<[Value; 2]> {
        let sizes = [BATCH, Size::Fixed(self.shape.n_kv_head), PAST, Size::Fixed(head_dim(self.shape))];
        let names = (0..self.shape.n_layer).map(|layer| cache_names(layer)[0].clone());
        names.map(|pair| pair.map(|name| self.graph.input(&name, element::FLOAT, &sizes))).collect()
    }

    /// Normalised embeddings with the token before smeared in, (batch, tokens, width).
    fn embed(&mut self, ids: &Value) -> Value {
        self.graph.enter("embed");
        let embedded = self.look_up(TOKEN_EMBEDDING, ids);
        let x = self.norm(&embedded);
        let before = if self.cached {
            let sizes = [BATCH, Size::Fixed(1), Size::Fixed(self.shape.n_embd)];
            let last = self.graph.slice(&x, 1, -1, END);
            self.graph.output(&last, PRESENT_EMBEDDING, element::FLOAT, &sizes);
            self.graph.input(PAST_EMBEDDING, element::FLOAT, &sizes)
        } else {
            // Nothing comes before the first token: zeros of its size.
            let first = self.graph.slice(&x, 1, 0, 1);
            let zero = self.graph.scalar(0.0);
            self.multiply(&first, &zero)
        };
        let shifted = self.graph.concatenate(&[&before, &x], 1);
        let previous = self.graph.slice(&shifted, 1, 0, -1);
        let gate = self.gate(&x, SMEAR_CHANNELS, SMEAR_GATE);
        let gate = self.multiply(&gate, &SMEAR_SCALAR.into());
        let smeared = self.multiply(&previous, &gate);
        self.graph.node("Add", &[&x, &smeared])
    }

    /// Positions, rotary tables and masks.
    fn share(&mut self, ids: Value, past: Vec<[Value; 2]>) -> Shared {
        self.graph.enter("positions");
        let graph = &mut self.graph;
        let (zero, one) = (graph.number(0), graph.number(1));
        let start = past.first().map_or_else(|| zero.clone(), |[keys, _]| graph.size(keys, 2));
        let tokens = graph.size(&ids, 1);
        let end = graph.node("Add", &[&start, &tokens]);
        let positions = graph.node("Range", &[&start, &end, &one]);
        let queries = graph.unsqueeze(&positions, 1);
        let keys = graph.node("Range", &[&zero, &end, &one]);
        let keys = graph.unsqueeze(&keys, 0);
        let distance = graph.node("Sub", &[&queries, &keys]);
        let is_past = graph.node("GreaterOrEqual", &[&distance, &zero]);
        let (seen, unseen) = (graph.scalar(0.0), graph.scalar(f32::NEG_INFINITY));
        let windows = window_sizes(self.shape);
        let mut by_window: std::collections::BTreeMap<usize, Value> = Default::default();
        for window in &windows {
            by_window.entry(*window).or_insert_with(|| {
                let window = graph.number(*window as i64);
                let is_near = graph.node("LessOrEqual", &[&distance, &window]);
                let is_seen = graph.node("And", &[&is_past, &is_near]);
                graph.node("Where", &[&is_seen, &seen, &unseen])
            });
        }
        // The angle is the f32 product of position and inverse wavelength, as in the baseline.
        let size = head_dim(self.shape);
        let inverse: Vec<f32> =
            (0..size / 2).map(|pair| ROTARY_BASE.powf(-(2.0 * pair as f64) / size as f64) as f32).collect();
        let inverse = graph.row("inverse_wavelengths", &inverse);
        let queries = graph.widen(&queries);
        let angles = graph.node("Mul", &[&queries, &inverse]);
        let (cos, sin) = (graph.node("Cos", &[&angles]), graph.node("Sin", &[&angles]));
        Shared { ids, cos, sin, masks: windows.iter().map(|window| by_window[window].clone()).collect(), past }
    }

    fn layer(&mut self, layer: usize, x: &Value, x0: &Value, shared: &Shared) -> Value {
        let [lambda, lambda0] = [RESIDUAL_SCALARS, INPUT_SCALARS].map(|name| {
            let index = self.graph.numbers(&[layer as i64]);
            self.graph.node("Gather", &[&name.to_string(), &index])
        });
        let (kept, initial) = (self.multiply(x, &lambda), self.multiply(x0, &lambda0));
        let x = self.graph.node("Add", &[&kept, &initial]);
        let normed = self.norm(&x);
        let taken = self.attention(layer, &normed, shared);
        let x = self.graph.node("Add", &[&x, &taken]);
        let normed = self.norm(&x);
        let hidden = self.project(&normed, &layer_name(layer, "mlp.c_fc"));
        let positive = self.graph.node("Relu", &[&hidden]);
        let squared = self.multiply(&positive, &positive);
        let added = self.project(&squared, &layer_name(layer, "mlp.c_proj"));
        self.graph.node("Add", &[&x, &added])
    }

    /// One layer's attention on its normalised input.
    fn attention(&mut self, layer: usize, x: &Value, shared: &Shared) -> Value {
        let (heads, groups, size) = (self.shape.n_head, self.shape.n_kv_head, head_dim(self.shape));
        let q = self.heads(x, layer, "attn.c_q", heads);
        let k = self.heads(x, layer, "attn.c_k", groups);
        let (q, mut k) = (self.rotate(&q, shared), self.rotate(&k, shared));
        let mut v = self.values(layer, x, shared);
        if let Some(past) = shared.past.get(layer) {
            let [_, present] = cache_names(layer);
            let sizes = [BATCH, Size::Fixed(groups), TOTAL, Size::Fixed(size)];
            for ((value, past), name) in [&mut k, &mut v].into_iter().zip(past).zip(present) {
                *value = self.graph.concatenate(&[past, value], 2);
                self.graph.output(value, &name, element::FLOAT, &sizes);
            }
        }
        // Queries that share keys and values lie in a dimension of their own: (batch, groups, heads a group, tokens, size).
        let q = self.graph.reshape(&q, &[0, groups as i64, (heads / groups) as i64, -1, size as i64]);
        let (k, v) = (self.graph.unsqueeze(&k, 2), self.graph.unsqueeze(&v, 2));
        let k = self.graph.transpose(&k, &[0, 1, 2, 4, 3]);
        let scores = self.graph.node("MatMul", &[&q, &k]);
        let scale = self.graph.scalar((size as f64).powf(-0.5) as f32);
        let scores = self.multiply(&scores, &scale);
        let scores = self.graph.node("Add", &[&scores, &shared.masks[layer]]);
        let weights = self.graph.node_with("Softmax", &[&scores], vec![whole("axis", -1)]);
        let y = self.graph.node("MatMul", &[&weights, &v]);
        let y = self.graph.transpose(&y, &[0, 3, 1, 2, 4]);
        let y = self.graph.reshape(&y, &[0, 0, self.shape.n_embd as i64]);
        self.project(&y, &layer_name(layer, "attn.c_proj"))
    }

    /// A projection by heads, (batch, heads, tokens, size).
    fn heads(&mut self, x: &Value, layer: usize, matrix: &str, heads: usize) -> Value {
        let projected = self.project(x, &layer_name(layer, matrix));
        let split = self.graph.reshape(&projected, &[0, 0, heads as i64, head_dim(self.shape) as i64]);
        self.graph.transpose(&split, &[0, 2, 1, 3])
    }

    /// Rotary positions, then the norm of each head and its scale.
    fn rotate(&mut self, x: &Value, shared: &Shared) -> Value {
        let half = (head_dim(self.shape) / 2) as i64;
        let (first, second) = (self.graph.slice(x, 3, 0, half), self.graph.slice(x, 3, half, END));
        let [first_cos, second_sin] = [(&first, &shared.cos), (&second, &shared.sin)].map(|(a, b)| self.multiply(a, b));
        let [second_cos, first_sin] = [(&second, &shared.cos), (&first, &shared.sin)].map(|(a, b)| self.multiply(a, b));
        let turned = self.graph.node("Add", &[&first_cos, &second_sin]);
        let turned_second = self.graph.node("Sub", &[&second_cos, &first_sin]);
        let turned = self.graph.concatenate(&[&turned, &turned_second], 3);
        let normed = self.norm(&turned);
        let scale = self.graph.scalar(QK_SCALE as f32);
        self.multiply(&normed, &scale)
    }

    /// A layer's values with its gated value embedding, (batch, groups, tokens, size).
    fn values(&mut self, layer: usize, x: &Value, shared: &Shared) -> Value {
        let v = self.heads(x, layer, "attn.c_v", self.shape.n_kv_head);
        if !has_value_embedding(layer, self.shape.n_layer) {
            return v;
        }
        let extra = self.look_up(&value_embedding_name(layer), &shared.ids);
        let sizes = [0, 0, self.shape.n_kv_head as i64, head_dim(self.shape) as i64];
        let extra = self.graph.reshape(&extra, &sizes);
        let extra = self.graph.transpose(&extra, &[0, 2, 1, 3]);
        let gate = self.gate(x, VALUE_GATE_CHANNELS, &layer_name(layer, "attn.ve_gate"));
        let scale = self.graph.scalar(VALUE_GATE_SCALE as f32);
        let gate = self.multiply(&gate, &scale);
        let gate = self.graph.transpose(&gate, &[0, 2, 1]);
        let gate = self.graph.unsqueeze(&gate, 3);
        let gated = self.multiply(&extra, &gate);
        self.graph.node("Add", &[&v, &gated])
    }

    /// The sigmoid of a projection of the first few channels, (batch, tokens, outputs).
    fn gate(&mut self, x: &Value, channels: usize, weight: &str) -> Value {
        let channels = self.graph.slice(x, 2, 0, channels as i64);
        let projected = self.project(&channels, weight);
        self.graph.node("Sigmoid", &[&projected])
    }

    /// Logits under the soft cap.
    fn head(&mut self, x: &Value) -> Value {
        let normed = self.norm(x);
        let logits = self.project(&normed, HEAD);
        let cap = self.graph.scalar(LOGIT_CAP as f32);
        let divided = self.graph.node("Div", &[&logits, &cap]);
        let squashed = self.graph.node("Tanh", &[&divided]);
        self.multiply(&squashed, &cap)
    }

    /// Divides each vector by its root mean square.
    fn norm(&mut self, x: &Value) -> Value {
        let squares = self.multiply(x, x);
        let axis = self.graph.numbers(&[-1]);
        let mean = self.graph.node_with("ReduceMean", &[&squares, &axis], vec![whole("keepdims", 1)]);
        let epsilon = self.graph.scalar(NORM_EPSILON as f32);
        let mean = self.graph.node("Add", &[&mean, &epsilon]);
        let root = self.graph.node("Sqrt", &[&mean]);
        self.graph.node("Div", &[x, &root])
    }

    fn multiply(&mut self, a: &Value, b: &Value) -> Value {
        self.graph.node("Mul", &[a, b])
    }

    /// `x` times a stored matrix.
    fn project(&mut self, x: &Value, weight: &str) -> Value {
        let weight = self.widened(weight.to_string());
        self.graph.node("MatMul", &[x, &weight])
    }

    /// The rows of a stored table that ids pick; converted after that, since they are few.
    fn look_up(&mut self, table: &str, ids: &Value) -> Value {
        let rows = self.graph.node("Gather", &[&table.to_string(), ids]);
        self.widened(rows)
    }

    /// A value of the weights' type in f32.
    fn widened(&mut self, value: Value) -> Value {
        if self.weights == ExportType::F32 { value } else { self.graph.widen(&value) }
    }
}
