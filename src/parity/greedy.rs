//! Greedy continuations of a checkpoint through the key/value cache.

use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::check::Concerning;
use super::checkpoint::{Evaluated, document};
use super::{Check, ParityError};
use nanochat_engine::generate::{Sampling, generate};

#[derive(Deserialize)]
struct Case {
    prompt: String,
    prompt_ids: Vec<u32>,
    /// The prompt's ids and the new ones.
    ids: Vec<u32>,
}

/// Recomputes a `greedy_generation.json`: each prompt's ids, and the ids that follow.
///
/// # Errors
/// Files that are missing or can't be read.
pub fn check(file: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let cases: Vec<Case> = document(file)?;
    let Evaluated { model, tokenizer } = Evaluated::load(file, device)?;
    let stop: Vec<u32> = tokenizer.special_id("<|assistant_end|>").into_iter().chain([tokenizer.bos_id()]).collect();
    let mut checks = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut prompt = vec![tokenizer.bos_id()];
        tokenizer.encode_into(&case.prompt, &mut prompt);
        let sampling =
            Sampling { max_tokens: case.ids.len().saturating_sub(case.prompt_ids.len()), ..Sampling::default() };
        let generated = generate(&model, &prompt, 1, &sampling, &stop).computing(file)?;
        let mut ids = prompt.clone();
        ids.extend(generated.into_iter().flatten());
        checks.push(Check::equal(file, format!("prompt {number} ids"), &prompt, &case.prompt_ids));
        checks.push(Check::equal(file, format!("prompt {number} continuation"), &ids, &case.ids));
    }
    Ok(checks)
}
