//! Shapes, weights and batches that the tests of several rooms share.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::{Gpt, parameter_shapes};
use crate::random::Xoshiro256;
use nanochat_plan::ModelShape;

/// A shape from its sizes; heads are (query, key/value).
pub(crate) fn shape(
    sequence_len: usize,
    vocab_size: usize,
    n_layer: usize,
    (n_head, n_kv_head): (usize, usize),
    n_embd: usize,
    window_pattern: &str,
) -> ModelShape {
    ModelShape { sequence_len, vocab_size, n_layer, n_head, n_kv_head, n_embd, window_pattern: window_pattern.into() }
}

/// Small shapes with every feature on and off: one layer, odd and even depths, grouped queries, windows shorter than the
/// batch, vocabularies that need padding.
pub(crate) fn shapes() -> Vec<ModelShape> {
    vec![
        shape(16, 64, 1, (1, 1), 24, "L"),
        shape(32, 37, 2, (2, 1), 32, "L"),
        shape(24, 65, 3, (4, 2), 48, "SL"),
        shape(160, 40, 4, (3, 3), 36, "SSL"),
        shape(20, 130, 5, (4, 1), 64, "LS"),
    ]
}

/// A model whose every parameter is random and of a size that lets it matter.
pub(crate) fn random_model(shape: &ModelShape, seed: u64) -> Gpt {
    let tensors: HashMap<String, Tensor> = parameter_shapes(shape)
        .into_iter()
        .map(|(name, dims)| {
            let (mean, deviation) = match name.as_str() {
                "resid_lambdas" => (1.0, 0.1),
                "x0_lambdas" | "backout_lambda" => (0.2, 0.1),
                "smear_lambda" => (0.5, 0.1),
                "transformer.wte.weight" => (0.0, 0.8),
                _ if dims.len() == 2 && name.starts_with("value_embeds") => (0.0, 0.5),
                _ => (0.0, 1.5 / (dims.last().copied().unwrap_or(1) as f64).sqrt()),
            };
            let mut stream = Xoshiro256::named(seed, &name);
            let count: usize = dims.iter().product();
            let values = (0..count).map(|_| (mean + deviation * stream.normal_pair()[0]) as f32).collect::<Vec<f32>>();
            (name, Tensor::from_vec(values, dims, &Device::Cpu).expect("values fill the shape"))
        })
        .collect();
    Gpt::from_tensors(shape, &tensors, &Device::Cpu).expect("the weights fit")
}

/// Random ids and targets of `rows` × `length`; every seventh target is ignored where there are more than six.
pub(crate) fn random_batch(shape: &ModelShape, rows: usize, length: usize, seed: u64) -> (Tensor, Tensor) {
    let mut stream = Xoshiro256::named(seed, "batch");
    let mut below = |limit: usize| stream.plus_plus() % limit as u64;
    let ids: Vec<u32> = (0..rows * length).map(|_| below(shape.vocab_size) as u32).collect();
    let targets: Vec<i64> =
        (0..rows * length).map(|index| if index % 7 == 6 { -1 } else { below(shape.vocab_size) as i64 }).collect();
    let ids = Tensor::from_vec(ids, (rows, length), &Device::Cpu).expect("ids fill the shape");
    let targets = Tensor::from_vec(targets, (rows, length), &Device::Cpu).expect("targets fill the shape");
    (ids, targets)
}

/// All entries in f64.
pub(crate) fn entries(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.to_dtype(candle_core::DType::F64));
    tensor.and_then(|tensor| tensor.flatten_all()?.to_vec1()).expect("a readable tensor")
}

/// Largest absolute difference of two tensors of the same shape.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    entries(a).iter().zip(entries(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Norm of the difference of two tensors of the same shape, over the norm of the second.
pub(crate) fn relative_distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let (a, b) = (entries(a), entries(b));
    norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}
