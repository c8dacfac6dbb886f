//! The step over arenas against the model's own passes and optimizer: the same bits.

use candle_core::{Device, Tensor};
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_plan::ModelShape;
use nanochat_plan::activations::{ActivationLayout, BatchSize, Pass, Slot};
use nanochat_plan::shape::head_dim;
use nanochat_step::{Arena, Batch, Cpu, Network, Optimizer, Rates, Region, StepRates};

use crate::model::testing::{random_batch, random_model, shapes};
use crate::model::{Gpt, Gradients};
use crate::ops::reference::rotary_table;
use crate::optim::{LearningRates, MuonAdamW, StepSettings};
use nanochat_plan::Precision;

const RATES: LearningRates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };

fn elements(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Arenas that hold a model's weights and the rotary angles.
fn arenas(model: &Gpt, network: &Network, compute_dtype: ComputeDtype) -> Cpu<f32> {
    let elements_of = network.parameters().elements();
    let mut cpu = Cpu::new(
        &[
            (Arena::Weights, elements_of),
            (Arena::Gradients, elements_of),
            (Arena::First, elements_of),
            (Arena::Second, network.parameters().second_elements()),
            (Arena::Activations, network.activations().elements()),
        ],
        compute_dtype,
    );
    for entry in network.parameters().entries() {
        let weights = elements(&model.parameters()[&entry.parameter.name()]);
        cpu.write(network.weight(entry.parameter)).copy_from_slice(&weights);
    }
    let (shape, length) = (model.shape(), network.activations().batch().length);
    let (cos, sin) = rotary_table(0, length, head_dim(shape), candle_core::DType::F32, &Device::Cpu).unwrap();
    cpu.write(network.slot(Slot::Cosines)).copy_from_slice(&elements(&cos));
    cpu.write(network.slot(Slot::Sines)).copy_from_slice(&elements(&sin));
    cpu
}

/// Ids and targets as the step takes them.
fn on_the_host(shape: &ModelShape, size: BatchSize, seed: u64) -> ([Tensor; 2], [Vec<i32>; 2]) {
    let (ids, targets) = random_batch(shape, size.rows, size.length, seed);
    let host = [
        ids.flatten_all().unwrap().to_vec1::<u32>().unwrap().into_iter().map(|id| id as i32).collect(),
        targets.flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|target| target as i32).collect(),
    ];
    ([ids, targets], host)
}

#[test]
fn losses_gradients_and_weights_have_the_same_bits_over_steps() {
    let precisions = [(Precision::F32, ComputeDtype::Full), (Precision::Bf16, ComputeDtype::Bf16)];
    for (shape, (precision, compute_dtype)) in
        shapes().into_iter().flat_map(|shape| precisions.map(|p| (shape.clone(), p)))
    {
        let size = BatchSize { rows: 3, length: 11 };
        let network = Network::new(&shape, ActivationLayout::new(&shape, size, Pass::Training));
        let mut model = random_model(&shape, 50);
        model.set_precision(precision);
        let mut cpu = arenas(&model, &network, compute_dtype);
        let mut sums = Gradients::zeros(model.parameters()).unwrap();
        let mut theirs = MuonAdamW::new(&model, &RATES).unwrap();
        let rates = Rates {
            embedding: RATES.embedding,
            unembedding: RATES.unembedding,
            matrix: RATES.matrix,
            scalar: RATES.scalar,
        };
        let ours = Optimizer::new(network.parameters(), shape.n_embd, rates);
        for step in 1..=3u64 {
            sums.reset().unwrap();
            let all = Region { arena: Arena::Gradients, offset: 0, len: network.parameters().elements() };
            cpu.write(all).fill(0.0);
            for micro_step in 0..2 {
                let ([ids, targets], [host_ids, host_targets]) = on_the_host(&shape, size, 10 * step + micro_step);
                let counted = host_targets.iter().filter(|target| **target >= 0).count();
                model.accumulate_gradients(&ids, &targets, 0.5, &mut sums).unwrap();
                let batch = Batch { ids: &host_ids, targets: &host_targets };
                network.micro_step(&mut cpu, batch, 0.5 / counted as f64);
                let losses = elements(&model.losses(&ids, &targets).unwrap());
                assert_eq!(cpu.read(network.slot(Slot::Losses)), losses, "{shape:?}");
            }
            for entry in network.parameters().entries() {
                let name = entry.parameter.name();
                let gradient = elements(sums.get(&name).unwrap());
                assert_eq!(cpu.read(network.gradient(entry.parameter)), gradient, "{name} of {shape:?} at {step}");
            }
            let at = StepSettings { lr_multiplier: 0.7, muon_momentum: 0.9, muon_weight_decay: 0.2 };
            theirs.step(&mut model, &sums, &at).unwrap();
            let at = StepRates {
                lr_multiplier: at.lr_multiplier,
                muon_momentum: at.muon_momentum,
                muon_weight_decay: at.muon_weight_decay,
            };
            ours.step(&mut cpu, &at, step);
            for entry in network.parameters().entries() {
                let name = entry.parameter.name();
                let weights = elements(&model.parameters()[&name]);
                assert_eq!(cpu.read(network.weight(entry.parameter)), weights, "{name} of {shape:?} after {step}");
            }
        }
    }
}
