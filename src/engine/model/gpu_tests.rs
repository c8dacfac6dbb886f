//! The model on a GPU against the reference operations on the processor. Skipped with a message where there is no GPU.

use candle_core::{Device, Tensor};

use super::testing::{entries, random_batch, random_model, relative_distance, shapes};
use super::{Backend, Gpt, Gradients};
use crate::device::open_device;
use nanochat_plan::{DeviceKind, ModelShape, Precision};

/// The GPU, or why there is none.
fn gpu() -> Option<Device> {
    open_device(DeviceKind::Cuda).map_err(|error| println!("skipped: {error}")).ok()
}

fn on(device: &Device, shape: &ModelShape, seed: u64, precision: Precision) -> Gpt {
    let weights = random_model(shape, seed).parameters().clone().into_iter().collect();
    let mut model = Gpt::from_tensors(shape, &weights, device).unwrap();
    model.set_backend(Backend::Reference);
    model.set_precision(precision);
    model
}

fn gradients(model: &Gpt, (ids, targets): &(Tensor, Tensor)) -> (f32, Gradients) {
    let (ids, targets) = (ids.to_device(model.device()).unwrap(), targets.to_device(model.device()).unwrap());
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    let loss = model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
    (loss, sums)
}

#[test]
fn gradients_on_a_gpu_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    // In f32 sums of some thousand terms in another order. In bf16 that order decides which way a number just between two of
    // bf16 goes, by up to 2^-8 of it.
    for (precision, bound) in [(Precision::F32, 5e-5), (Precision::Bf16, 2f64.powi(-8))] {
        for shape in shapes() {
            let batch = random_batch(&shape, 3, 21, 51);
            let (loss, ours) = gradients(&on(&gpu, &shape, 50, precision), &batch);
            let (twin_loss, reference) = gradients(&on(&Device::Cpu, &shape, 50, precision), &batch);
            assert!((loss - twin_loss).abs() as f64 <= bound * f64::from(twin_loss), "{loss} and {twin_loss}");
            for (name, reference) in
                reference.tensors().iter().filter(|(name, reference)| reference.rank() == 2 && !name.contains("gate"))
            {
                let apart = relative_distance(ours.get(name).unwrap(), reference);
                assert!(apart <= bound, "{precision:?} {name} of {shape:?}: {apart:e}");
            }
        }
    }
}

#[test]
fn a_gpu_repeats_itself_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for shape in shapes() {
            let (model, batch) = (on(&gpu, &shape, 52, precision), random_batch(&shape, 3, 21, 53));
            let ((first_loss, first), (loss, again)) = (gradients(&model, &batch), gradients(&model, &batch));
            assert_eq!(first_loss.to_bits(), loss.to_bits());
            for (name, tensor) in first.tensors() {
                assert!(entries(tensor) == entries(again.get(name).unwrap()), "{precision:?} {name} of {shape:?}");
            }
        }
    }
}

#[test]
fn decoding_on_a_gpu_gives_the_logits_of_the_full_pass() {
    let Some(gpu) = gpu() else { return };
    for shape in shapes() {
        let model = on(&gpu, &shape, 54, Precision::F32);
        let ids = random_batch(&shape, 2, 11, 55).0.to_device(&gpu).unwrap();
        let mut cache = model.new_cache(2, 11).unwrap();
        let mut logits = vec![model.logits_cached(&ids.narrow(1, 0, 7).unwrap(), &mut cache).unwrap()];
        for position in 7..11 {
            logits.push(model.logits_cached(&ids.narrow(1, position, 1).unwrap(), &mut cache).unwrap());
        }
        let (cached, full) = (Tensor::cat(&logits, 1).unwrap(), model.logits(&ids).unwrap());
        // The bound of the parity figures.
        let worst = entries(&cached).iter().zip(entries(&full)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= 1e-5, "{shape:?}: {worst:e}");
    }
}
