//! Bits per byte of a checkpoint on both splits of the data it was trained on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use serde::Deserialize;

use super::check::Concerning;
use super::checkpoint::{Evaluated, document, open_corpus};
use super::{Bound, Check, ParityError};
use nanochat_engine::data::{Loader, Split};
use nanochat_engine::evals::bits_per_byte;

/// Relative bound. The reference sums some thousand losses in f32, which alone may shift a sum by 1e-6 of itself; our own
/// sum is in f64.
const BOUND: Bound = Bound::Relative(2e-6);

#[derive(Deserialize)]
struct Reference {
    /// Sequences a batch.
    batch: usize,
    /// Batches.
    steps: usize,
    /// Tokens a sequence.
    sequence_len: usize,
    /// By split: `train`, `val`.
    bpb: BTreeMap<String, f64>,
}

/// Recomputes a `bpb.json` on `data`, a folder of parquet shards.
///
/// # Errors
/// No `data`; files that are missing or can't be read; a split that isn't known.
pub fn check(file: &Path, data: Option<&Path>, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference: Reference = document(file)?;
    let data = data.ok_or_else(|| ParityError::unreadable(file, "it needs the data: give its folder with `--data`"))?;
    let evaluated = Evaluated::load(file, device)?;
    let (corpus, tokenizer) = (Arc::new(open_corpus(data)?), Arc::new(evaluated.tokenizer));
    let token_bytes = tokenizer.token_bytes();
    let mut checks = Vec::new();
    for (name, &expected) in &reference.bpb {
        let split = match name.as_str() {
            "train" => Split::Train,
            "val" => Split::Validation,
            other => return Err(ParityError::unreadable(file, format!("unknown split `{other}`"))),
        };
        let loader = Loader::new(corpus.clone(), tokenizer.clone(), split, reference.batch, reference.sequence_len);
        let mut loader = loader.computing(file)?;
        let batches = (0..reference.steps).map(|_| loader.next_batch());
        let ours = bits_per_byte(&evaluated.model, batches, &token_bytes).computing(file)?;
        checks.push(Check::numbers(file, format!("bpb {name}"), [ours], [expected], BOUND));
    }
    Ok(checks)
}
