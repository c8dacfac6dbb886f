//! Text from a model, token by token through the key/value cache (`nanochat/engine.py`).
//!
//! The prompt is computed once and shared by all samples. Each sample draws from its own generator, seeded by the seed
//! and the sample's number, so a sample is the same however many others are drawn beside it. The baseline draws all rows
//! from one PyTorch generator; sampled tokens therefore differ from its own, greedy ones don't. Its calculator is not
//! part of this.

use candle_core::DType;

use super::EvalError;
use crate::model::Gpt;
use crate::plan::shape::head_dim;

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// New tokens at most.
    pub max_tokens: usize,
    /// 0 takes the likeliest token; higher flattens the distribution.
    pub temperature: f64,
    /// Draw among this many of the likeliest; none: among all.
    pub top_k: Option<usize>,
    /// Seed of the draws.
    pub seed: u64,
    /// Largest key/value cache in bytes; none: no limit.
    pub max_cache_bytes: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { max_tokens: 64, temperature: 0.0, top_k: None, seed: 42, max_cache_bytes: None }
    }
}

/// Continues a prompt `samples` times. Each result holds the new tokens alone; it ends before the first of `stop_ids`.
///
/// The prompt may be longer than the context that the model was trained with.
///
/// Errors: an empty prompt, senseless settings, a cache that would go past the limit, a model that fails.
pub fn generate(
    model: &Gpt,
    prompt: &[u32],
    samples: usize,
    sampling: &Sampling,
    stop_ids: &[u32],
) -> Result<Vec<Vec<u32>>, EvalError> {
    check(model, prompt, samples, sampling)?;
    if sampling.max_tokens == 0 || samples == 0 {
        return Ok(vec![Vec::new(); samples]);
    }
    let mut prefilled = model.new_cache(1, prompt.len())?;
    let first = model.next_logits(&[prompt], &mut prefilled)?;
    let mut logits = vec![first.into_iter().next().unwrap_or_default(); samples];
    let mut cache = prefilled.repeat(samples, prompt.len() + sampling.max_tokens)?;
    drop(prefilled);
    let mut rows: Vec<Row> = (0..samples).map(|row| Row::new(sampling.seed, row as u64)).collect();
    for step in 0..sampling.max_tokens {
        let next: Vec<u32> = rows.iter_mut().zip(&logits).map(|(row, logits)| row.choose(logits, sampling)).collect();
        for (row, &token) in rows.iter_mut().zip(&next) {
            row.take(token, stop_ids);
        }
        if rows.iter().all(|row| row.ended) || step + 1 == sampling.max_tokens {
            break;
        }
        let new: Vec<&[u32]> = next.iter().map(std::slice::from_ref).collect();
        logits = model.next_logits(&new, &mut cache)?;
    }
    Ok(rows.into_iter().map(|row| row.tokens).collect())
}

fn check(model: &Gpt, prompt: &[u32], samples: usize, sampling: &Sampling) -> Result<(), EvalError> {
    if prompt.is_empty() {
        return Err(EvalError::EmptyPrompt);
    }
    if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
        let told = format!("a temperature is 0 or a positive number, not {}", sampling.temperature);
        return Err(EvalError::Sampling(told));
    }
    let shape = model.shape();
    let tokens = prompt.len().saturating_add(sampling.max_tokens);
    let bytes_per_token = 2 * shape.n_layer * shape.n_kv_head * head_dim(shape) * DType::F32.size_in_bytes();
    // The prompt's own cache of one row is held beside the samples' while it is copied.
    let cells = (samples as u64).saturating_mul(tokens as u64).saturating_add(prompt.len() as u64);
    let bytes = cells.saturating_mul(bytes_per_token as u64);
    match sampling.max_cache_bytes {
        Some(allowed) if bytes > allowed => Err(EvalError::CacheTooLarge { rows: samples, tokens, bytes, allowed }),
        _ => Ok(()),
    }
}

/// One sample under way.
struct Row {
    tokens: Vec<u32>,
    ended: bool,
    generator: SplitMix64,
}

impl Row {
    fn new(seed: u64, row: u64) -> Self {
        // Two rounds part the streams of neighbouring seeds and rows.
        let mut mixed = SplitMix64(seed);
        let base = mixed.next();
        let generator = SplitMix64(SplitMix64(base ^ row.wrapping_mul(0xd1b5_4a32_d192_ed03)).next());
        Self { tokens: Vec::new(), ended: false, generator }
    }

    fn choose(&mut self, logits: &[f32], sampling: &Sampling) -> u32 {
        if sampling.temperature == 0.0 {
            return likeliest(logits);
        }
        let draw = self.generator.uniform();
        drawn(logits, sampling.temperature, sampling.top_k, draw)
    }

    fn take(&mut self, token: u32, stop_ids: &[u32]) {
        self.ended = self.ended || stop_ids.contains(&token);
        if !self.ended {
            self.tokens.push(token);
        }
    }
}

/// Index of the largest logit, the first of equals.
pub(super) fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logits.get(best).is_none_or(|largest| logit > largest) {
            best = index;
        }
    }
    best as u32
}

/// The token at which the cumulated probability passes `draw` (0 to 1), the likeliest tokens first.
fn drawn(logits: &[f32], temperature: f64, top_k: Option<usize>, draw: f64) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |index: &u32| f64::from(logits.get(*index as usize).copied().unwrap_or(f32::NEG_INFINITY));
    // Equal logits keep the order of their ids, so the choice never depends on the sort.
    order.sort_by(|left, right| logit(right).total_cmp(&logit(left)));
    order.truncate(top_k.filter(|&kept| kept > 0).unwrap_or(logits.len()));
    let largest = order.first().map_or(0.0, logit);
    let weights: Vec<f64> = order.iter().map(|index| ((logit(index) - largest) / temperature).exp()).collect();
    let mut remaining = draw * weights.iter().sum::<f64>();
    for (index, weight) in order.iter().zip(&weights) {
        remaining -= weight;
        if remaining < 0.0 {
            return *index;
        }
    }
    order.last().copied().unwrap_or_default()
}

/// Steele, Lea and Flood's generator (2014): one 64-bit state, every seed as good as any.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1, in steps of 2^-53.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
