//! The same bits whatever the order of threads, whatever workspaces hold, and whether commands are replayed.

use nanochat_gpu::{Dtype, GpuOps};
use nanochat_plan::activations::{Chunks, Pass, Slot};
use nanochat_step::{Arena, Batch, Coefficients, Network, Op, Ops, Optimizer, Region};

use super::{AT, MICRO_STEPS, RATES, SIZE, batch, gpu, networks, pass, shapes};
use crate::Emulator;

/// Bits of all weights, moments and losses.
fn bits(network: &Network, gpu: &GpuOps<Emulator>) -> Vec<u32> {
    let mut regions = vec![network.mean_losses()];
    for entry in network.parameters().entries() {
        let second = Region::new(Arena::Second, entry.second);
        regions.extend([Region::new(Arena::Weights, entry.span), Region::new(Arena::First, entry.span), second]);
    }
    regions.iter().flat_map(|region| gpu.read(*region).unwrap()).map(f32::to_bits).collect()
}

fn step(network: &Network, ops: &mut impl Ops) {
    pass(network, ops);
    Optimizer::new(network.parameters(), network.shape().n_embd, RATES).step(ops, &AT, 1);
}

#[test]
fn a_step_has_the_same_bits_in_any_order_of_threads() {
    for shape in shapes() {
        let [_, network] = networks(&shape);
        for storage in [Dtype::F32, Dtype::Bf16] {
            let results = [0, 1, 6].map(|order| {
                let mut gpu = gpu(&network, storage, order);
                step(&network, &mut gpu);
                gpu.check().unwrap();
                bits(&network, &gpu)
            });
            assert!(results[0] == results[1] && results[0] == results[2], "{storage:?}");
            assert!(results[0].iter().all(|bits| f32::from_bits(*bits).is_finite()));
        }
    }
}

/// Fills what an operation overwrites, and its workspaces, with what is no number before it runs.
struct Poisoned {
    ops: GpuOps<Emulator>,
    /// An operation that is left out.
    without: Option<&'static str>,
}

impl Poisoned {
    fn poison(&mut self, region: Region) {
        let memory = *self.ops.memory();
        let bytes = region.len * memory.dtype(region.arena).bytes();
        self.ops.device_mut().poison(memory.at(region), bytes);
    }
}

impl Ops for Poisoned {
    fn load_batch(&mut self, batch: Batch<'_>, factor: f64) {
        self.ops.load_batch(batch, factor);
    }

    fn load_coefficients(&mut self, coefficients: &Coefficients) {
        self.ops.load_coefficients(coefficients);
    }

    fn run(&mut self, op: &Op<'_>) {
        let access = op.access();
        access.writes.into_iter().chain(access.workspaces).for_each(|region| self.poison(region));
        if self.without.is_none_or(|name| !format!("{op:?}").starts_with(name)) {
            self.ops.run(op);
        }
    }
}

#[test]
fn nothing_stale_is_read() {
    for shape in shapes() {
        let [_, network] = networks(&shape);
        for storage in [Dtype::F32, Dtype::Bf16] {
            let mut plain = gpu(&network, storage, 0);
            step(&network, &mut plain);
            let mut poisoned = Poisoned { ops: gpu(&network, storage, 0), without: None };
            step(&network, &mut poisoned);
            poisoned.ops.check().unwrap();
            assert!(bits(&network, &plain) == bits(&network, &poisoned.ops), "{storage:?}");
        }
    }
}

/// A buffer that isn't written anew is seen.
#[test]
fn a_planted_read_of_a_stale_buffer_is_found() {
    let [_, network] = networks(&shapes()[1]);
    for without in ["Norm", "Attend", "QueryKeyValue", "Backout"] {
        let mut poisoned = Poisoned { ops: gpu(&network, Dtype::Bf16, 0), without: Some(without) };
        pass(&network, &mut poisoned);
        let losses = poisoned.ops.read(network.mean_losses()).unwrap();
        assert!(losses.iter().all(|loss| loss.is_nan()), "without {without}: {losses:?}");
    }
}

#[test]
fn recorded_steps_are_replayed_to_the_bit() {
    let [_, network] = networks(&shapes()[1]);
    let optimizer = Optimizer::new(network.parameters(), network.shape().n_embd, RATES);
    for storage in [Dtype::F32, Dtype::Bf16] {
        let (mut eager, mut replayed) = (gpu(&network, storage, 0), gpu(&network, storage, 0));
        for number in 1..=3 {
            pass(&network, &mut eager);
            optimizer.step(&mut eager, &AT, number);
        }
        let passes = replayed.record(|ops| {
            network.forward(ops);
            network.head(ops);
            network.backward(ops);
        });
        let passes = passes.unwrap();
        let steps = replayed.record(|ops| optimizer.update(ops)).unwrap();
        for number in 1..=3 {
            network.zero_gradients(&mut replayed);
            for micro_step in 0..MICRO_STEPS {
                let (ids, targets) = batch(network.shape(), micro_step);
                network.load(&mut replayed, Batch { ids: &ids, targets: &targets, number: micro_step }, 0.1);
                replayed.replay(passes).unwrap();
            }
            replayed.load_coefficients(&optimizer.coefficients(&AT, number));
            replayed.replay(steps).unwrap();
        }
        replayed.check().unwrap();
        assert!(bits(&network, &eager) == bits(&network, &replayed), "{storage:?}");
    }
}

/// An evaluation works in the memory of training, and gives the losses that training gives.
#[test]
fn evaluation_shares_the_memory_of_training() {
    for shape in shapes() {
        let [_, training] = networks(&shape);
        let evaluation = Network::with_chunks(&shape, SIZE, Pass::Evaluation, MICRO_STEPS, Chunks::GPU);
        let (ids, targets) = batch(&shape, 0);
        let batch = Batch { ids: &ids, targets: &targets, number: 0 };
        for storage in [Dtype::F32, Dtype::Bf16] {
            let mut gpu = gpu(&training, storage, 0);
            training.micro_step(&mut gpu, batch, 1.0);
            let trained = gpu.read(training.slot(Slot::Losses)).unwrap();
            evaluation.micro_step(&mut gpu, batch, 0.0);
            gpu.check().unwrap();
            assert_eq!(gpu.read(evaluation.slot(Slot::Losses)).unwrap(), trained);
        }
    }
}
