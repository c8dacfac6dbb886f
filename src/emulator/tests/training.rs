//! Training on the emulated device against training on the processor.

use nanochat_gpu::Dtype;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_step::{Cpu, Network, Ops, Optimizer, StepSettings};

use super::{RATES, cpu, gpu, networks, pass, shapes};

const STEPS: u64 = 20;

/// Losses of 20 steps; `losses` reads those of a step.
fn curve<O: Ops>(network: &Network, ops: &mut O, losses: impl Fn(&O) -> Vec<f32>) -> Vec<f32> {
    let optimizer = Optimizer::new(network.parameters(), network.shape().n_embd, RATES);
    let mut curve = Vec::new();
    for step in 1..=STEPS {
        pass(network, ops);
        curve.extend(losses(ops));
        let lr_multiplier = 0.3 * (step as f64 / STEPS as f64).min(1.0);
        optimizer.step(ops, &StepSettings { lr_multiplier, muon_momentum: 0.85, muon_weight_decay: 0.1 }, step);
    }
    curve
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn on_processor(network: &Network, mut cpu: Cpu<f32>) -> Vec<f32> {
    curve(network, &mut cpu, |cpu| cpu.read(network.mean_losses()).to_vec())
}

fn on_device(network: &Network, storage: Dtype) -> Vec<f32> {
    let mut gpu = gpu(network, storage, 0);
    let curve = curve(network, &mut gpu, |gpu| gpu.read(network.mean_losses()).unwrap());
    gpu.check().unwrap();
    curve
}

/// In f32 the curves differ by orders of summation. In bf16 the device rounds activations and the operands of products, the processor
/// operands alone: with at most twice as many roundings of one size, losses are at most twice as far from those in f32.
#[test]
fn loss_curves_are_the_processors() {
    let [on_cpu, on_gpu] = networks(&shapes()[1]);
    let exact = on_processor(&on_cpu, cpu(&on_cpu, ComputeDtype::Full));
    assert!(exact[exact.len() - 1] < exact[0] - 1.0, "nothing was learned: {exact:?}");
    let off = worst(&on_device(&on_gpu, Dtype::F32), &exact);
    assert!(off < 2e-5, "{off:e}");
    let rounded = worst(&on_processor(&on_cpu, cpu(&on_cpu, ComputeDtype::Bf16)), &exact);
    let off = worst(&on_device(&on_gpu, Dtype::Bf16), &exact);
    assert!(off < 2.0 * rounded, "{off:e} against {rounded:e}");
}
