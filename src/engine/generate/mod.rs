//! Text from a model (`nanochat/engine.py`): continuations of prompts, conversations, the calculator.
//!
//! A prompt is computed once and shared by its samples. Each sample draws from its own generator, seeded by the seed and
//! the sample's number, and the model computes each row for itself: a sample is the same, to the bit, however many others
//! are drawn beside it. The baseline draws all rows from one PyTorch generator; sampled tokens therefore differ from its
//! own, greedy ones don't. Rows that end leave the batch.
//!
//! Refused before anything is allocated: senseless settings, and caches past the limit that was set.

mod calculator;
mod chat;
mod engine;
mod error;
mod sampling;
mod stream;
#[cfg(test)]
mod tests;
mod tool;

pub use calculator::calculate;
pub use chat::{Chat, Reply};
pub use engine::{End, Prompt, Request, Sample, Token, continuations, generate};
pub use error::GenerateError;
pub use sampling::Sampling;
pub use stream::TextStream;
