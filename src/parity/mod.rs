//! Parity: holds this engine against figures measured on the baseline, one file a kind.
//!
//! A check never judges by eye: it compares a quantity with its reference, states the bound, and says whether the largest
//! difference is within it. Files of one set lie in one folder and find each other by name (tokenizer, data, checkpoint).

pub mod bpb;
mod check;
mod checkpoint;
pub mod core;
pub mod derived;
pub mod figures;
pub mod greedy;
pub mod model;
pub mod optimizer;
pub mod ranks;
pub mod tensors;
pub mod tokenizer;

#[cfg(test)]
mod engine_tests;

pub use check::{Check, Differences, ParityError};
