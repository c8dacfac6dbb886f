//! What a network needs on a device, and where it lies: one allocation an arena.

use nanochat_plan::Precision;
use nanochat_plan::gpu::{COEFFICIENT_BYTES, GpuSizes};
use nanochat_step::{Arena, MuonMember, Network, Region};

use crate::{Address, Device, DeviceError, Dtype};

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
        let precision = match storage {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        };
        let sizes = GpuSizes::new(network.shape(), network.activations().batch(), micro_steps, precision);
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
