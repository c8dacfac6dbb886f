//! What a network needs on a device, and where it lies: one allocation an arena.

use nanochat_plan::ModelShape;
use nanochat_plan::activations::{ActivationLayout, BatchSize, Chunks, Pass, Storage};
use nanochat_plan::parameters::{MuonGroup, ParameterLayout};
use nanochat_plan::shape::{SMEAR_CHANNELS, VALUE_GATE_CHANNELS, kv_dim};
use nanochat_step::{Arena, MuonMember, Network, Region};

use crate::batch::Places;
use crate::{Address, Device, DeviceError, Dtype};

/// Most blocks of a kernel that sums over rows.
pub(crate) const SUM_BLOCKS: usize = 1024;
/// Blocks that a gate's gradient is summed by.
pub(crate) const GATE_BLOCKS: usize = 512;
/// Bytes of the optimizer's coefficients (`Coefficients` in `kernels/plain.inc`).
pub(crate) const COEFFICIENT_BYTES: usize = 192;
/// Bytes of a Muon member (`Member` in `kernels/plain.inc`).
pub(crate) const MEMBER_BYTES: usize = 40;

/// Sizes in bytes of all that is allocated, a pure function of shape, batch and storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) weights: usize,
    pub(crate) copies: usize,
    pub(crate) second: usize,
    pub(crate) activations: usize,
    pub(crate) factors: usize,
    pub(crate) losses: usize,
    pub(crate) batch: usize,
    pub(crate) partials: usize,
    pub(crate) row_partials: usize,
    pub(crate) muon_factors: usize,
    pub(crate) members: usize,
}

impl Sizes {
    pub(crate) fn new(shape: &ModelShape, batch: BatchSize, micro_steps: usize, storage: Dtype) -> Self {
        let parameters = ParameterLayout::new(shape);
        let layout = ActivationLayout::new(shape, batch, Pass::Training, Chunks::GPU);
        let places = Places::new(batch.tokens(), shape.vocab_size);
        let groups = parameters.muon_groups();
        let working = layout.elements(Storage::Working).max(muon_elements(&groups));
        let gates = GATE_BLOCKS * SMEAR_CHANNELS.max(shape.n_kv_head * VALUE_GATE_CHANNELS);
        let longest = |group: &MuonGroup| group.members.len() * group.rows.max(group.columns);
        Self {
            weights: 4 * parameters.elements(),
            copies: if storage == Dtype::Bf16 { 2 * parameters.elements() } else { 0 },
            second: 4 * parameters.second_elements(),
            activations: storage.bytes() * working,
            factors: 4 * layout.elements(Storage::Full),
            losses: 4 * micro_steps,
            batch: places.end,
            partials: 4 * gates.max(2 * SUM_BLOCKS),
            row_partials: 4 * places.most_partials * shape.n_embd.max(kv_dim(shape)),
            muon_factors: 8 * groups.iter().map(longest).max().unwrap_or(0),
            members: MEMBER_BYTES * groups.iter().map(|group| group.members.len()).sum::<usize>(),
        }
    }

    fn total(&self) -> usize {
        // Weights, gradients and first moments are of one size.
        3 * self.weights
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
            + COEFFICIENT_BYTES
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

/// Bytes that the engine allocates on a device; libraries have workspaces besides.
pub fn device_bytes(shape: &ModelShape, batch: BatchSize, micro_steps: usize, storage: Dtype) -> u64 {
    Sizes::new(shape, batch, micro_steps, storage).total() as u64
}

/// Where everything lies on a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceMemory {
    pub(crate) storage: Dtype,
    weights: Address,
    gradients: Address,
    first: Address,
    second: Address,
    activations: Address,
    factors: Address,
    losses: Address,
    /// Weights in bf16; nowhere where the storage is f32.
    copies: Address,
    pub(crate) batch: Address,
    pub(crate) partials: Address,
    pub(crate) row_partials: Address,
    pub(crate) muon_factors: Address,
    pub(crate) members: Address,
    pub(crate) coefficients: Address,
}

impl DeviceMemory {
    /// Allocates everything for training a network.
    pub(crate) fn new(
        device: &mut impl Device,
        network: &Network,
        micro_steps: usize,
        storage: Dtype,
    ) -> Result<Self, DeviceError> {
        let sizes = Sizes::new(network.shape(), network.activations().batch(), micro_steps, storage);
        let mut allocate = |bytes: usize| {
            if bytes == 0 { Ok(Address::NOWHERE) } else { device.allocate(bytes) }
        };
        Ok(Self {
            storage,
            weights: allocate(sizes.weights)?,
            gradients: allocate(sizes.weights)?,
            first: allocate(sizes.weights)?,
            second: allocate(sizes.second)?,
            activations: allocate(sizes.activations)?,
            factors: allocate(sizes.factors)?,
            losses: allocate(sizes.losses)?,
            copies: allocate(sizes.copies)?,
            batch: allocate(sizes.batch)?,
            partials: allocate(sizes.partials)?,
            row_partials: allocate(sizes.row_partials)?,
            muon_factors: allocate(sizes.muon_factors)?,
            members: allocate(sizes.members)?,
            coefficients: allocate(COEFFICIENT_BYTES)?,
        })
    }

    /// How an arena's elements are stored.
    pub fn dtype(&self, arena: Arena) -> Dtype {
        if arena == Arena::Activations { self.storage } else { Dtype::F32 }
    }

    /// Where a region begins.
    pub fn at(&self, region: Region) -> Address {
        let base = match region.arena {
            Arena::Weights => self.weights,
            Arena::Gradients => self.gradients,
            Arena::First => self.first,
            Arena::Second => self.second,
            Arena::Activations => self.activations,
            Arena::Factors => self.factors,
            Arena::Losses => self.losses,
        };
        base.plus(region.offset * self.dtype(region.arena).bytes())
    }

    /// The copy of a weight in bf16, or nowhere.
    pub(crate) fn copy(&self, weight: Region) -> Address {
        debug_assert_eq!(weight.arena, Arena::Weights);
        if self.copies == Address::NOWHERE { self.copies } else { self.copies.plus(2 * weight.offset) }
    }

    /// Where a region lies as the operand of products and gathers: of weights, their copies.
    pub(crate) fn operand(&self, region: Region) -> Address {
        match region.arena {
            Arena::Weights if self.copies != Address::NOWHERE => self.copy(region),
            _ => self.at(region),
        }
    }

    /// Where the activations begin, as a workspace of the optimizer.
    pub(crate) fn workspace(&self) -> Address {
        self.activations
    }

    /// A Muon member's addresses, as kernels take them.
    pub(crate) fn member(&self, member: &MuonMember) -> [u64; 5] {
        let MuonMember { parameter, gradient, momentum, second } = *member;
        [self.at(parameter), self.at(gradient), self.at(momentum), self.at(second), self.copy(parameter)].map(|at| at.0)
    }
}
