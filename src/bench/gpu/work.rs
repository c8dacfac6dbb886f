//! Weights, ids and passes to measure with: numbers that look random, the same every time.

use nanochat_gpu::{Device, DeviceError, GpuOps};
use nanochat_plan::activations::Slot;
use nanochat_plan::parameters::Group;
use nanochat_plan::shape::head_dim;
use nanochat_step::{Batch, LearningRates, Network, Optimizer};

/// Micro-steps that memory is set up for.
pub(super) const MICRO_STEPS: usize = 2;
/// The baseline's defaults.
pub(super) const RATES: LearningRates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };

/// Numbers in −1 … 1.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 * (-23f32).exp2() - 1.0
    }
}

/// Fills weights and rotary angles, and tells the device of the optimizer's groups.
pub(super) fn load<D: Device>(network: &Network, ops: &mut GpuOps<D>) -> Result<(), DeviceError> {
    let mut next = numbers(3);
    for entry in network.parameters().entries() {
        // As large as weights in training are, so that nothing saturates.
        let scale = if entry.group == Group::ResidualScalars { 1.0 } else { (entry.columns as f32).sqrt().recip() };
        let region = network.weight(entry.parameter);
        let weights: Vec<f32> = (0..region.len).map(|_| scale * next()).collect();
        ops.write(region, &weights)?;
    }
    let half = head_dim(network.shape()) / 2;
    for (slot, of) in [(Slot::Cosines, f64::cos as fn(f64) -> f64), (Slot::Sines, f64::sin)] {
        let region = network.slot(slot);
        let angle = |place: usize| (place / half) as f64 * 1e5f64.powf(-((place % half) as f64) / half as f64);
        let angles: Vec<f32> = (0..region.len).map(|place| of(angle(place)) as f32).collect();
        ops.write(region, &angles)?;
    }
    ops.load_optimizer(&optimizer(network))
}

/// The optimizer of a network.
pub(super) fn optimizer(network: &Network) -> Optimizer {
    Optimizer::new(network.parameters(), network.shape().n_embd, RATES)
}

/// One micro-step over some ids.
pub(super) fn micro_step<D: Device>(network: &Network, ops: &mut GpuOps<D>, number: usize) {
    let (ids, targets) = ids(network, number);
    network.micro_step(ops, Batch { ids: &ids, targets: &targets, number }, 1.0 / MICRO_STEPS as f64);
}

/// Ids and targets, of which every fifth is ignored.
pub(super) fn ids(network: &Network, number: usize) -> (Vec<i32>, Vec<i32>) {
    let mut next = numbers(7 + number as u64);
    let (tokens, vocab) = (network.activations().batch().tokens(), network.shape().vocab_size);
    let mut id = || (((next() + 1.0) / 2.0 * vocab as f32) as usize).min(vocab - 1) as i32;
    let ids = (0..tokens).map(|_| id()).collect();
    let targets = (0..tokens).map(|token| if token % 5 == 4 { -1 } else { id() }).collect();
    (ids, targets)
}
