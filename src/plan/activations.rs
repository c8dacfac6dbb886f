//! Activations and workspaces of a pass as slots of two arenas, one a kind of storage: which there are, and where each lies, as a pure function of
//! shape and batch. What a pass allocates is exactly this.

use std::collections::BTreeMap;

use super::ModelShape;
use super::parameters::{ALIGNMENT, Span};
use super::shape::{MLP_EXPANSION, has_value_embedding, head_dim, kv_dim, padded_vocab_size};

/// The least tokens of a chunk of logits.
const LEAST_CHUNK: usize = 64;

/// How logits are taken in chunks of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Most elements of a chunk.
    elements: usize,
    /// Whether a row has the padded vocabulary, so that rows begin at even addresses.
    padded: bool,
}

impl Chunks {
    /// On a processor a chunk should stay in the caches.
    pub const CPU: Self = Self { elements: 1 << 22, padded: false };
    /// On a GPU products want many rows: 8,192 of a vocabulary of 32,768, half a GiB in bf16.
    pub const GPU: Self = Self { elements: 1 << 28, padded: true };

    /// Elements of a row.
    pub fn columns(self, vocab: usize) -> usize {
        if self.padded { padded_vocab_size(vocab) } else { vocab }
    }
}

/// How a slot is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// In the run's precision: streams, and what products read and write.
    Working,
    /// In f32 always: factors of norms, sigmoids, logarithms, losses, angles. One element a token, or fewer.
    Full,
}

/// What a layer keeps for its backward pass. Inverse roots and sigmoids have one element a token (and head).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerSlot {
    /// Normalised input of attention, token-major.
    Normed,
    /// Factors of that norm.
    Inverse,
    /// Queries, keys and values as attention takes them, in an order that whoever carries operations out chooses.
    QueryKeyValue,
    /// Factors of the queries' norm.
    QueryInverse,
    /// Factors of the keys' norm.
    KeyInverse,
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
const LAYER_SLOTS: [LayerSlot; 11] = [
    LayerSlot::Normed,
    LayerSlot::Inverse,
    LayerSlot::QueryKeyValue,
    LayerSlot::QueryInverse,
    LayerSlot::KeyInverse,
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

impl Slot {
    /// How it is stored.
    pub fn storage(self) -> Storage {
        match self {
            Self::Cosines
            | Self::Sines
            | Self::EmbeddedInverse
            | Self::SmearSigma
            | Self::FinalInverse
            | Self::Losses
            | Self::Delta
            | Self::Gates
            | Self::Layer(
                _,
                LayerSlot::Inverse
                | LayerSlot::QueryInverse
                | LayerSlot::KeyInverse
                | LayerSlot::GateSigma
                | LayerSlot::LogSum
                | LayerSlot::MlpInverse,
            ) => Storage::Full,
            _ => Storage::Working,
        }
    }
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
    working: usize,
    full: usize,
}

impl ActivationLayout {
    /// That of a batch of a model, with logits in such chunks.
    pub fn new(shape: &ModelShape, batch: BatchSize, pass: Pass, chunks: Chunks) -> Self {
        let mut layout = Self { batch, pass, spans: BTreeMap::new(), working: 0, full: 0 };
        let tokens = batch.tokens();
        let stream = tokens * shape.n_embd;
        // Also holds queries, keys and values with their gradients: keys are no wider than queries.
        let hidden = MLP_EXPANSION * stream;
        let angles = batch.length * head_dim(shape) / 2;
        let columns = chunks.columns(shape.vocab_size);
        let chunk = tokens.min((chunks.elements / columns.max(1)).max(LEAST_CHUNK)) * columns;
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
        let elements = match slot.storage() {
            Storage::Working => &mut self.working,
            Storage::Full => &mut self.full,
        };
        self.spans.insert(slot, Span { offset: *elements, len });
        *elements = (*elements + len).next_multiple_of(ALIGNMENT);
    }

    /// The batch that it is for.
    pub fn batch(&self) -> BatchSize {
        self.batch
    }

    /// What the pass keeps.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// Elements of all slots that are stored so, padding included.
    pub fn elements(&self, storage: Storage) -> usize {
        match storage {
            Storage::Working => self.working,
            Storage::Full => self.full,
        }
    }

    /// Where a slot lies among those stored as it is; an evaluation's layers share the first one's. None where the pass has no such slot.
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
        LayerSlot::Normed | LayerSlot::Attended | LayerSlot::MlpNormed => tokens * shape.n_embd,
        LayerSlot::QueryKeyValue => tokens * (shape.n_embd + 2 * kv_dim(shape)),
        LayerSlot::Inverse | LayerSlot::MlpInverse => tokens,
        LayerSlot::QueryInverse | LayerSlot::LogSum => tokens * shape.n_head,
        LayerSlot::KeyInverse | LayerSlot::GateSigma => tokens * shape.n_kv_head,
        LayerSlot::Hidden => tokens * MLP_EXPANSION * shape.n_embd,
    }
}
