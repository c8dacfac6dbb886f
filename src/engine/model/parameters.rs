//! Names and shapes of the parameters, and the check of given weights against them.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use super::ModelError;
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{
    MLP_EXPANSION, SMEAR_CHANNELS, VALUE_GATE_CHANNELS, has_value_embedding, kv_dim, padded_vocab_size,
};

/// All parameters by the baseline's names, in name order.
pub type Parameters = BTreeMap<String, Tensor>;

/// Name of the token embedding.
pub const TOKEN_EMBEDDING: &str = "transformer.wte.weight";
/// Name of the output projection.
pub const HEAD: &str = "lm_head.weight";
/// Name of the residual scalars, one a layer.
pub const RESIDUAL_SCALARS: &str = "resid_lambdas";
/// Name of the input scalars, one a layer.
pub const INPUT_SCALARS: &str = "x0_lambdas";
/// Name of the smear gate.
pub const SMEAR_GATE: &str = "smear_gate.weight";
/// Name of the smear scalar.
pub const SMEAR_SCALAR: &str = "smear_lambda";
/// Name of the backout scalar.
pub const BACKOUT_SCALAR: &str = "backout_lambda";

/// Name of a layer's matrix, such as `attn.c_q`.
pub fn layer_name(layer: usize, matrix: &str) -> String {
    format!("transformer.h.{layer}.{matrix}.weight")
}

/// Name of a layer's value embedding.
pub fn value_embedding_name(layer: usize) -> String {
    format!("value_embeds.{layer}.weight")
}

/// Shape of every parameter by name; matrices are (outputs, inputs).
pub fn parameter_shapes(shape: &ModelShape) -> BTreeMap<String, Vec<usize>> {
    let vocab = padded_vocab_size(shape.vocab_size);
    let (width, kv, hidden) = (shape.n_embd, kv_dim(shape), MLP_EXPANSION * shape.n_embd);
    let mut shapes = BTreeMap::from(
        [
            (TOKEN_EMBEDDING, vec![vocab, width]),
            (HEAD, vec![vocab, width]),
            (RESIDUAL_SCALARS, vec![shape.n_layer]),
            (INPUT_SCALARS, vec![shape.n_layer]),
            (SMEAR_GATE, vec![1, SMEAR_CHANNELS]),
            (SMEAR_SCALAR, vec![1]),
            (BACKOUT_SCALAR, vec![1]),
        ]
        .map(|(name, dims)| (name.to_string(), dims)),
    );
    for layer in 0..shape.n_layer {
        let matrices = [
            ("attn.c_q", [width, width]),
            ("attn.c_k", [kv, width]),
            ("attn.c_v", [kv, width]),
            ("attn.c_proj", [width, width]),
            ("mlp.c_fc", [hidden, width]),
            ("mlp.c_proj", [width, hidden]),
        ];
        shapes.extend(matrices.map(|(matrix, dims)| (layer_name(layer, matrix), dims.to_vec())));
        if has_value_embedding(layer, shape.n_layer) {
            shapes.insert(layer_name(layer, "attn.ve_gate"), vec![shape.n_kv_head, VALUE_GATE_CHANNELS]);
            shapes.insert(value_embedding_name(layer), vec![vocab, kv]);
        }
    }
    shapes
}

/// Copies given weights to `device` in f32, or lists everything that is wrong with them.
pub(super) fn from_tensors(
    shape: &ModelShape,
    tensors: &HashMap<String, Tensor>,
    device: &Device,
) -> Result<Parameters, ModelError> {
    let expected = parameter_shapes(shape);
    let mut problems = Vec::new();
    let mut parameters = Parameters::new();
    for (name, dims) in &expected {
        match tensors.get(name) {
            None => problems.push(format!("{name}: missing, expected shape {dims:?}")),
            Some(tensor) if tensor.dims() != dims => {
                problems.push(format!("{name}: shape {:?}, expected {dims:?}", tensor.dims()));
            }
            Some(tensor) if !tensor.dtype().is_float() => {
                problems.push(format!("{name}: type {}, expected a float type", tensor.dtype().as_str()));
            }
            Some(tensor) => {
                let parameter = tensor.to_dtype(DType::F32)?.to_device(device)?.copy()?.detach();
                if !is_finite(&parameter)? {
                    problems.push(format!("{name}: holds NaN or infinity"));
                }
                parameters.insert(name.clone(), parameter);
            }
        }
    }
    let mut unknown: Vec<&String> = tensors.keys().filter(|name| !expected.contains_key(*name)).collect();
    unknown.sort();
    problems.extend(unknown.into_iter().map(|name| format!("{name}: no parameter of this shape has that name")));
    if problems.is_empty() { Ok(parameters) } else { Err(ModelError::Weights { problems }) }
}

/// Whether every entry is a finite number.
fn is_finite(tensor: &Tensor) -> Result<bool, candle_core::Error> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite()))
}
