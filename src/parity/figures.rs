//! Model figures that are integers: parameter counts, FLOPs, cache traffic and windows of several shapes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::check::Concerning;
use super::checkpoint::document;
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
    let entries: BTreeMap<String, Entry> = document(file)?;
    let mut checks = Vec::new();
    for (name, entry) in &entries {
        validate(&entry.config).map_err(|error| format!("{name}: {error}")).reading(file)?;
        for (quantity, ours, expected) in compared(entry).map_err(|error| format!("{name}: {error}")).reading(file)? {
            checks.push(Check::equal(file, format!("{name} {quantity}"), &ours, &expected));
        }
    }
    Ok(checks)
}

/// A quantity, our integers, and the reference's.
type Compared = (String, Vec<u64>, Vec<u64>);

/// Everything in one entry, or the key that no figure has.
fn compared(entry: &Entry) -> Result<Vec<Compared>, String> {
    let shape = &entry.config;
    let widen = |windows: &[usize]| windows.iter().map(|&window| window as u64).collect();
    let cache = kv_bytes_per_token(shape, ELEMENT_BYTES);
    let mut compared: Vec<Compared> = vec![
        ("params".into(), counts(&parameter_counts(shape)), counts(&entry.params)),
        ("flops_per_token".into(), vec![flops_per_token(shape)], vec![entry.flops_per_token]),
        ("kv_bytes_per_token".into(), vec![cache], vec![entry.kv_bytes_per_token]),
        ("window_sizes".into(), widen(&window_sizes(shape)), widen(&entry.window_sizes)),
    ];
    for (key, value) in &entry.at_tokens {
        let ours = at_tokens(shape, key).ok_or_else(|| format!("`{key}` is no figure that is known"))?;
        compared.push((key.clone(), vec![ours], vec![*value]));
    }
    Ok(compared)
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
