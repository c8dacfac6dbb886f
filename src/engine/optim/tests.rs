//! Schedules against worked figures, and state that survives a round trip.

use super::{LearningRates, MuonAdamW, OptimError, Schedule, StepSettings};
use crate::model::testing::{entries, random_batch, random_model, shape, shapes};
use crate::model::{Engine, Gpt, Gradients};
use nanochat_plan::Precision;

const RATES: LearningRates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };

fn schedule(num_iterations: u64) -> Schedule {
    Schedule { num_iterations, warmup_steps: 40, warmdown_ratio: 0.65, final_lr_frac: 0.05, weight_decay: 0.28 }
}

#[test]
fn schedules_equal_worked_figures() {
    let at = |num_iterations, step| schedule(num_iterations).at(step);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} against {b}");
    close(at(1000, 0).lr_multiplier, 1.0 / 40.0);
    close(at(1000, 39).lr_multiplier, 1.0);
    // The fall takes 650 steps, from step 350.
    close(at(1000, 350).lr_multiplier, 1.0);
    close(at(1000, 675).lr_multiplier, 0.5 + 0.5 * 0.05);
    close(at(1000, 1000).lr_multiplier, 0.05);
    close(at(1000, 0).muon_momentum, 0.85);
    close(at(1000, 200).muon_momentum, 0.91);
    close(at(2000, 400).muon_momentum, 0.97);
    // 700 + 650 of 1300 steps of the fall.
    close(at(2000, 1350).muon_momentum, 0.935);
    close(at(1000, 0).muon_weight_decay, 0.28);
    close(at(1000, 500).muon_weight_decay, 0.14);
    close(at(1000, 1000).muon_weight_decay, 0.0);
    // 0.65 · 10 = 6.5 rounds to the even 6, so that step 4 is the last of the plateau.
    let short = Schedule { warmup_steps: 0, ..schedule(10) };
    close(short.at(4).lr_multiplier, 1.0);
    close(short.at(5).lr_multiplier, 5.0 / 6.0 + 0.05 / 6.0);
}

#[test]
fn schedules_without_warmup_or_fall_stay_flat() {
    let flat = Schedule { warmup_steps: 0, warmdown_ratio: 0.0, ..schedule(500) };
    for step in [0, 250, 499, 500] {
        assert_eq!(flat.at(step).lr_multiplier, 1.0);
    }
    assert_eq!(flat.at(500).muon_momentum, 0.97);
}

fn gradients(model: &Gpt, seed: u64) -> Gradients {
    let (ids, targets) = random_batch(model.shape(), 2, 9, seed);
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
    sums
}

fn all_entries(model: &Gpt) -> Vec<Vec<f64>> {
    model.parameters().values().map(entries).collect()
}

#[test]
fn restored_state_continues_bit_for_bit() {
    for shape in shapes() {
        let settings = |step| schedule(50).at(step);
        let mut model = random_model(&shape, 1);
        let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
        for step in 0..2 {
            let sums = gradients(&model, step);
            optimizer.step(&mut model, &sums, &settings(step)).unwrap();
        }
        let weights = model.parameters().iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let mut other = Gpt::from_tensors(&shape, &weights, model.device()).unwrap();
        let mut restored = MuonAdamW::new(&other, &RATES).unwrap();
        restored.load_state(&optimizer.state().unwrap()).unwrap();
        for step in 2..4 {
            let sums = gradients(&model, step);
            optimizer.step(&mut model, &sums, &settings(step)).unwrap();
            restored.step(&mut other, &sums, &settings(step)).unwrap();
        }
        assert_eq!(restored.steps(), 4);
        assert_eq!(all_entries(&model), all_entries(&other));
    }
}

#[test]
fn a_gradient_of_zero_leaves_matrices_where_they_are() {
    let shape = &shapes()[1];
    let mut model = random_model(shape, 2);
    let before = all_entries(&model);
    let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
    let sums = Gradients::zeros(model.parameters()).unwrap();
    let settings = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.9, muon_weight_decay: 0.0 };
    optimizer.step(&mut model, &sums, &settings).unwrap();
    for ((name, after), before) in model.parameters().iter().zip(before) {
        assert!(entries(after).iter().all(|value| value.is_finite()), "{name}");
        if name.starts_with("transformer.h.") {
            assert_eq!(entries(after), before, "{name}");
        }
    }
}

#[test]
fn every_problem_of_given_state_is_named_and_nothing_changes() {
    let model = random_model(&shapes()[0], 3);
    let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
    let mut state = optimizer.state().unwrap();
    state.remove("exp_avg.lm_head.weight");
    let step = state.remove("step").unwrap();
    state.insert("exp_avg_sq.smear_lambda".into(), step.zeros_like().unwrap().reshape((1, 1)).unwrap());
    state.insert("surplus".into(), step);
    let Err(OptimError::State { problems }) = optimizer.load_state(&state) else {
        panic!("broken state was accepted");
    };
    let expected = [
        "exp_avg.lm_head.weight: missing",
        "exp_avg_sq.smear_lambda: shape [1, 1], expected [1]",
        "step: missing",
        "surplus: the optimizer has no state of that name",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn kernels_step_as_the_reference_operations_do() {
    // The last one is wide enough for matrices that are orthogonalised in f32.
    for shape in shapes().into_iter().chain([shape(16, 64, 1, (1, 1), 132, "L")]) {
        let run = |engine: Engine| {
            let mut model = random_model(&shape, 4);
            model.set_engine(engine);
            let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
            let source = random_model(&shape, 4);
            for step in 0..4 {
                let sums = gradients(&source, step);
                // Without weight decay, which hangs on the sign of an update however near to zero.
                let settings = StepSettings { muon_weight_decay: 0.0, ..schedule(50).at(step) };
                optimizer.step(&mut model, &sums, &settings).unwrap();
            }
            (all_entries(&model), optimizer.state().unwrap())
        };
        let (reference, kernels) = (run(Engine::Reference), run(Engine::Kernels));
        let worst = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
        for (name, (reference, ours)) in Gpt::parameter_shapes(&shape).keys().zip(reference.0.iter().zip(&kernels.0)) {
            assert!(worst(reference, ours) < 1e-6, "{name} of {shape:?}: {:e}", worst(reference, ours));
        }
        for (name, reference) in &reference.1 {
            assert!(worst(&entries(reference), &entries(&kernels.1[name])) < 1e-6, "{name} of {shape:?}");
        }
    }
}

#[test]
fn in_bf16_the_reference_step_rounds_what_the_kernels_round() {
    // Wide enough for matrices that the kernels orthogonalise in f32; narrower ones they take in f64, unrounded.
    let shape = shape(16, 64, 1, (1, 1), 132, "L");
    let before = random_model(&shape, 4);
    let sums = gradients(&before, 0);
    let run = |engine: Engine, precision: Precision| {
        let mut model = random_model(&shape, 4);
        model.set_engine(engine);
        model.set_precision(precision);
        let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
        let settings = StepSettings { muon_weight_decay: 0.0, ..schedule(50).at(0) };
        optimizer.step(&mut model, &sums, &settings).unwrap();
        all_entries(&model)
    };
    let reference = run(Engine::Reference, Precision::Bf16);
    let kernels = run(Engine::Kernels, Precision::Bf16);
    let exact = run(Engine::Reference, Precision::F32);
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    for (index, (name, before)) in Gpt::parameter_shapes(&shape).keys().zip(all_entries(&before)).enumerate() {
        if !name.starts_with("transformer.h.") || name.contains("gate") {
            continue;
        }
        let step = distance(&before, &kernels[index]);
        let apart = distance(&reference[index], &kernels[index]);
        // Singular values near zero are raised some hundredfold by five iterations, and with them what the roundings of
        // 2^-9 put there: the same ones in both, so that they part by less than either does from f32.
        assert!(apart < distance(&exact[index], &kernels[index]), "{name}: {apart:e}");
        assert!(apart <= 2f64.powi(-6) * step, "{name}: {apart:e} of {step:e}");
    }
}

#[test]
fn a_step_has_the_same_bits_whatever_the_number_of_threads() {
    let shape = &shapes()[3];
    let with = |threads: usize| {
        let mut model = random_model(shape, 5);
        let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
        let sums = gradients(&model, 6);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| optimizer.step(&mut model, &sums, &schedule(50).at(7))).unwrap();
        all_entries(&model)
    };
    let one = with(1);
    for threads in [2, 3] {
        assert!(with(threads) == one, "{threads} threads");
    }
}

#[test]
#[ignore = "a measurement, to be run alone: prints the time of an optimizer step"]
fn speed_of_a_step() {
    let mut model = Gpt::initialized(&shape(512, 4096, 4, (4, 4), 256, "L"), 1, &candle_core::Device::Cpu).unwrap();
    let sums = gradients(&random_model(model.shape(), 7), 8);
    for precision in [Precision::F32, Precision::Bf16] {
        model.set_precision(precision);
        let mut optimizer = MuonAdamW::new(&model, &RATES).unwrap();
        let mut best = f64::INFINITY;
        for step in 0..10 {
            let start = std::time::Instant::now();
            optimizer.step(&mut model, &sums, &schedule(50).at(step)).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{precision:?}: {:.0} ms a step", best * 1e3);
    }
}
