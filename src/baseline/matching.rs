//! Whether both arms train on the same: each builds its first micro-batches with its own code, and the hashes are compared.

use std::sync::Arc;

use serde::Deserialize;

use nanochat_artifacts::bytes_sha256;
use nanochat_engine::data::{Corpus, Loader, Split};
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::RunPlan;

use super::arm::{Matching, Variant, variables};
use super::base_folder::BaseFolder;
use super::python::{Python, Script};
use super::{BaselineError, Checkout};

/// The answer of `first_batches.py`.
#[derive(Deserialize)]
struct Answer {
    train: String,
    validation: String,
    vocab_size: usize,
    token_bytes: String,
    #[serde(default)]
    evaluation: Option<f64>,
}

/// Hashes of both arms. Differences are no error: they are recorded, and make the pair not comparable.
///
/// # Errors
/// A shard can't be read, the baseline's own loader fails on the base folder, or a stop was requested.
pub fn compare_batches(
    plan: &RunPlan,
    corpus: &Arc<Corpus>,
    tokenizer: &Arc<Tokenizer>,
    (checkout, python, base): (&Checkout, &Python, &BaseFolder),
    stop: &dyn Fn() -> bool,
) -> Result<Matching, BaselineError> {
    let (rows, tokens) = (plan.device_batch_size as usize, plan.model.sequence_len);
    let ours = |split| -> Result<String, BaselineError> {
        Ok(Loader::new(corpus.clone(), tokenizer.clone(), split, rows, tokens)?.next_batch()?.sha256())
    };
    let script = Script {
        text: include_str!("scripts/first_batches.py"),
        name: "first-batches",
        task: "building its first micro-batches",
        arguments: &[rows.to_string(), tokens.to_string()],
    };
    let theirs: Answer = python.ask(checkout, &script, &variables(base, Variant::of(plan)), stop)?;
    let lengths: Vec<u8> = tokenizer.token_bytes().iter().flat_map(|length| length.to_le_bytes()).collect();
    let pairs = [
        ("the first training micro-batch", ours(Split::Train)?, theirs.train.clone()),
        ("the first validation micro-batch", ours(Split::Validation)?, theirs.validation.clone()),
        ("the vocabulary's size", tokenizer.vocab_size().to_string(), theirs.vocab_size.to_string()),
        ("the tokens' lengths in bytes", bytes_sha256(&lengths), theirs.token_bytes),
    ];
    let differing = pairs.iter().filter(|(_, ours, theirs)| ours != theirs);
    let digits = |hash: &str| hash.get(..12).unwrap_or(hash).to_string();
    Ok(Matching {
        data_sha256: corpus.sha256()?,
        tokenizer_sha256: tokenizer.sha256(),
        first_batch_sha256: theirs.train,
        first_validation_batch_sha256: theirs.validation,
        evaluation_probe: theirs.evaluation,
        differences: differing
            .map(|(what, ours, theirs)| format!("{what} ({} here, {} in the baseline)", digits(ours), digits(theirs)))
            .collect(),
    })
}
