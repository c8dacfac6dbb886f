//! From logits to right or wrong.

use candle_core::{IndexOp, Tensor};

use super::examples::{Posed, Sequence};
use crate::evals::EvalError;
use crate::evals::generate::likeliest;

/// What the model makes of one option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// Mean loss over the judged tokens in nats; NaN when there are none.
    pub mean_loss: f64,
    /// Whether each judged token was the likeliest.
    pub all_likeliest: bool,
}

/// Judges one option by logits (n, V) of consecutive positions, the first of which predicts `tokens[first]`.
pub(super) fn judge(sequence: &Sequence, logits: &Tensor, first: usize) -> Result<Judged, EvalError> {
    let judged = sequence.tokens.get(sequence.start..).unwrap_or_default();
    // With nothing before them (all options equal, down to <|bos|>) the tokens can't be predicted.
    if judged.is_empty() || sequence.start == 0 {
        return Ok(Judged { mean_loss: f64::NAN, all_likeliest: true });
    }
    let rows = logits.i(sequence.start - first..sequence.tokens.len() - first)?.to_vec2::<f32>()?;
    let mut total = 0.0;
    let mut all_likeliest = true;
    for (row, &token) in rows.iter().zip(judged) {
        total += loss(row, token);
        all_likeliest &= likeliest(row) == token;
    }
    Ok(Judged { mean_loss: total / judged.len() as f64, all_likeliest })
}

/// Cross-entropy in nats.
fn loss(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let chosen = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    sum.ln() - f64::from(chosen - largest)
}

/// Whether the question was answered rightly, given what was made of each of its options.
///
/// Equal options are judged alike, by the first of them: computed in other rows of a batch they may differ in rounding.
pub(super) fn is_right(posed: &Posed, options: &[Judged]) -> bool {
    let first_of_equals = |(index, option): (usize, &Judged)| {
        let sequence = posed.sequences.get(index);
        let first = posed.sequences.iter().position(|other| Some(other) == sequence);
        *first.and_then(|first| options.get(first)).unwrap_or(option)
    };
    let options: Vec<Judged> = options.iter().enumerate().map(first_of_equals).collect();
    match posed.gold {
        None => options.iter().all(|option| option.all_likeliest),
        Some(gold) => cheapest(&options) == Some(gold),
    }
}

/// The first option with the smallest mean loss, found as Python's `min` finds it: a NaN in front stays in front.
fn cheapest(options: &[Judged]) -> Option<usize> {
    let mut best = options.first()?;
    let mut at = 0;
    for (index, option) in options.iter().enumerate() {
        if option.mean_loss < best.mean_loss {
            (best, at) = (option, index);
        }
    }
    Some(at)
}
