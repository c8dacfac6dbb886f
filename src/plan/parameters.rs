//! The model's parameters as one typed layout: which there are, their shapes, how each is optimized, and where it lies in a
//! flat arena.
//!
//! Parameters lie in the order in which the backward pass finishes their gradients, so that whoever reduces gradients over
//! devices can begin before it ends. A parameter that a shape doesn't have is absent from the layout. Names
//! exist for files and messages only ([`Parameter::name`]).

use std::collections::BTreeMap;

use super::ModelShape;
use super::shape::{
    MLP_EXPANSION, SMEAR_CHANNELS, VALUE_GATE_CHANNELS, has_value_embedding, kv_dim, padded_vocab_size,
};

/// Elements that every tensor of an arena is aligned to: 256 bytes of f32, what GPUs read at once.
pub const ALIGNMENT: usize = 64;

/// A matrix of every layer, (outputs, inputs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerMatrix {
    /// Queries (`attn.c_q`).
    Query,
    /// Keys (`attn.c_k`).
    Key,
    /// Values (`attn.c_v`).
    Value,
    /// Attention's output (`attn.c_proj`).
    AttentionOutput,
    /// The MLP's input (`mlp.c_fc`).
    MlpInput,
    /// The MLP's output (`mlp.c_proj`).
    MlpOutput,
}

/// A parameter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    /// Token embedding (padded vocabulary, width).
    TokenEmbedding,
    /// Output projection (padded vocabulary, width).
    Head,
    /// Factors on the residual stream, one a layer.
    ResidualScalars,
    /// Factors on the smeared embeddings, one a layer.
    InputScalars,
    /// Weights of the smear's gate (1, gate channels).
    SmearGate,
    /// Factor on the smear.
    SmearScalar,
    /// Factor on the middle layer's output.
    BackoutScalar,
    /// A matrix of a layer.
    Layer(usize, LayerMatrix),
    /// Weights of a layer's value gate (key/value heads, gate channels).
    ValueGate(usize),
    /// A layer's value embedding (padded vocabulary, width of keys).
    ValueEmbedding(usize),
}

impl Parameter {
    /// The baseline's name of it.
    pub fn name(self) -> String {
        let of_layer = |layer: usize, matrix: &str| format!("transformer.h.{layer}.{matrix}.weight");
        match self {
            Self::TokenEmbedding => "transformer.wte.weight".into(),
            Self::Head => "lm_head.weight".into(),
            Self::ResidualScalars => "resid_lambdas".into(),
            Self::InputScalars => "x0_lambdas".into(),
            Self::SmearGate => "smear_gate.weight".into(),
            Self::SmearScalar => "smear_lambda".into(),
            Self::BackoutScalar => "backout_lambda".into(),
            Self::ValueGate(layer) => of_layer(layer, "attn.ve_gate"),
            Self::ValueEmbedding(layer) => format!("value_embeds.{layer}.weight"),
            Self::Layer(layer, matrix) => of_layer(
                layer,
                match matrix {
                    LayerMatrix::Query => "attn.c_q",
                    LayerMatrix::Key => "attn.c_k",
                    LayerMatrix::Value => "attn.c_v",
                    LayerMatrix::AttentionOutput => "attn.c_proj",
                    LayerMatrix::MlpInput => "mlp.c_fc",
                    LayerMatrix::MlpOutput => "mlp.c_proj",
                },
            ),
        }
    }
}

/// How a parameter is optimized (`setup_optimizer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// AdamW: the output projection.
    Head,
    /// AdamW: the token embedding.
    TokenEmbedding,
    /// AdamW: value embeddings.
    ValueEmbeddings,
    /// AdamW: residual scalars.
    ResidualScalars,
    /// AdamW: input scalars.
    InputScalars,
    /// AdamW: smear and backout.
    Smear,
    /// Muon, together with all matrices of the same shape.
    Muon,
}

/// Elements of a flat arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first one.
    pub offset: usize,
    /// How many.
    pub len: usize,
}

/// One parameter of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which it is.
    pub parameter: Parameter,
    /// Rows, of a matrix; 1 of a vector.
    pub rows: usize,
    /// Columns, or elements of a vector.
    pub columns: usize,
    /// Whether it is a vector.
    pub is_vector: bool,
    /// How it is optimized.
    pub group: Group,
    /// Where it lies in the arenas of weights, gradients and first moments.
    pub span: Span,
    /// Where its second moment lies in an arena of its own: as many elements, or, of Muon's, one a row of a tall or square
    /// matrix and one a column of a wide one.
    pub second: Span,
}

impl Entry {
    /// Its dimensions as the baseline has them.
    pub fn dims(&self) -> Vec<usize> {
        if self.is_vector { vec![self.columns] } else { vec![self.rows, self.columns] }
    }

    /// Dimensions of its second moment as the baseline has them.
    pub fn second_dims(&self) -> Vec<usize> {
        match self.group {
            Group::Muon if self.rows >= self.columns => vec![self.rows, 1],
            Group::Muon => vec![1, self.columns],
            _ => self.dims(),
        }
    }
}

/// Matrices of one shape, which Muon steps together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuonGroup {
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// Their entries in the layout.
    pub members: Vec<usize>,
}

/// All parameters of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterLayout {
    entries: Vec<Entry>,
    places: BTreeMap<Parameter, usize>,
    elements: usize,
    second_elements: usize,
}

impl ParameterLayout {
    /// That of a shape.
    pub fn new(shape: &ModelShape) -> Self {
        let mut layout = Self { entries: Vec::new(), places: BTreeMap::new(), elements: 0, second_elements: 0 };
        let vocab = padded_vocab_size(shape.vocab_size);
        let (width, kv, hidden) = (shape.n_embd, kv_dim(shape), MLP_EXPANSION * shape.n_embd);
        layout.matrix(Parameter::Head, [vocab, width], Group::Head);
        layout.vector(Parameter::BackoutScalar, 1, Group::Smear);
        for layer in (0..shape.n_layer).rev() {
            let matrices = [
                (LayerMatrix::MlpOutput, [width, hidden]),
                (LayerMatrix::MlpInput, [hidden, width]),
                (LayerMatrix::AttentionOutput, [width, width]),
                (LayerMatrix::Query, [width, width]),
                (LayerMatrix::Key, [kv, width]),
                (LayerMatrix::Value, [kv, width]),
            ];
            for (matrix, dims) in matrices {
                layout.matrix(Parameter::Layer(layer, matrix), dims, Group::Muon);
            }
            if has_value_embedding(layer, shape.n_layer) {
                layout.matrix(Parameter::ValueEmbedding(layer), [vocab, kv], Group::ValueEmbeddings);
                layout.matrix(Parameter::ValueGate(layer), [shape.n_kv_head, VALUE_GATE_CHANNELS], Group::Muon);
            }
        }
        layout.vector(Parameter::ResidualScalars, shape.n_layer, Group::ResidualScalars);
        layout.vector(Parameter::InputScalars, shape.n_layer, Group::InputScalars);
        layout.matrix(Parameter::SmearGate, [1, SMEAR_CHANNELS], Group::Smear);
        layout.vector(Parameter::SmearScalar, 1, Group::Smear);
        layout.matrix(Parameter::TokenEmbedding, [vocab, width], Group::TokenEmbedding);
        layout
    }

    fn matrix(&mut self, parameter: Parameter, [rows, columns]: [usize; 2], group: Group) {
        self.push(parameter, [rows, columns], group, false);
    }

    fn vector(&mut self, parameter: Parameter, len: usize, group: Group) {
        self.push(parameter, [1, len], group, true);
    }

    fn push(&mut self, parameter: Parameter, [rows, columns]: [usize; 2], group: Group, is_vector: bool) {
        let second = if group == Group::Muon { rows.max(columns) } else { rows * columns };
        let span = Span { offset: self.elements, len: rows * columns };
        let second = Span { offset: self.second_elements, len: second };
        self.elements = (span.offset + span.len).next_multiple_of(ALIGNMENT);
        self.second_elements = (second.offset + second.len).next_multiple_of(ALIGNMENT);
        self.places.insert(parameter, self.entries.len());
        self.entries.push(Entry { parameter, rows, columns, is_vector, group, span, second });
    }

    /// All entries, in the order of the arena.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a parameter; none where the shape has no such parameter.
    pub fn get(&self, parameter: Parameter) -> Option<&Entry> {
        self.places.get(&parameter).and_then(|place| self.entries.get(*place))
    }

    /// Elements of an arena of weights, gradients or first moments, padding included.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Elements of the arena of second moments, padding included.
    pub fn second_elements(&self) -> usize {
        self.second_elements
    }

    /// Parameters without padding.
    pub fn parameters(&self) -> usize {
        self.entries.iter().map(|entry| entry.span.len).sum()
    }

    /// Muon's groups, the largest matrices first.
    pub fn muon_groups(&self) -> Vec<MuonGroup> {
        let mut groups: Vec<MuonGroup> = Vec::new();
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.group == Group::Muon) {
            let same = |group: &&mut MuonGroup| group.rows == entry.rows && group.columns == entry.columns;
            match groups.iter_mut().find(same) {
                Some(group) => group.members.push(place),
                None => groups.push(MuonGroup { rows: entry.rows, columns: entry.columns, members: vec![place] }),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.rows * group.columns * group.rows.min(group.columns)));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::parameter_counts;

    fn shape(n_layer: usize, n_kv_head: usize) -> ModelShape {
        ModelShape {
            sequence_len: 32,
            vocab_size: 37,
            n_layer,
            n_head: 2,
            n_kv_head,
            n_embd: 32,
            window_pattern: "SL".into(),
        }
    }

    #[test]
    fn a_layout_has_the_planned_parameters_without_overlap() {
        for shape in [shape(1, 2), shape(4, 1), shape(5, 2)] {
            let layout = ParameterLayout::new(&shape);
            assert_eq!(layout.parameters() as u64, parameter_counts(&shape).total);
            let mut end = [0, 0];
            for entry in layout.entries() {
                for (span, end) in [entry.span, entry.second].into_iter().zip(&mut end) {
                    assert!(span.offset >= *end && span.offset.is_multiple_of(ALIGNMENT), "{entry:?}");
                    *end = span.offset + span.len;
                }
                assert_eq!(layout.get(entry.parameter), Some(entry));
            }
            assert!(end[0] <= layout.elements() && end[1] <= layout.second_elements());
            let names: std::collections::BTreeSet<String> =
                layout.entries().iter().map(|entry| entry.parameter.name()).collect();
            assert_eq!(names.len(), layout.entries().len());
        }
    }

    #[test]
    fn muon_steps_matrices_of_one_shape_together() {
        let layout = ParameterLayout::new(&shape(4, 1));
        let groups = layout.muon_groups();
        let sizes: Vec<_> = groups.iter().map(|group| (group.rows, group.columns, group.members.len())).collect();
        // Two MLP matrices, queries and outputs, keys and values, and gates in every second layer.
        assert_eq!(sizes, [(32, 128, 4), (128, 32, 4), (32, 32, 8), (16, 32, 8), (1, 12, 2)]);
    }
}
