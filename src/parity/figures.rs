//! Model figures that are integers: parameter counts, FLOPs, cache traffic and windows of several shapes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Check, ParityError};
use nanochat_plan::shape::{
    decode_flops, flops_per_token, kv_bytes_per_token, kv_read_bytes, parameter_counts, prefill_flops, validate,
    window_sizes,
};
use nanochat_plan::{ModelShape, ParameterCounts};

/// Bytes of a number in the reference's cache, which is in f32.
const ELEMENT_BYTES: u64 = 4;

/// One model's entry. Other keys give figures at a number of tokens that stands at the key's end, as in `decode_flops_48`.
#[derive(Debug, Deserialize)]
struct Entry {
    config: ModelShape,
    params: ParameterCounts,
    flops_per_token: u64,
    kv_bytes_per_token: u64,
    window_sizes: Vec<usize>,
    #[serde(flatten)]
    at_tokens: BTreeMap<String, u64>,
}

/// Recomputes the integers of a `model_figures.json` file.
pub fn check(file: &Path) -> Result<Vec<Check>, ParityError> {
    let text = std::fs::read_to_string(file).map_err(|error| ParityError::unreadable(file, error))?;
    let entries: BTreeMap<String, Entry> =
        serde_json::from_str(&text).map_err(|error| ParityError::unreadable(file, error))?;
    let mut checks = Vec::new();
    for (name, entry) in &entries {
        validate(&entry.config).map_err(|error| ParityError::unreadable(file, format!("{name}: {error}")))?;
        for (quantity, ours, expected) in compared(entry) {
            let expected = expected.map_err(|reason| ParityError::unreadable(file, format!("{name}: {reason}")))?;
            checks.push(integers(file, format!("{name} {quantity}"), &ours, &expected));
        }
    }
    Ok(checks)
}

/// A quantity, our integers, and the reference's, or why they can't be recomputed.
type Compared = (String, Vec<u64>, Result<Vec<u64>, String>);

/// Everything in one entry.
fn compared(entry: &Entry) -> Vec<Compared> {
    let shape = &entry.config;
    let widen = |windows: Vec<usize>| windows.into_iter().map(|window| window as u64).collect();
    let mut compared: Vec<Compared> = vec![
        ("params".to_string(), counts(&parameter_counts(shape)), Ok(counts(&entry.params))),
        ("flops_per_token".to_string(), vec![flops_per_token(shape)], Ok(vec![entry.flops_per_token])),
        (
            "kv_bytes_per_token".to_string(),
            vec![kv_bytes_per_token(shape, ELEMENT_BYTES)],
            Ok(vec![entry.kv_bytes_per_token]),
        ),
        ("window_sizes".to_string(), widen(window_sizes(shape)), Ok(widen(entry.window_sizes.clone()))),
    ];
    for (key, value) in &entry.at_tokens {
        match at_tokens(shape, key) {
            Some(ours) => compared.push((key.clone(), vec![ours], Ok(vec![*value]))),
            None => compared.push((key.clone(), Vec::new(), Err(format!("`{key}` is no figure that is known")))),
        }
    }
    compared
}

/// The figure that a key such as `decode_flops_48` names.
fn at_tokens(shape: &ModelShape, key: &str) -> Option<u64> {
    let (figure, tokens) = key.rsplit_once('_')?;
    let tokens = tokens.parse().ok()?;
    match figure {
        "prefill_flops" => Some(prefill_flops(shape, tokens)),
        "decode_flops" => Some(decode_flops(shape, tokens)),
        "kv_read_bytes" => Some(kv_read_bytes(shape, tokens, ELEMENT_BYTES)),
        _ => None,
    }
}

/// The counts in a fixed order.
fn counts(counts: &ParameterCounts) -> Vec<u64> {
    let ParameterCounts { wte, value_embeds, lm_head, transformer_matrices, scalars, total } = counts;
    vec![*wte, *value_embeds, *lm_head, *transformer_matrices, *scalars, *total]
}

/// Equality of two lists of integers.
fn integers(file: &Path, quantity: String, ours: &[u64], expected: &[u64]) -> Check {
    let shared = ours.iter().zip(expected).filter(|(ours, expected)| ours != expected).count();
    Check::equal(file, quantity, shared + ours.len().abs_diff(expected.len()), expected.len())
}
