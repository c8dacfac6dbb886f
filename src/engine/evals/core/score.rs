//! From scores to right or wrong.

use super::examples::{Posed, Sequence};
use crate::model::TokenScore;

/// What the model makes of one option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// Mean loss over the judged tokens in nats; NaN when there are none.
    pub mean_loss: f64,
    /// Whether each judged token was the likeliest.
    pub all_likeliest: bool,
}

impl Judged {
    /// From the scores of an option's judged tokens. There are none when options are equal, down to <|bos|>.
    pub(super) fn new(sequence: &Sequence, scores: &[TokenScore]) -> Self {
        if scores.is_empty() {
            return Self { mean_loss: f64::NAN, all_likeliest: true };
        }
        let total: f64 = scores.iter().map(|score| score.loss).sum();
        let judged = sequence.continuation().judged();
        let all_likeliest = scores.iter().zip(judged).all(|(score, token)| score.likeliest == *token);
        Self { mean_loss: total / scores.len() as f64, all_likeliest }
    }
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
