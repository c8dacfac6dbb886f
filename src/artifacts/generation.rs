//! What `nanochat generate` prints as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Continuations of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// `nanochat.generation/v1`.
    pub schema: String,
    /// The step after which the checkpoint was saved.
    pub step: u64,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// The prompt's text.
    pub prompt: String,
    /// Its ids, `<|bos|>` first.
    pub prompt_ids: Vec<u32>,
    /// New tokens a sample at most.
    pub max_tokens: u64,
    /// 0 where the likeliest token was taken each time.
    pub temperature: f64,
    /// Among how many of the likeliest tokens was drawn; none: among all.
    pub top_k: Option<u64>,
    /// Seed of the draws.
    pub seed: u64,
    /// Ids that end a sample.
    pub stop_ids: Vec<u32>,
    /// The continuations.
    pub samples: Vec<GeneratedSample>,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedSample {
    /// Its text.
    pub text: String,
    /// Ids of the new tokens, without the one that ended it.
    pub ids: Vec<u32>,
    /// For each of them the natural logarithm of the probability that the model gave it, at temperature 1 and among all
    /// tokens.
    pub log_probabilities: Vec<f64>,
    /// For each of them whether it was forced: a word of the calculator's.
    pub forced: Vec<bool>,
    /// Why there are no more.
    pub ended_by: EndedBy,
    /// The token that ended it.
    pub stop_id: Option<u32>,
}

/// Why a continuation has no more tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// It has as many as were asked for.
    Length,
    /// A stop token came.
    StopToken,
    /// It was interrupted.
    Interrupted,
}
