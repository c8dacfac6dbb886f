//! A model's layouts with the regions that operations take.

use nanochat_plan::ModelShape;
use nanochat_plan::activations::{ActivationLayout, BatchSize, Chunks, LayerSlot, Pass, Slot, Storage};
use nanochat_plan::parameters::{LayerMatrix, Parameter, ParameterLayout};
use nanochat_plan::shape::{head_dim, kv_dim, window_sizes};

use super::ops::{Arena, Attention, Heads, Matrix, Op, Ops, QueryKeyValue, Region, Smear, ValueMix, WriteMode};

/// A model for one size of batch: everything that decides the sequence of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub(crate) shape: ModelShape,
    pub(crate) parameters: ParameterLayout,
    pub(crate) activations: ActivationLayout,
    pub(crate) windows: Vec<usize>,
    pub(crate) micro_steps: usize,
}

impl Network {
    /// For passes of that kind over batches of that size, `micro_steps` of which make a training step, on a processor.
    pub fn new(shape: &ModelShape, batch: BatchSize, pass: Pass, micro_steps: usize) -> Self {
        Self::with_chunks(shape, batch, pass, micro_steps, Chunks::CPU)
    }

    /// The same, with logits in such chunks.
    pub fn with_chunks(shape: &ModelShape, batch: BatchSize, pass: Pass, micro_steps: usize, chunks: Chunks) -> Self {
        Self {
            shape: shape.clone(),
            parameters: ParameterLayout::new(shape),
            activations: ActivationLayout::new(shape, batch, pass, chunks),
            windows: window_sizes(shape),
            micro_steps,
        }
    }

    /// The arenas that its passes need, with their elements; an optimizer needs those of moments besides.
    pub fn arenas(&self) -> Vec<(Arena, usize)> {
        let elements = self.parameters.elements();
        let mut arenas = vec![
            (Arena::Weights, elements),
            (Arena::Activations, self.activations.elements(Storage::Working)),
            (Arena::Factors, self.activations.elements(Storage::Full)),
        ];
        if self.activations.pass() == Pass::Training {
            arenas.extend([(Arena::Gradients, elements), (Arena::Losses, self.micro_steps)]);
        }
        arenas
    }

    /// The arenas of an optimizer's moments, with their elements.
    pub fn moments(&self) -> [(Arena, usize); 2] {
        [(Arena::First, self.parameters.elements()), (Arena::Second, self.parameters.second_elements())]
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// The parameters.
    pub fn parameters(&self) -> &ParameterLayout {
        &self.parameters
    }

    /// The activations.
    pub fn activations(&self) -> &ActivationLayout {
        &self.activations
    }

    /// Tokens of a batch.
    pub(crate) fn tokens(&self) -> usize {
        self.activations.batch().tokens()
    }

    /// Channels of the stream.
    pub(crate) fn width(&self) -> usize {
        self.shape.n_embd
    }

    /// Elements of the stream.
    pub(crate) fn stream_elements(&self) -> usize {
        self.tokens() * self.width()
    }

    /// Elements of all keys.
    pub(crate) fn key_elements(&self) -> usize {
        self.tokens() * kv_dim(&self.shape)
    }

    /// Whether the shape has that parameter.
    pub(crate) fn has(&self, parameter: Parameter) -> bool {
        self.parameters.get(parameter).is_some()
    }

    /// A parameter, which the shape must have.
    pub fn weight(&self, parameter: Parameter) -> Region {
        self.of(Arena::Weights, parameter)
    }

    /// A parameter's gradient.
    pub fn gradient(&self, parameter: Parameter) -> Region {
        self.of(Arena::Gradients, parameter)
    }

    fn of(&self, arena: Arena, parameter: Parameter) -> Region {
        let entry = self.parameters.get(parameter);
        let entry = entry.unwrap_or_else(|| unreachable!("the step asks for {parameter:?}, which the shape lacks"));
        Region::new(arena, entry.span)
    }

    /// All gradients.
    pub fn gradients(&self) -> Region {
        Region { arena: Arena::Gradients, offset: 0, len: self.parameters.elements() }
    }

    /// The mean losses of a step's micro-steps.
    pub fn mean_losses(&self) -> Region {
        Region { arena: Arena::Losses, offset: 0, len: self.micro_steps }
    }

    /// A buffer, which the pass must have.
    pub fn slot(&self, slot: Slot) -> Region {
        let span = self.activations.get(slot);
        let span = span.unwrap_or_else(|| unreachable!("the step asks for {slot:?}, which the pass lacks"));
        let arena = match slot.storage() {
            Storage::Working => Arena::Activations,
            Storage::Full => Arena::Factors,
        };
        Region::new(arena, span)
    }

    /// A layer's buffer.
    pub(crate) fn kept(&self, layer: usize, slot: LayerSlot) -> Region {
        self.slot(Slot::Layer(layer, slot))
    }

    /// The layer after which the stream is kept for the backout.
    pub(crate) fn middle(&self) -> usize {
        self.shape.n_layer / 2
    }

    /// Cosines and sines of the rotary angles.
    pub(crate) fn angles(&self) -> [Region; 2] {
        [Slot::Cosines, Slot::Sines].map(|slot| self.slot(slot))
    }

    /// The query heads.
    pub(crate) fn query_heads(&self) -> Heads {
        Heads { count: self.shape.n_head, ..self.key_heads() }
    }

    /// The key/value heads.
    pub(crate) fn key_heads(&self) -> Heads {
        let length = self.activations.batch().length;
        Heads { length, count: self.shape.n_kv_head, size: head_dim(&self.shape) }
    }

    /// A layer's attention.
    pub(crate) fn attention(&self, layer: usize) -> Attention {
        let batch = self.activations.batch();
        let (heads, groups, size) = (self.shape.n_head, self.shape.n_kv_head, head_dim(&self.shape));
        Attention { rows: batch.rows, length: batch.length, heads, groups, size, window: self.windows[layer] }
    }

    /// λ and λ₀ of a layer.
    pub(crate) fn lambdas(&self, arena: Arena, layer: usize) -> [Region; 2] {
        [Parameter::ResidualScalars, Parameter::InputScalars].map(|scalars| self.of(arena, scalars).element(layer))
    }

    /// A layer's value embedding and gate.
    pub(crate) fn value_mix(&self, layer: usize) -> ValueMix {
        ValueMix {
            table: self.weight(Parameter::ValueEmbedding(layer)),
            gate: self.weight(Parameter::ValueGate(layer)),
            sigma: self.kept(layer, LayerSlot::GateSigma),
        }
    }

    /// What leads to a layer's queries, keys and values.
    pub(crate) fn query_key_value(&self, layer: usize) -> QueryKeyValue {
        let matrices = [LayerMatrix::Query, LayerMatrix::Key, LayerMatrix::Value];
        QueryKeyValue {
            x: self.kept(layer, LayerSlot::Normed),
            width: self.width(),
            weights: matrices.map(|matrix| self.matrix(Arena::Weights, layer, matrix)),
            angles: self.angles(),
            queries: self.query_heads(),
            keys: self.key_heads(),
            qkv: self.kept(layer, LayerSlot::QueryKeyValue),
            inverses: [LayerSlot::QueryInverse, LayerSlot::KeyInverse].map(|slot| self.kept(layer, slot)),
            mix: self.has(Parameter::ValueEmbedding(layer)).then(|| self.value_mix(layer)),
        }
    }

    /// The smear's parameters.
    pub(crate) fn smear(&self) -> Smear {
        Smear {
            gate: self.weight(Parameter::SmearGate),
            lambda: self.weight(Parameter::SmearScalar),
            length: self.activations.batch().length,
            width: self.width(),
        }
    }

    /// A layer's matrix with rows and columns.
    pub(crate) fn matrix(&self, arena: Arena, layer: usize, matrix: LayerMatrix) -> Matrix {
        let parameter = Parameter::Layer(layer, matrix);
        let entry = self.parameters.get(parameter);
        let (rows, columns) = entry.map_or((0, 0), |entry| (entry.rows, entry.columns));
        Matrix::new(self.of(arena, parameter), rows, columns)
    }

    /// `y` becomes, or gains, `x` times the transposed matrix.
    pub(crate) fn project(
        &self,
        ops: &mut impl Ops,
        (layer, matrix): (usize, LayerMatrix),
        x: Region,
        y: Region,
        mode: WriteMode,
    ) {
        let weight = self.matrix(Arena::Weights, layer, matrix);
        let x = Matrix::new(x, self.tokens(), weight.columns);
        ops.run(&Op::Product { a: x, b: weight.transposed(), out: y, mode });
    }

    /// `dx` becomes the gradient of a matrix's input.
    pub(crate) fn input_gradient(
        &self,
        ops: &mut impl Ops,
        (layer, matrix): (usize, LayerMatrix),
        dy: Region,
        dx: Region,
    ) {
        let weight = self.matrix(Arena::Weights, layer, matrix);
        let dy = Matrix::new(dy, self.tokens(), weight.rows);
        ops.run(&Op::Product { a: dy, b: weight, out: dx, mode: WriteMode::Overwrite });
    }

    /// A matrix's gradient gains that of this batch.
    pub(crate) fn weight_gradient(
        &self,
        ops: &mut impl Ops,
        (layer, matrix): (usize, LayerMatrix),
        dy: Region,
        x: Region,
    ) {
        let gradient = self.matrix(Arena::Gradients, layer, matrix);
        let dy = Matrix::new(dy, self.tokens(), gradient.rows).transposed();
        let x = Matrix::new(x, self.tokens(), gradient.columns);
        ops.run(&Op::Product { a: dy, b: x, out: gradient.region, mode: WriteMode::Accumulate });
    }
}
