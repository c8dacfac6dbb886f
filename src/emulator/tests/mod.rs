//! The step on the emulated device.

mod faults;
mod lockstep;
mod order;
mod training;

use nanochat_kernels::gemm::ComputeDtype;
use nanochat_plan::ModelShape;
use nanochat_plan::activations::{BatchSize, Chunks, Pass, Slot};
use nanochat_plan::parameters::Group;
use nanochat_plan::shape::head_dim;
use nanochat_step::{Batch, Cpu, LearningRates, Network, Ops, Optimizer, Region, StepSettings};

use nanochat_gpu::{Dtype, GpuOps};

use crate::Emulator;

const RATES: LearningRates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };
const AT: StepSettings = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.85, muon_weight_decay: 0.1 };
const SIZE: BatchSize = BatchSize { rows: 2, length: 45 };
const MICRO_STEPS: usize = 2;

fn shapes() -> Vec<ModelShape> {
    let shape = |n_layer, (n_head, n_kv_head), n_embd, vocab_size, window_pattern: &str| ModelShape {
        sequence_len: SIZE.length,
        vocab_size,
        n_layer,
        n_head,
        n_kv_head,
        n_embd,
        window_pattern: window_pattern.into(),
    };
    // Heads of 24, 16 and 136 channels; a vocabulary that isn't padded, and one of which tokens are rare; one id in all places.
    vec![shape(1, (1, 1), 24, 37, "L"), shape(3, (4, 2), 64, 128, "SSL"), shape(2, (2, 1), 272, 1, "SL")]
}

/// Numbers in −1 … 1 that look random.
fn stream(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 * (-52f64).exp2() - 1.0
    }
}

fn batch(shape: &ModelShape, number: usize) -> (Vec<i32>, Vec<i32>) {
    let mut next = stream(7 + number as u64);
    let mut id = || ((next() + 1.0) / 2.0 * (shape.vocab_size as f64 - 1e-9)) as i32;
    let ids = (0..SIZE.tokens()).map(|_| id()).collect();
    let targets = (0..SIZE.tokens()).map(|token| if token % 5 == 4 { -1 } else { id() }).collect();
    (ids, targets)
}

/// Everything that is loaded before a step: weights and rotary angles.
fn loaded(network: &Network) -> Vec<(Region, Vec<f32>)> {
    let mut next = stream(3);
    let mut loaded = Vec::new();
    for entry in network.parameters().entries() {
        let scale = match entry.group {
            Group::ResidualScalars => 1.0,
            _ => 1.5 / (entry.columns as f64).sqrt(),
        };
        let region = network.weight(entry.parameter);
        loaded.push((region, (0..region.len).map(|_| (scale * next()) as f32).collect()));
    }
    let half = head_dim(network.shape()) / 2;
    for (index, slot) in [Slot::Cosines, Slot::Sines].into_iter().enumerate() {
        let angle = |place: usize| {
            let (position, channel) = (place / half, place % half);
            position as f64 * 1e5f64.powf(-(channel as f64) / half as f64)
        };
        let region = network.slot(slot);
        let of = |place| if index == 0 { angle(place).cos() } else { angle(place).sin() };
        loaded.push((region, (0..region.len).map(|place| of(place) as f32).collect()));
    }
    loaded
}

fn networks(shape: &ModelShape) -> [Network; 2] {
    [Chunks::CPU, Chunks::GPU].map(|chunks| Network::with_chunks(shape, SIZE, Pass::Training, MICRO_STEPS, chunks))
}

fn gpu(network: &Network, storage: Dtype, order: u32) -> GpuOps<Emulator> {
    let mut ops = GpuOps::new(Emulator::with_order(order), network, MICRO_STEPS, storage).unwrap();
    for (region, elements) in loaded(network) {
        ops.write(region, &elements).unwrap();
    }
    ops.load_optimizer(&Optimizer::new(network.parameters(), network.shape().n_embd, RATES)).unwrap();
    ops
}

fn cpu(network: &Network, compute_dtype: ComputeDtype) -> Cpu<f32> {
    let arenas: Vec<_> = network.arenas().into_iter().chain(network.moments()).collect();
    let mut cpu = Cpu::new(&arenas, compute_dtype);
    for (region, elements) in loaded(network) {
        cpu.write(region).copy_from_slice(&elements);
    }
    cpu
}

/// One step's passes.
fn pass(network: &Network, ops: &mut impl Ops) {
    network.zero_gradients(ops);
    for number in 0..MICRO_STEPS {
        let (ids, targets) = batch(network.shape(), number);
        network.micro_step(ops, Batch { ids: &ids, targets: &targets, number }, 0.1);
    }
}

/// Root of the sum of squares of the difference over that of the second.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = squares(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / squares(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}
