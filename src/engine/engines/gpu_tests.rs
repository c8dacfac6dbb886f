//! The engine for GPUs on an emulated one.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::tests::{RATES, SIZE, all_entries, batch, engine_of, tensors, train};
use super::{Engine, GpuEngine, Setup};
use crate::model::testing::{random_model, shape};
use crate::model::{Backend, Gpt};
use crate::optim::OptimError;
use nanochat_emulator::Emulator;
use nanochat_plan::{ModelShape, Precision};

/// Of three layers and more: with fewer the backout takes the last layer's own output off, so that the true gradient of its
/// scalar is 0, and AdamW steps along rounding errors.
fn shapes() -> Vec<ModelShape> {
    vec![shape(16, 40, 3, (2, 1), 32, "L"), shape(16, 70, 3, (4, 2), 64, "SSL")]
}

fn on_gpu(model: &Gpt, precision: Precision) -> GpuEngine<Emulator> {
    let setup = Setup { batch: SIZE, micro_steps: 2, rates: RATES, precision };
    GpuEngine::new(Emulator::default(), model, &setup).unwrap()
}

fn state(engine: &dyn Engine) -> BTreeMap<String, Tensor> {
    tensors(&engine.optimizer_state().unwrap())
}

/// In f32 two steps differ from the processor's by orders of summation, which Muon raises a thousandfold.
#[test]
fn steps_are_the_processors() {
    for shape in shapes() {
        let mut gpu = on_gpu(&random_model(&shape, 1), Precision::F32);
        let mut cpu = engine_of(random_model(&shape, 1), Backend::Kernels, Precision::F32);
        for step in 0..3 {
            let (found, expected) = (train(&mut gpu, step), train(cpu.as_mut(), step));
            found.iter().zip(&expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} and {b} at {step}"));
        }
        for ((name, found), (_, expected)) in
            all_entries(&gpu.weights().unwrap()).iter().zip(all_entries(&cpu.weights().unwrap()))
        {
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let norm = expected.iter().map(|b| b * b).sum::<f64>().sqrt();
            assert!(off < 1e-3 * norm + 1e-5, "{name}: {off:e} of {norm:e}");
        }
    }
}

#[test]
fn restored_state_continues_bit_for_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let shape = &shapes()[1];
        let mut whole = on_gpu(&random_model(shape, 1), precision);
        (0..3).for_each(|step| drop(train(&mut whole, step)));
        let mut restored = on_gpu(&random_model(shape, 99), precision);
        restored.load_weights(whole.model().unwrap()).unwrap();
        restored.load_optimizer_state(&state(&whole)).unwrap();
        // The one replays what it recorded, the other begins anew.
        for step in 3..6 {
            assert_eq!(train(&mut whole, step), train(&mut restored, step), "{precision:?}");
        }
        assert_eq!(restored.steps(), 6);
        assert_eq!(all_entries(&whole.weights().unwrap()), all_entries(&restored.weights().unwrap()));
    }
}

#[test]
fn evaluations_between_steps_change_nothing() {
    let shape = &shapes()[1];
    let (mut alone, mut evaluated) =
        (on_gpu(&random_model(shape, 6), Precision::Bf16), on_gpu(&random_model(shape, 6), Precision::Bf16));
    for step in 0..4 {
        let losses = evaluated.evaluate(&batch(shape, 70 + step)).unwrap();
        assert!(losses.iter().any(|loss| *loss > 0.0));
        assert_eq!(train(&mut evaluated, step), train(&mut alone, step));
    }
    assert_eq!(all_entries(&alone.weights().unwrap()), all_entries(&evaluated.weights().unwrap()));
}

#[test]
fn losses_of_an_evaluation_are_the_models() {
    let shape = &shapes()[1];
    let mut engine = on_gpu(&random_model(shape, 6), Precision::F32);
    let batch = batch(shape, 70);
    let expected = engine.model().unwrap().evaluation().losses(SIZE, batch.micro_step(0)).unwrap();
    for (found, expected) in engine.evaluate(&batch).unwrap().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
    }
}

#[test]
fn broken_state_is_refused_and_nothing_changes() {
    let mut engine = on_gpu(&random_model(&shapes()[0], 3), Precision::Bf16);
    train(&mut engine, 0);
    let before = state(&engine);
    let mut broken = before.clone();
    broken.remove("exp_avg.lm_head.weight");
    let Err(OptimError::State { problems }) = engine.load_optimizer_state(&broken) else {
        panic!("broken state was accepted");
    };
    assert_eq!(problems, ["exp_avg.lm_head.weight: missing"]);
    let (before, after) = (before.iter(), state(&engine));
    before.zip(&after).for_each(|((name, before), (_, after))| {
        let [before, after] = [before, after].map(crate::model::testing::entries);
        assert_eq!(before, after, "{name}");
    });
}
