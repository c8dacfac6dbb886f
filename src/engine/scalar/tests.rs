//! The tape against known slopes, and the tensor model against the scalar one.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::{Number, Tape, evaluate};
use crate::model::testing::{entries, random_batch, random_model, shapes};
use crate::model::{Backend, Gpt, Gradients};

/// A function of two numbers on a tape.
type Function = fn(&mut Tape, Number, Number) -> Number;

#[test]
fn slopes_equal_finite_differences() {
    let functions: [Function; 12] = [
        |tape, a, b| tape.add(a, b),
        |tape, a, b| tape.multiply(a, b),
        |tape, a, b| tape.divide(a, b),
        |tape, a, _| tape.affine(a, 3.0, 1.0),
        |tape, a, _| tape.exp(a),
        |tape, a, _| tape.ln(a),
        |tape, a, _| tape.sqrt(a),
        |tape, a, _| tape.tanh(a),
        |tape, a, _| tape.sigmoid(a),
        |tape, a, _| tape.squared_relu(a),
        |tape, a, b| tape.sum(&[a, b, a]),
        |tape, a, b| tape.dot(&[a, b], &[b, b]),
    ];
    for (index, function) in functions.iter().enumerate() {
        let value = |a: f64, b: f64| {
            let mut tape = Tape::default();
            let (a, b) = (tape.leaf(a), tape.leaf(b));
            let result = function(&mut tape, a, b);
            let gradient = tape.gradient(result);
            (tape.value(result), gradient.of(a), gradient.of(b))
        };
        let (a, b, step) = (0.7, -1.3, 1e-6);
        let (_, slope_a, slope_b) = value(a, b);
        let by_a = (value(a + step, b).0 - value(a - step, b).0) / (2.0 * step);
        let by_b = (value(a, b + step).0 - value(a, b - step).0) / (2.0 * step);
        assert!((slope_a - by_a).abs() < 1e-8 && (slope_b - by_b).abs() < 1e-8, "function {index}");
    }
}

/// The largest difference relative to the largest entry, or to 1% where all are smaller: the gradient of a last layer's
/// backout is the rounding left by terms that cancel.
fn error(ours: &[f64], oracle: &[f64]) -> f64 {
    assert_eq!(ours.len(), oracle.len());
    let largest = oracle.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let difference = ours.iter().zip(oracle).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
    if difference == 0.0 { 0.0 } else { difference / largest.max(1e-2) }
}

/// Holds both engines of the model, in one float type, against the scalar one.
fn compare(mut model: Gpt, rows: usize, length: usize, bound: f64) {
    for engine in [Backend::Reference, Backend::Kernels] {
        model.set_backend(engine);
        compare_engine(&model, engine, rows, length, bound);
    }
}

fn compare_engine(model: &Gpt, backend: Backend, rows: usize, length: usize, bound: f64) {
    let (ids, targets) = random_batch(model.shape(), rows, length, 20);
    let weights: BTreeMap<String, Vec<f64>> =
        model.parameters().iter().map(|(name, tensor)| (name.clone(), entries(tensor))).collect();
    let oracle = evaluate(model.shape(), &weights, &ids.to_vec2().unwrap(), &targets.to_vec2().unwrap());
    let check = |what: &str, ours: &Tensor, oracle: &[f64]| {
        let error = error(&entries(ours), oracle);
        assert!(error < bound, "{what} of {:?} by {backend:?}: {error:e}", model.shape());
    };
    check("logits", &model.logits(&ids).unwrap(), &oracle.logits.concat().concat());
    check("losses", &model.losses(&ids, &targets).unwrap(), &oracle.losses.concat());
    let mut sums = Gradients::zeros(model.parameters()).unwrap();
    let loss = model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).unwrap();
    assert!((f64::from(loss) - oracle.loss).abs() < 1e-6 * oracle.loss);
    for (name, tensor) in sums.tensors() {
        check(name, tensor, &oracle.gradients[name]);
    }
}

#[test]
fn the_tensor_model_equals_the_scalar_one_in_f64() {
    for shape in shapes() {
        compare(random_model(&shape, 21).to_dtype(DType::F64).unwrap(), 2, 6, 1e-12);
    }
}

#[test]
fn the_tensor_model_equals_the_scalar_one_in_f32() {
    for shape in shapes() {
        compare(random_model(&shape, 22), 2, 6, 5e-5);
    }
}

#[test]
fn windows_hide_what_lies_before_them() {
    // The only shape whose window (128) is shorter than a batch that its context allows.
    let shape = shapes().into_iter().find(|shape| shape.sequence_len > 128).unwrap();
    let small = nanochat_plan::ModelShape { n_layer: 2, n_embd: 24, n_head: 1, n_kv_head: 1, ..shape };
    compare(random_model(&small, 23).to_dtype(DType::F64).unwrap(), 1, 140, 1e-11);
}
