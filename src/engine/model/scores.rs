//! How likely given tokens are after others.

use nanochat_kernels::head::{Summary, summary};

/// A sequence whose tokens from `start` on are judged, each by what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation<'a> {
    /// All tokens.
    pub tokens: &'a [u32],
    /// First judged token. With nothing before it (0) nothing is judged.
    pub start: usize,
}

impl<'a> Continuation<'a> {
    /// The judged tokens.
    pub fn judged(&self) -> &'a [u32] {
        let start = if self.start == 0 { self.tokens.len() } else { self.start };
        self.tokens.get(start..).unwrap_or_default()
    }

    /// The tokens that must be read for it: all but the last.
    pub(super) fn read(&self) -> &'a [u32] {
        self.tokens.split_last().map_or(&[], |(_, read)| read)
    }
}

/// What the model makes of one token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenScore {
    /// Cross-entropy in nats.
    pub loss: f64,
    /// The token that the model thinks likeliest in its place, the first of equals.
    pub likeliest: u32,
}

impl TokenScore {
    /// The score of a token by capped logits over the vocabulary, of which there is at least one.
    pub fn of(logits: &[f32], token: u32) -> Option<Self> {
        let logit = *logits.get(token as usize)?;
        Some(Self::from_summary(summary(logits), logit))
    }

    /// The score of the likeliest token by capped logits over the vocabulary, of which there is at least one.
    pub fn of_the_likeliest(logits: &[f32]) -> Option<Self> {
        let summary = (!logits.is_empty()).then(|| summary(logits))?;
        Some(Self::from_summary(summary, *logits.get(summary.likeliest as usize)?))
    }

    pub(super) fn from_summary(summary: Summary, logit: f32) -> Self {
        Self { loss: summary.log_total - f64::from(logit), likeliest: summary.likeliest }
    }
}
