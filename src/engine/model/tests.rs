//! The model as a whole: gradients of every parameter, the cache against the full pass, refusals.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::testing::{distance, entries, random_batch, random_model, relative_distance, shape, shapes};
use super::{Backend, Gpt, Gradients, ModelError};
use nanochat_plan::{ModelShape, Precision, parameter_counts};

fn gradients(model: &Gpt, ids: &Tensor, targets: &Tensor, scale: f64) -> (f32, Gradients) {
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    let loss = model.accumulate_gradients(ids, targets, scale, &mut sums).unwrap();
    (loss, sums)
}

#[test]
fn every_parameter_has_a_finite_gradient_that_is_not_zero() {
    for shape in shapes() {
        let model = random_model(&shape, 1);
        let (ids, targets) = random_batch(&shape, 2, 13, 2);
        let (_, sums) = gradients(&model, &ids, &targets, 1.0);
        assert_eq!(sums.tensors().len(), Gpt::parameter_shapes(&shape).len());
        for (name, tensor) in sums.tensors() {
            let values = entries(tensor);
            assert!(values.iter().all(|value| value.is_finite()), "{name} of {shape:?}");
            assert!(values.iter().any(|value| *value != 0.0), "{name} of {shape:?} has no gradient");
        }
    }
}

#[test]
fn gradients_equal_finite_differences_in_f64() {
    for shape in shapes() {
        let model = random_model(&shape, 3).to_dtype(DType::F64).unwrap();
        let (ids, targets) = random_batch(&shape, 2, 9, 4);
        let (_, sums) = gradients(&model, &ids, &targets, 1.0);
        let total = |model: &Gpt| -> f64 {
            let counted = entries(&targets).iter().filter(|target| **target >= 0.0).count();
            entries(&model.losses(&ids, &targets).unwrap()).iter().sum::<f64>() / counted as f64
        };
        for (name, gradient) in sums.tensors() {
            let gradient = entries(gradient);
            // The entry that matters most: others may be too small to be seen in the loss.
            let largest = (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
            let step = 1e-5;
            let moved = |by: f64| {
                let mut moved = model.to_dtype(DType::F64).unwrap();
                let parameter = moved.parameters_mut().get_mut(name).unwrap();
                let mut values = entries(parameter);
                values[largest] += by;
                *parameter = Tensor::from_vec(values, parameter.dims(), &Device::Cpu).unwrap();
                total(&moved)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            // Backout of the last layer only rescales what is normed next: its gradient is all but zero.
            let error = (slope - gradient[largest]).abs() / (gradient[largest].abs() + 1e-4);
            assert!(error < 1e-5, "{name} of {shape:?}: {slope} against {}", gradient[largest]);
        }
    }
}

#[test]
fn scaled_micro_steps_add_up() {
    let shape = &shapes()[2];
    let model = random_model(shape, 5);
    let (first, second) = (random_batch(shape, 2, 8, 6), random_batch(shape, 2, 8, 7));
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    for (ids, targets) in [&first, &second] {
        let loss = model.accumulate_gradients(ids, targets, 0.5, &mut sums).unwrap();
        assert_eq!(loss, model.loss(ids, targets).unwrap());
    }
    let alone = [&first, &second].map(|(ids, targets)| gradients(&model, ids, targets, 1.0).1);
    for (name, sum) in sums.tensors() {
        let mean = ((alone[0].get(name).unwrap() + alone[1].get(name).unwrap()).unwrap() * 0.5).unwrap();
        let largest = entries(&mean).iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert!(distance(sum, &mean) <= 1e-6 * largest, "{name}");
    }
    sums.reset().unwrap();
    assert!(sums.tensors().values().all(|tensor| entries(tensor).iter().all(|value| *value == 0.0)));
}

#[test]
fn cached_logits_equal_the_full_pass_however_the_tokens_are_cut() {
    for shape in shapes() {
        let model = random_model(&shape, 8);
        // Longer than the windows where there are any, and than the context.
        let length = shape.sequence_len + 9;
        let (ids, _) = random_batch(&shape, 2, length, 9);
        let full = model.logits(&ids).unwrap();
        for cuts in [vec![length], vec![1; length], vec![3, 1, length - 4], vec![length - 2, 2]] {
            let mut cache = model.new_cache(2, 4).unwrap();
            let mut parts = Vec::new();
            for cut in &cuts {
                parts.push(model.logits_cached(&ids.narrow(1, cache.len(), *cut).unwrap(), &mut cache).unwrap());
            }
            assert_eq!(cache.len(), length);
            let difference = distance(&Tensor::cat(&parts, 1).unwrap(), &full);
            assert!(difference < 1e-5, "{difference} for {shape:?}, cut {cuts:?}");
        }
    }
}

#[test]
fn a_cut_or_repeated_cache_continues_as_its_prefix() {
    let shape = &shapes()[2];
    let model = random_model(shape, 10);
    let (prefix, _) = random_batch(shape, 1, 7, 11);
    let (endings, _) = random_batch(shape, 3, 5, 12);
    let mut cache = model.new_cache(1, 7).unwrap();
    model.logits_cached(&prefix, &mut cache).unwrap();
    let mut wide = cache.repeat(3, 8).unwrap();
    let together = model.logits_cached(&endings, &mut wide).unwrap();
    for row in 0..3 {
        let ending = endings.narrow(0, row, 1).unwrap();
        cache.truncate(7).unwrap();
        let alone = model.logits_cached(&ending, &mut cache).unwrap();
        assert!(distance(&alone, &together.narrow(0, row, 1).unwrap()) < 1e-5);
    }
    assert!(matches!(cache.truncate(99), Err(ModelError::CacheLength { length: 12, wanted: 99 })));
    assert!(matches!(model.logits_cached(&endings, &mut cache), Err(ModelError::CacheRows { batch: 3, cache: 1 })));
    assert!(matches!(wide.repeat(2, 1), Err(ModelError::CacheRows { .. })));
}

#[test]
fn initial_models_are_those_of_their_seed_and_predict_nothing_yet() {
    for shape in shapes() {
        let model = Gpt::initialized(&shape, 42, &Device::Cpu).unwrap();
        let count: u64 = model.parameters().values().map(|tensor| tensor.elem_count() as u64).sum();
        assert_eq!(count, parameter_counts(&shape).total);
        let again = Gpt::initialized(&shape, 42, &Device::Cpu).unwrap();
        let other = Gpt::initialized(&shape, 43, &Device::Cpu).unwrap();
        let wte = |model: &Gpt| entries(&model.parameters()["transformer.wte.weight"]);
        assert_eq!(wte(&model), wte(&again));
        assert_ne!(wte(&model), wte(&other));
        let (ids, targets) = random_batch(&shape, 2, 8, 13);
        let loss = f64::from(model.loss(&ids, &targets).unwrap());
        assert!((loss - (shape.vocab_size as f64).ln()).abs() < 0.01, "{loss} for {shape:?}");
    }
}

#[test]
fn every_problem_of_given_weights_is_named_at_once() {
    let shape = shape(16, 64, 1, (1, 1), 24, "L");
    let model = random_model(&shape, 14);
    let mut tensors: HashMap<String, Tensor> =
        model.parameters().iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    let device = &Device::Cpu;
    tensors.remove("smear_lambda");
    tensors.insert("extra".into(), Tensor::zeros(1, DType::F32, device).unwrap());
    tensors.insert("lm_head.weight".into(), Tensor::zeros((2, 2), DType::F32, device).unwrap());
    tensors.insert("x0_lambdas".into(), Tensor::new(&[f32::NAN], device).unwrap());
    tensors.insert("resid_lambdas".into(), Tensor::new(&[1i64], device).unwrap());
    let Err(ModelError::Weights { problems }) = Gpt::from_tensors(&shape, &tensors, device) else {
        panic!("broken weights were accepted");
    };
    let expected = [
        "lm_head.weight: shape [2, 2], expected [64, 24]",
        "resid_lambdas: type i64, expected a float type",
        "smear_lambda: missing, expected shape [1]",
        "x0_lambdas: holds NaN or infinity",
        "extra: no parameter of this shape has that name",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn unusable_batches_are_refused() {
    let shape = shape(16, 60, 1, (1, 1), 24, "L");
    let model = random_model(&shape, 15);
    let device = &Device::Cpu;
    let ids = |values: &[[u32; 2]; 1]| Tensor::new(values, device).unwrap();
    let targets = |values: &[[i64; 2]; 1]| Tensor::new(values, device).unwrap();
    assert!(matches!(
        model.logits(&ids(&[[1, 60]])),
        Err(ModelError::OutsideVocabulary { what: "ids", value: 60, vocab_size: 60 })
    ));
    assert!(matches!(model.logits(&targets(&[[1, 2]])), Err(ModelError::Batch { what: "ids", .. })));
    assert!(matches!(model.logits(&Tensor::new(&[1u32], device).unwrap()), Err(ModelError::Batch { .. })));
    for value in [-2, 60] {
        assert!(matches!(
            model.loss(&ids(&[[1, 2]]), &targets(&[[0, value]])),
            Err(ModelError::OutsideVocabulary { what: "targets", .. })
        ));
    }
    assert!(matches!(model.loss(&ids(&[[1, 2]]), &targets(&[[-1, -1]])), Err(ModelError::NothingToPredict)));
    let losses = model.losses(&ids(&[[1, 2]]), &targets(&[[-1, 3]])).unwrap();
    assert_eq!(entries(&losses)[0], 0.0);
    assert!(entries(&losses)[1] > 0.0);
}

#[test]
fn kernels_equal_the_reference_operations_entry_by_entry() {
    for shape in shapes() {
        let mut model = random_model(&shape, 30);
        let (ids, targets) = random_batch(&shape, 3, shape.sequence_len + 3, 31);
        let mut by = |engine| {
            model.set_backend(engine);
            gradients(&model, &ids, &targets, 1.0).1
        };
        let (reference, kernels) = (by(Backend::Reference), by(Backend::Kernels));
        for (name, reference) in reference.tensors() {
            let norm = entries(reference).iter().map(|value| value * value).sum::<f64>().sqrt();
            let difference = distance(kernels.get(name).unwrap(), reference);
            // A last layer's backout has a gradient of rounding alone: terms whose magnitudes sum to about 1 cancel, and
            // each engine rounds them twice.
            assert!(
                difference <= 1e-4 * norm + 4.0 * 2f64.powi(-24),
                "{name} of {shape:?}: {difference:e} of {norm:e}"
            );
        }
    }
}

#[test]
fn gradients_have_the_same_bits_whatever_the_number_of_threads() {
    for shape in shapes() {
        let model = random_model(&shape, 32);
        let (ids, targets) = random_batch(&shape, 3, 70, 33);
        let with = |threads: usize| -> Vec<Vec<f64>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (loss, sums) = pool.install(|| gradients(&model, &ids, &targets, 1.0));
            sums.tensors().values().map(entries).chain([vec![f64::from(loss)]]).collect()
        };
        let one = with(1);
        for threads in [2, 3] {
            assert!(with(threads) == one, "{threads} threads, {shape:?}");
        }
    }
}

#[test]
fn bf16_gradients_lie_near_those_of_f32_and_have_the_same_bits_for_any_number_of_threads() {
    for shape in shapes() {
        let mut model = random_model(&shape, 34);
        let (ids, targets) = random_batch(&shape, 3, 70, 35);
        let (exact_loss, exact) = gradients(&model, &ids, &targets, 1.0);
        model.set_precision(Precision::Bf16);
        let (loss, rounded) = gradients(&model, &ids, &targets, 1.0);
        assert!(loss != exact_loss && (loss - exact_loss).abs() < 0.02 * exact_loss, "{loss} and {exact_loss}");
        for (name, reference) in exact.tensors().iter().filter(|(_, tensor)| tensor.rank() == 2) {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let (reference, ours) = (entries(reference), entries(rounded.get(name).unwrap()));
            let size = norm(&mut reference.iter().copied());
            let difference = norm(&mut reference.iter().zip(&ours).map(|(a, b)| a - b));
            assert!(difference < 0.1 * size, "{name} of {shape:?}: {difference:e} of {size:e}");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let (again, by_three) = pool.install(|| gradients(&model, &ids, &targets, 1.0));
        assert_eq!(loss, again);
        for (name, tensor) in by_three.tensors() {
            assert!(entries(tensor) == entries(rounded.get(name).unwrap()), "{name} of {shape:?}");
        }
    }
}

#[test]
fn a_batch_in_slices_gives_the_gradient_of_the_whole() {
    for shape in shapes() {
        let model = random_model(&shape, 38);
        // Different elements of ignored targets a row: the mean is over the whole batch, not over slices.
        let (ids, targets) = random_batch(&shape, 5, 9, 39);
        let factor = 1.0 / entries(&targets).iter().filter(|target| **target >= 0.0).count() as f64;
        let by = |rows: usize| {
            let losses = entries(&model.reference_losses(&ids, &targets, rows).unwrap());
            let mut sums = Gradients::zeros(model.parameters()).unwrap();
            let with = model.reference_gradients(&ids, &targets, rows, factor, &mut sums, &mut |_| {}).unwrap();
            assert_eq!(entries(&with), losses);
            (losses, sums)
        };
        let (losses, whole) = by(5);
        for rows in [1, 2, 6] {
            let (sliced_losses, sliced) = by(rows);
            // The products of fewer rows sum in another order.
            let apart = losses.iter().zip(&sliced_losses).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0.0, f64::max);
            assert!(losses.len() == sliced_losses.len() && apart < 4e-6, "slices of {rows}: {apart:e}");
            for (name, reference) in whole.tensors() {
                let norm = entries(reference).iter().map(|value| value * value).sum::<f64>().sqrt();
                let difference = distance(sliced.get(name).unwrap(), reference);
                // As far apart as kernels and reference operations may be, for the same reason.
                let bound = 1e-4 * norm + 4.0 * 2f64.powi(-24);
                assert!(difference <= bound, "{name} of {shape:?} in slices of {rows}: {difference:e} of {norm:e}");
            }
        }
    }
}

#[test]
fn reference_operations_in_bf16_lie_nearer_to_f32_than_the_kernels_and_near_to_them() {
    for shape in shapes() {
        let mut model = random_model(&shape, 36);
        let (ids, targets) = random_batch(&shape, 3, 70, 37);
        let (exact_loss, exact) = gradients(&model, &ids, &targets, 1.0);
        model.set_precision(Precision::Bf16);
        let (kernel_loss, kernels) = gradients(&model, &ids, &targets, 1.0);
        model.set_backend(Backend::Reference);
        let (loss, reference) = gradients(&model, &ids, &targets, 1.0);
        assert!(loss != exact_loss, "nothing was rounded");
        // An operand is off by at most 2^-9 of itself, in both; a loss is a mean over some 200 targets, which leaves at most a
        // quarter of that. Which way each is off depends on the order of sums, so on the processor.
        let noise = exact_loss * 2f32.powi(-11);
        assert!((loss - kernel_loss).abs() < (exact_loss - kernel_loss).abs() + noise, "{loss} and {kernel_loss}");
        // The kernels keep activations in bf16 besides, so they are further from f32. Both round the same weights, so they are nearer to each
        // other than two that round independently. Gradients of gates and scalars are left out: they are small differences of large sums.
        let matrices = exact.tensors().iter().filter(|(name, tensor)| tensor.rank() == 2 && !name.contains("gate"));
        for (name, exact) in matrices {
            let (reference, kernels) = (reference.get(name).unwrap(), kernels.get(name).unwrap());
            let (ours, theirs) = (relative_distance(reference, exact), relative_distance(kernels, exact));
            let apart = relative_distance(reference, kernels);
            assert!(ours < theirs && theirs < 2f64.powi(-4), "{name} of {shape:?}: {ours:e}, kernels {theirs:e}");
            assert!(apart < ours.hypot(theirs), "{name} of {shape:?}: {apart:e} apart, {theirs:e} from f32");
        }
    }
}

#[test]
#[ignore = "a measurement, to be run alone: prints tokens per second of both engines"]
fn speed_of_a_micro_step() {
    let shape = shape(512, 4096, 4, (4, 4), 256, "L");
    let mut model = Gpt::initialized(&shape, 1, &Device::Cpu).unwrap();
    let (ids, targets) = random_batch(&shape, 8, 512, 2);
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    let cases = [
        (Backend::Kernels, Precision::F32, 8),
        (Backend::Kernels, Precision::Bf16, 8),
        (Backend::Reference, Precision::F32, 1),
    ];
    for (engine, precision, times) in cases {
        model.set_backend(engine);
        model.set_precision(precision);
        let mut best = f64::INFINITY;
        for _ in 0..times {
            let start = std::time::Instant::now();
            model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{engine:?} {precision:?}: {:.0} tokens per second, {:.0} ms", 4096.0 / best, best * 1e3);
    }
}

#[test]
#[ignore = "a measurement, to be run alone: prints what a micro-step of the reference operations takes in memory"]
fn memory_of_the_reference_operations() {
    use crate::device::memory;
    let cases = [
        (shape(512, 4096, 4, (4, 4), 256, "L"), 4),
        (shape(256, 512, 4, (4, 4), 256, "SSSL"), 8),
        (shape(1024, 1024, 3, (8, 8), 256, "L"), 1),
        (shape(512, 16384, 2, (2, 2), 256, "L"), 2),
        (shape(256, 1024, 6, (6, 2), 384, "L"), 4),
        (shape(512, 1024, 2, (4, 4), 512, "L"), 4),
        (shape(128, 512, 8, (2, 2), 256, "L"), 16),
        (shape(1024, 512, 2, (4, 4), 128, "L"), 2),
        (shape(512, 2048, 6, (6, 3), 384, "SSL"), 2),
        (shape(256, 8192, 3, (2, 2), 128, "L"), 8),
        // Held out of the fit.
        (shape(768, 6144, 5, (5, 5), 320, "SL"), 1),
        (shape(128, 3072, 7, (3, 1), 192, "L"), 12),
    ];
    for precision in [Precision::F32, Precision::Bf16] {
        for (shape, rows) in &cases {
            let mut model = Gpt::initialized(shape, 1, &Device::Cpu).unwrap();
            model.set_backend(Backend::Reference);
            model.set_precision(precision);
            let mut sums = Gradients::zeros(model.parameters()).unwrap();
            sums.reset().unwrap();
            let (ids, targets) = random_batch(shape, *rows, shape.sequence_len, 2);
            model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
            memory::reset_peak();
            let before = memory::resident_bytes();
            model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
            let more = memory::peak_resident_bytes() - before;
            let ModelShape { sequence_len, vocab_size, n_layer, n_head, n_kv_head, n_embd, .. } = shape;
            println!("{precision:?} {rows} {sequence_len} {vocab_size} {n_layer} {n_head} {n_kv_head} {n_embd} {more}");
        }
    }
}
