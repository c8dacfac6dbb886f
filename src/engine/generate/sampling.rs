//! Choosing a token from logits.

use super::GenerateError;
use crate::model::TokenScore;
use crate::random::SplitMix64;

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

impl Sampling {
    /// Refuses what can't be drawn by.
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        if self.temperature >= 0.0 && self.temperature.is_finite() {
            return Ok(());
        }
        let told = format!("a temperature is 0 or a positive number, not {}", self.temperature);
        Err(GenerateError::Sampling(told))
    }
}

/// Memory of a draw, kept for the next.
#[derive(Debug, Default)]
pub(super) struct Draws {
    order: Vec<u32>,
    weights: Vec<f64>,
}

/// A token, and the logarithm of the probability that the model gives it (at temperature 1, among all tokens).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chosen {
    pub id: u32,
    pub log_probability: f64,
}

impl Draws {
    /// The next token of a sample by its logits and its generator.
    pub(super) fn choose(&mut self, logits: &[f32], sampling: &Sampling, generator: &mut SplitMix64) -> Chosen {
        if sampling.temperature == 0.0 {
            let score = TokenScore::of_the_likeliest(logits).unwrap_or_default();
            return Chosen { id: score.likeliest, log_probability: -score.loss };
        }
        let draw = generator.uniform();
        score(logits, self.drawn(logits, sampling.temperature, sampling.top_k, draw))
    }

    /// The token at which the cumulated probability passes `draw` (0 to 1), in the order of the ids.
    fn drawn(&mut self, logits: &[f32], temperature: f64, top_k: Option<usize>, draw: f64) -> u32 {
        let Self { order, weights } = self;
        order.clear();
        order.extend(0..logits.len() as u32);
        let logit = |id: &u32| f64::from(logits.get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY));
        if let Some(kept) = top_k.filter(|kept| (1..logits.len()).contains(kept)) {
            // Among equal logits the first ids are kept.
            order.select_nth_unstable_by(kept - 1, |a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
            order.truncate(kept);
            order.sort_unstable();
        }
        let largest = order.iter().map(logit).fold(f64::NEG_INFINITY, f64::max);
        weights.clear();
        weights.extend(order.iter().map(|id| ((logit(id) - largest) / temperature).exp()));
        let mut remaining = draw * weights.iter().sum::<f64>();
        for (id, weight) in order.iter().zip(&*weights) {
            remaining -= weight;
            if remaining < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a rest: the last token that can be drawn at all.
        let drawable = order.iter().zip(&*weights).rev().find(|(_, weight)| **weight > 0.0);
        drawable.map_or(0, |(id, _)| *id)
    }
}

/// A token with its logarithm of probability.
pub(super) fn score(logits: &[f32], id: u32) -> Chosen {
    Chosen { id, log_probability: TokenScore::of(logits, id).map_or(f64::NAN, |score| -score.loss) }
}
