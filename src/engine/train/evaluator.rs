//! Validation bits per byte on the same batches every time.

use std::sync::Arc;

use crate::data::{Batch, Corpus, DataError, Loader, Split};
use crate::engines::Engine;
use crate::evals::bits_per_byte_by;
use crate::tokenizer::Tokenizer;
use nanochat_plan::{CACHED_TOKENS, RunPlan};

use super::TrainError;

/// Evaluates the validation split, always from its first batch on, as the baseline does.
pub struct Evaluator {
    corpus: Arc<Corpus>,
    tokenizer: Arc<Tokenizer>,
    token_bytes: Vec<u32>,
    batch_size: usize,
    sequence_len: usize,
    batches: usize,
    cache: Option<Vec<Batch>>,
}

impl Evaluator {
    /// Prepares an evaluator over `eval.tokens` tokens, rounded down to whole batches.
    pub fn new(plan: &RunPlan, corpus: Arc<Corpus>, tokenizer: Arc<Tokenizer>) -> Result<Self, TrainError> {
        let tokens_per_batch = plan.device_batch_size * plan.model.sequence_len as u64;
        let batches = plan.eval.tokens / tokens_per_batch.max(1);
        if batches == 0 {
            return Err(TrainError::Unsupported {
                what: format!("eval.tokens is {}, less than one batch of {tokens_per_batch} tokens", plan.eval.tokens),
                remedy: format!(
                    "set eval.tokens to at least {tokens_per_batch}, or the profile's device_batch_size lower"
                ),
            });
        }
        let token_bytes = tokenizer.token_bytes();
        Ok(Self {
            corpus,
            tokenizer,
            token_bytes,
            batch_size: plan.device_batch_size as usize,
            sequence_len: plan.model.sequence_len,
            batches: batches as usize,
            cache: None,
        })
    }

    /// Bits per byte of the engine's model on the validation split; given up after a batch when `stop` says so.
    pub fn evaluate(&mut self, engine: &mut dyn Engine, stop: &dyn Fn() -> bool) -> Result<f64, TrainError> {
        if self.cache.is_none() && self.tokens() <= CACHED_TOKENS {
            let mut loader = self.loader()?;
            let batches = (0..self.batches).map(|_| loader.next_batch_unless(stop)).collect::<Result<Vec<_>, _>>()?;
            self.cache = Some(batches);
        }
        let mut losses = |batch: &Batch| match stop() {
            true => Err(DataError::Stopped.into()),
            false => Ok(engine.evaluate(batch)?),
        };
        match &self.cache {
            Some(batches) => bits_per_byte_by(&mut losses, batches.iter().cloned().map(Ok), &self.token_bytes),
            None => {
                let mut loader = self.loader()?;
                let batches = (0..self.batches).map(|_| loader.next_batch_unless(stop));
                bits_per_byte_by(&mut losses, batches, &self.token_bytes)
            }
        }
    }

    fn tokens(&self) -> u64 {
        (self.batches * self.batch_size * self.sequence_len) as u64
    }

    fn loader(&self) -> Result<Loader, TrainError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        Ok(Loader::new(corpus, tokenizer, Split::Validation, self.batch_size, self.sequence_len)?)
    }
}
