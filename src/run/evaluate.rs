//! Bits per byte of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use nanochat_engine::data::{Corpus, Split};
use nanochat_engine::evals::{SplitBits, bits_per_byte_of_split};
use nanochat_engine::trained::Trained;
use nanochat_plan::DataPlan;

use super::RunError;

/// Rows of a batch without a plan.
const BATCH_SIZE: usize = 8;
/// Tokens to evaluate without a plan.
const TOKENS: u64 = 1 << 19;

/// What to measure; the plan of the checkpoint decides what isn't stated.
#[derive(Debug)]
pub struct BitsRequest<'a> {
    /// Folder of parquet shards.
    pub data: Option<&'a Path>,
    /// Split of the data.
    pub split: Split,
    /// Rows of a batch.
    pub batch_size: Option<usize>,
    /// Tokens to evaluate, rounded down to whole batches.
    pub tokens: Option<u64>,
}

/// Bits per byte of a model on a split.
///
/// # Errors
/// There is no data, it can't be read, or the model fails on it.
pub fn bits_per_byte(trained: &Trained, request: &BitsRequest<'_>) -> Result<SplitBits, RunError> {
    let plan = trained.plan.as_ref();
    let named = request.data.map(|path| DataPlan::parquet(path.display().to_string()));
    let data = named.or_else(|| plan.map(|plan| plan.data.clone())).ok_or(RunError::NoEvaluationData)?;
    let corpus = Arc::new(Corpus::open(&data, Path::new("."))?);
    let batch_size = request.batch_size.or(plan.map(|plan| plan.device_batch_size as usize)).unwrap_or(BATCH_SIZE);
    let tokens = request.tokens.or(plan.map(|plan| plan.eval.tokens)).unwrap_or(TOKENS);
    let (model, tokenizer) = (&trained.model, &trained.tokenizer);
    Ok(bits_per_byte_of_split(model, tokenizer, &corpus, request.split, batch_size, tokens)?)
}
