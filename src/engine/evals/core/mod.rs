//! CORE: accuracy on the tasks of a bundle, each centred on what guessing gives, averaged (DCLM, arXiv 2406.11794).
//!
//! Three kinds of task, all posed as text to continue: multiple choice (one context, several continuations), schema
//! (several contexts, one continuation) and language modelling (the likeliest tokens must be the continuation). Which
//! examples are shown before a question, and which are kept when only some are evaluated, is decided by Python's
//! generator with fixed seeds, reproduced here exactly. Source: `nanochat/core_eval.py`, `scripts/base_eval.py`.
//!
//! The room has two ways to the same answers: [`Method::PerExample`], one forward pass an example with all its options in
//! a batch, as the baseline does it; and [`Method::Shared`], where a prefix that the options share is computed once and
//! short examples share a batch.

mod bundle;
mod evaluate;
mod examples;
mod prompts;
mod python_random;
mod score;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, Item, Skipped, Task, TaskKind};
pub use evaluate::{CoreOptions, CoreResult, Method, TaskResult, evaluate};
pub use python_random::PythonRandom;
