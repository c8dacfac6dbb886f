//! What the engine for GPUs allocates, as a pure function of shape, batch and precision.

use super::activations::{ActivationLayout, BatchSize, Chunks, Pass, Storage};
use super::parameters::{MuonGroup, ParameterLayout};
use super::shape::{SMEAR_CHANNELS, VALUE_GATE_CHANNELS, kv_dim};
use super::{ModelShape, Precision};

/// Tokens of one id that one block sums; more are summed in pieces, and the pieces in order.
pub const PIECE: usize = 64;
/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes that each part of a batch begins at a multiple of.
const ALIGNMENT: usize = 256;
/// Bytes of the products' workspace.
pub const PRODUCT_WORKSPACE: usize = 32 << 20;
/// Most blocks of a kernel that sums over rows.
pub const SUM_BLOCKS: usize = 1024;
/// Blocks that a gate's gradient is summed by.
pub const GATE_BLOCKS: usize = 512;
/// Bytes of the optimizer's coefficients (`Coefficients` in `kernels/plain.inc`).
pub const COEFFICIENT_BYTES: usize = 192;
/// Bytes of a Muon member (`Member` in `kernels/plain.inc`).
pub const MEMBER_BYTES: usize = 40;

/// Where the parts of the block lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlaces {
    /// Token ids.
    pub ids: usize,
    /// Targets.
    pub targets: usize,
    /// Tokens by id.
    pub order: usize,
    /// Pieces of the embeddings' gradient.
    pub pieces: usize,
    /// Ids with several pieces.
    pub joins: usize,
    /// The end.
    pub end: usize,
    /// Most pieces.
    pub most_pieces: usize,
    /// Most ids with several pieces.
    pub most_joins: usize,
    /// Most pieces that are summed apart from the table.
    pub most_partials: usize,
}

impl BatchPlaces {
    /// Of so many tokens of a vocabulary.
    pub fn new(tokens: usize, vocab: usize) -> Self {
        let most_joins = tokens / (PIECE + 1);
        // A piece is whole, or the last of its id.
        let most_pieces = tokens / PIECE + tokens.min(vocab);
        let most_partials = tokens / PIECE + most_joins;
        let mut end = HEADER_BYTES;
        let mut place = |bytes: usize| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + bytes;
            start
        };
        let [ids, targets, order] = [4 * tokens; 3].map(&mut place);
        let [pieces, joins] = [16 * most_pieces, 16 * most_joins].map(&mut place);
        Self { ids, targets, order, pieces, joins, end, most_pieces, most_joins, most_partials }
    }
}

/// Sizes in bytes of all that is allocated, a pure function of shape, batch and storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuSizes {
    /// Weights, and as much again for gradients and for first moments.
    pub weights: usize,
    /// Weights in bf16.
    pub copies: usize,
    /// Second moments.
    pub second: usize,
    /// Activations and workspaces.
    pub activations: usize,
    /// What is kept in f32.
    pub factors: usize,
    /// Mean losses.
    pub losses: usize,
    /// One batch.
    pub batch: usize,
    /// Sums of blocks.
    pub partials: usize,
    /// Sums of an embedding's gradient in pieces.
    pub row_partials: usize,
    /// Muon's sums of squares and factors.
    pub muon_factors: usize,
    /// Addresses of Muon's matrices.
    pub members: usize,
}

impl GpuSizes {
    /// Of training with batches of that size, `micro_steps` of which make a step.
    pub fn new(shape: &ModelShape, batch: BatchSize, micro_steps: usize, precision: Precision) -> Self {
        let parameters = ParameterLayout::new(shape);
        let layout = ActivationLayout::new(shape, batch, Pass::Training, Chunks::GPU);
        let element = if precision == Precision::Bf16 { 2 } else { 4 };
        let places = BatchPlaces::new(batch.tokens(), shape.vocab_size);
        let groups = parameters.muon_groups();
        let working = layout.elements(Storage::Working).max(muon_elements(&groups));
        let gates = GATE_BLOCKS * SMEAR_CHANNELS.max(shape.n_kv_head * VALUE_GATE_CHANNELS);
        let longest = |group: &MuonGroup| group.members.len() * group.rows.max(group.columns);
        Self {
            weights: 4 * parameters.elements(),
            copies: if precision == Precision::Bf16 { 2 * parameters.elements() } else { 0 },
            second: 4 * parameters.second_elements(),
            activations: element * working,
            factors: 4 * layout.elements(Storage::Full),
            losses: 4 * micro_steps,
            batch: places.end,
            partials: 4 * gates.max(2 * SUM_BLOCKS),
            row_partials: 4 * places.most_partials * shape.n_embd.max(kv_dim(shape)),
            muon_factors: 8 * groups.iter().map(longest).max().unwrap_or(0),
            members: MEMBER_BYTES * groups.iter().map(|group| group.members.len()).sum::<usize>(),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        // Weights, gradients and first moments are of one size.
        let total = 3 * self.weights
            + self.copies
            + self.second
            + self.activations
            + self.factors
            + self.losses
            + self.batch
            + self.partials
            + self.row_partials
            + self.muon_factors
            + self.members
            + COEFFICIENT_BYTES;
        total as u64
    }
}

/// Elements that Polar Express works on for the largest group: its matrices twice, and two squares of the smaller side each. They
/// lie where activations do, which nobody needs during the optimizer's step.
fn muon_elements(groups: &[MuonGroup]) -> usize {
    let of = |group: &MuonGroup| {
        let small = group.rows.min(group.columns);
        group.members.len() * (2 * group.rows * group.columns + 2 * small * small)
    };
    groups.iter().map(of).max().unwrap_or(0)
}

/// Bytes that libraries work in besides: products' workspace; attention's gradient of queries in f32 and, where the same bits are
/// asked for, its scores' gradients in bf16.
pub fn library_bytes(shape: &ModelShape, batch: BatchSize) -> u64 {
    let scores = 2 * shape.n_head * batch.length * batch.tokens();
    (PRODUCT_WORKSPACE + scores + 4 * batch.tokens() * shape.n_embd) as u64
}
