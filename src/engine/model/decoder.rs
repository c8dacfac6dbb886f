//! Decoding: prompts, then token by token, with whatever serves the model.

use candle_core::DType;

use super::cache::Store;
use super::inference::{self, Buffers, StepBuffers, StepWeights};
use super::weights::with_weights;
use super::{Gpt, KvCache, ModelError};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{kv_dim, window_sizes};

/// Tokens of a prompt that go through the model at a time: enough to keep the matrices busy, and a bound on what a prompt
/// of any length takes besides its cache.
const PREFILL_TOKENS: usize = 512;

/// A model at work on prompts and their continuations.
///
/// On the kernels a row's logits have the same bits whatever rows are beside it, and after the first step of a batch nothing
/// is allocated but pages of the cache.
pub struct Decoder<'a> {
    model: &'a Gpt,
    kernels: Option<Kernels<'a>>,
    /// What passes over prompts work on.
    buffers: Buffers,
    /// What the reference operations gave last.
    logits: Vec<f32>,
}

struct Kernels<'a> {
    weights: StepWeights<'a>,
    buffers: StepBuffers,
}

impl Gpt {
    /// Calls `work` with a decoder, on the current thread pool, which it doesn't leave between steps.
    pub fn decoding<R: Send>(&self, work: impl FnOnce(&mut Decoder<'_>) -> R + Send) -> Result<R, ModelError> {
        let Some((_, DType::F32)) = self.by_kernels() else {
            return Ok(work(&mut Decoder {
                model: self,
                kernels: None,
                buffers: Buffers::default(),
                logits: Vec::new(),
            }));
        };
        with_weights::<f32, _>(self.parameters(), |weights| {
            let weights = StepWeights::new(self.shape(), weights, self.narrow())?;
            let kernels = Some(Kernels { weights, buffers: StepBuffers::default() });
            let mut decoder = Decoder { model: self, kernels, buffers: Buffers::default(), logits: Vec::new() };
            Ok(rayon::scope(|_| work(&mut decoder)))
        })
    }
}

impl Decoder<'_> {
    /// The model.
    pub fn model(&self) -> &Gpt {
        self.model
    }

    /// Whether rows of different lengths can be decoded together.
    pub fn takes_ragged_rows(&self) -> bool {
        self.kernels.is_some()
    }

    /// An empty cache of one row that will hold about `capacity` tokens.
    pub fn new_cache(&self, capacity: usize) -> Result<KvCache, ModelError> {
        self.model.new_cache(1, capacity)
    }

    /// Feeds some tokens to a cache of one row, at least one: the capped logits after the last.
    pub fn prefill(&mut self, ids: &[u32], cache: &mut KvCache) -> Result<&[f32], ModelError> {
        if cache.rows() != 1 {
            return Err(ModelError::CacheRows { batch: 1, cache: cache.rows() });
        }
        if ids.is_empty() {
            return Err(ModelError::Batch { what: "ids", expected: "u32", got: "a row without tokens".into() });
        }
        cache.exchange(&mut self.buffers);
        let fed = ids.chunks(PREFILL_TOKENS).try_for_each(|ids| {
            self.logits = self.model.next_logits(&[ids], cache)?.pop().unwrap_or_default();
            Ok(())
        });
        cache.exchange(&mut self.buffers);
        fed.map(|()| self.logits.as_slice())
    }

    /// Feeds one token to each row of a cache: the capped logits after it, row after row.
    pub fn step(&mut self, ids: &[u32], cache: &mut KvCache) -> Result<&[f32], ModelError> {
        if ids.len() != cache.rows() || ids.is_empty() {
            return Err(ModelError::CacheRows { batch: ids.len(), cache: cache.rows() });
        }
        if let Some(Kernels { weights, buffers }) = &mut self.kernels
            && let Store::Paged(rows) = cache.store_mut()
        {
            self.model.check_tokens(ids)?;
            return Ok(inference::step(self.model.shape(), weights, ids, rows, buffers));
        }
        let new: Vec<&[u32]> = ids.iter().map(std::slice::from_ref).collect();
        self.logits = self.model.next_logits(&new, cache)?.concat();
        Ok(&self.logits)
    }
}

/// Bytes that a cache of `rows` rows of `tokens` tokens each takes at most.
pub fn cache_bytes(shape: &ModelShape, rows: u64, tokens: usize) -> u64 {
    let a_token = (2 * kv_dim(shape) * DType::F32.size_in_bytes()) as u64;
    let held = |window: usize| inference::most_held(tokens, window) as u64;
    let tokens: u64 = window_sizes(shape).into_iter().map(held).sum();
    rows.saturating_mul(tokens).saturating_mul(a_token)
}
