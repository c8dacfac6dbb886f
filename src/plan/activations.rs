//! Activations and workspaces of a pass as slots of one arena: which there are, and where each lies, as a pure function of
//! shape and batch. What a pass allocates is exactly this.

use std::collections::BTreeMap;

use super::ModelShape;
use super::parameters::{ALIGNMENT, Span};
use super::shape::{MLP_EXPANSION, has_value_embedding, head_dim, kv_dim};

/// Elements that a chunk of logits has at most, and the least tokens of a chunk.
const CHUNK_ELEMENTS: usize = 1 << 22;
const LEAST_CHUNK: usize = 64;

/// What a layer keeps for its backward pass. Inverse roots and sigmoids have one element a token (and head).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerSlot {
    /// Normalised input of attention, token-major.
    Normed,
    /// Factors of that norm.
    Inverse,
    /// Queries after rotary and norm, head-major.
    Query,
    /// Factors of their norm.
    QueryInverse,
    /// Keys after rotary and norm, head-major.
    Key,
    /// Factors of their norm.
    KeyInverse,
    /// Values, head-major.
    Value,
    /// Sigmoids of the value-embedding gate.
    GateSigma,
    /// Attention's result, token-major.
    Attended,
    /// Logarithms of attention's sums.
    LogSum,
    /// Normalised input of the MLP.
    MlpNormed,
    /// Factors of that norm.
    MlpInverse,
    /// The MLP's hidden activations, cut off at 0.
    Hidden,
}

/// All of a layer's slots.
const LAYER_SLOTS: [LayerSlot; 13] = [
    LayerSlot::Normed,
    LayerSlot::Inverse,
    LayerSlot::Query,
    LayerSlot::QueryInverse,
    LayerSlot::Key,
    LayerSlot::KeyInverse,
    LayerSlot::Value,
    LayerSlot::GateSigma,
    LayerSlot::Attended,
    LayerSlot::LogSum,
    LayerSlot::MlpNormed,
    LayerSlot::MlpInverse,
    LayerSlot::Hidden,
];

/// One buffer of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Cosines of the rotary angles, length × D/2.
    Cosines,
    /// Sines of the rotary angles.
    Sines,
    /// Normalised embeddings.
    Embedded,
    /// Factors of their norm.
    EmbeddedInverse,
    /// Sigmoids of the smear's gate.
    SmearSigma,
    /// The stream that a layer takes in: the smeared embeddings are the first; one after the last layer.
    Stream(usize),
    /// Something of one layer.
    Layer(usize, LayerSlot),
    /// Normalised input of the head.
    Normed,
    /// Factors of that norm.
    FinalInverse,
    /// Loss of every token.
    Losses,
    /// Workspace: logits of a chunk of tokens.
    Logits,
    /// Workspace of four streams.
    Wide,
    /// Another.
    WideGradient,
    /// Gradient of a normalised input.
    NormedGradient,
    /// Gradient of the stream.
    StreamGradient,
    /// Gradient of the smeared embeddings.
    InputGradient,
    /// Gradient of the middle layer's output.
    MiddleGradient,
    /// Workspace with one element a token and head.
    Delta,
    /// Workspace with one element a token and key/value head.
    Gates,
}

/// A batch's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchSize {
    /// Rows (B).
    pub rows: usize,
    /// Tokens in a row (T).
    pub length: usize,
}

impl BatchSize {
    /// Tokens in all.
    pub fn tokens(self) -> usize {
        self.rows * self.length
    }
}

/// What a pass keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Every layer's activations, for the backward pass.
    Training,
    /// One layer's, which all layers use in turn.
    Evaluation,
}

/// The slots of one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationLayout {
    batch: BatchSize,
    pass: Pass,
    spans: BTreeMap<Slot, Span>,
    elements: usize,
}

/// Tokens in a chunk of logits.
pub fn logit_rows(vocab: usize) -> usize {
    (CHUNK_ELEMENTS / vocab.max(1)).max(LEAST_CHUNK)
}

impl ActivationLayout {
    /// That of a batch of a model.
    pub fn new(shape: &ModelShape, batch: BatchSize, pass: Pass) -> Self {
        let mut layout = Self { batch, pass, spans: BTreeMap::new(), elements: 0 };
        let tokens = batch.tokens();
        let stream = tokens * shape.n_embd;
        // Also holds queries, keys and values with their gradients: keys are no wider than queries.
        let hidden = MLP_EXPANSION * stream;
        let angles = batch.length * head_dim(shape) / 2;
        let chunk = tokens.min(logit_rows(shape.vocab_size)) * shape.vocab_size;
        layout.push(Slot::Cosines, angles);
        layout.push(Slot::Sines, angles);
        layout.push(Slot::Embedded, stream);
        layout.push(Slot::EmbeddedInverse, tokens);
        layout.push(Slot::SmearSigma, tokens);
        (0..=shape.n_layer).for_each(|layer| layout.push(Slot::Stream(layer), stream));
        for layer in 0..if pass == Pass::Training { shape.n_layer } else { 1 } {
            let mixes = pass == Pass::Evaluation || has_value_embedding(layer, shape.n_layer);
            for slot in LAYER_SLOTS.into_iter().filter(|slot| mixes || *slot != LayerSlot::GateSigma) {
                layout.push(Slot::Layer(layer, slot), layer_elements(slot, shape, tokens));
            }
        }
        layout.push(Slot::Normed, stream);
        layout.push(Slot::FinalInverse, tokens);
        layout.push(Slot::Losses, tokens);
        layout.push(Slot::Logits, chunk);
        layout.push(Slot::Wide, hidden);
        if pass == Pass::Training {
            layout.push(Slot::WideGradient, hidden);
            for slot in [Slot::NormedGradient, Slot::StreamGradient, Slot::InputGradient, Slot::MiddleGradient] {
                layout.push(slot, stream);
            }
            layout.push(Slot::Delta, tokens * shape.n_head);
            layout.push(Slot::Gates, tokens * shape.n_kv_head);
        }
        layout
    }

    fn push(&mut self, slot: Slot, len: usize) {
        self.spans.insert(slot, Span { offset: self.elements, len });
        self.elements = (self.elements + len).next_multiple_of(ALIGNMENT);
    }

    /// The batch that it is for.
    pub fn batch(&self) -> BatchSize {
        self.batch
    }

    /// What the pass keeps.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// Elements of the arena, padding included.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Where a slot lies; an evaluation's layers share the first one's. None where the pass has no such slot.
    pub fn get(&self, slot: Slot) -> Option<Span> {
        let slot = match (slot, self.pass) {
            (Slot::Layer(_, of_layer), Pass::Evaluation) => Slot::Layer(0, of_layer),
            _ => slot,
        };
        self.spans.get(&slot).copied()
    }

    /// All slots, in order of their name.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Span)> + '_ {
        self.spans.iter().map(|(slot, span)| (*slot, *span))
    }
}

/// Elements of a layer's slot.
fn layer_elements(slot: LayerSlot, shape: &ModelShape, tokens: usize) -> usize {
    match slot {
        LayerSlot::Normed | LayerSlot::Query | LayerSlot::Attended | LayerSlot::MlpNormed => tokens * shape.n_embd,
        LayerSlot::Key | LayerSlot::Value => tokens * kv_dim(shape),
        LayerSlot::Inverse | LayerSlot::MlpInverse => tokens,
        LayerSlot::QueryInverse | LayerSlot::LogSum => tokens * shape.n_head,
        LayerSlot::KeyInverse | LayerSlot::GateSigma => tokens * shape.n_kv_head,
        LayerSlot::Hidden => tokens * MLP_EXPANSION * shape.n_embd,
    }
}
