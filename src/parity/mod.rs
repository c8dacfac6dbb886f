//! Parity: compares this engine with figures measured on the baseline, one module per kind of file.
//!
//! A check never judges by eye: it compares a quantity with its reference, states the bound, and says whether the largest
//! difference is within it. Files of one set lie in one folder and find each other by name (tokenizer, data, checkpoint).

mod bpb;
mod check;
mod checkpoint;
mod core;
mod derived;
mod figures;
mod greedy;
mod kind;
mod model;
mod optimizer;
mod ranks;
mod tensors;
mod tokenizer;
mod trajectory;

#[cfg(test)]
mod engine_tests;

use std::path::Path;

use candle_core::Device;

pub use check::{Bound, Check, Differences, ParityError};
pub use kind::{Kind, recognise};

/// What came of one file.
#[derive(Debug)]
pub enum FileOutcome {
    /// It was checked.
    Checked(Vec<Check>),
    /// There is nothing to check in it, or not without more; the reason says which.
    Skipped(String),
}

/// Checks one reference file on a device; `data` is a folder of parquet shards, for the kinds that train or evaluate on text.
///
/// # Errors
/// The file can't be read or is of no known kind, a file that it refers to is missing, or the engine failed.
pub fn check_file(path: &Path, data: Option<&Path>, device: &Device) -> Result<FileOutcome, ParityError> {
    let needs_data = || FileOutcome::Skipped("needs the text that it was measured on: give --data FOLDER".to_string());
    let checks = match (recognise(path)?, data) {
        (Kind::Companion, _) => return Ok(FileOutcome::Skipped("nothing to check in it by itself".to_string())),
        (Kind::Trajectory | Kind::BitsPerByte, None) => return Ok(needs_data()),
        (Kind::Model, _) => model::check(path, device)?,
        (Kind::ModelFigures, _) => figures::check(path)?,
        (Kind::Optimizer, _) => optimizer::check(path, device)?,
        (Kind::Derived, _) => derived::check(path)?,
        (Kind::Trajectory, Some(data)) => trajectory::check(path, data, device)?,
        (Kind::Ranks, data) => ranks::check_ranks(path, data)?,
        (Kind::TokenizerCases, _) => tokenizer::check_cases(path)?,
        (Kind::BitsPerByte, data) => bpb::check(path, data, device)?,
        (Kind::Core, _) => core::check(path, device)?,
        (Kind::Greedy, _) => greedy::check(path, device)?,
    };
    Ok(FileOutcome::Checked(checks))
}
