//! Shared helpers for printing.

use std::io::Write as _;

use super::CliError;

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Text,
    /// JSON for scripts
    Json,
}

/// An empty table with a header and without frames, so that its text can be copied.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table
}

/// A number with some decimals; a dash for none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_string(), |value| format!("{value:.decimals$}"))
}

/// Bytes in GiB.
pub fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Prints a document to standard output as it is written to files.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    print!("{}", json_text(value)?);
    Ok(())
}

/// A document as text, as it is written to files.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json_text<T: serde::Serialize>(value: &T) -> Result<String, CliError> {
    nanochat_artifacts::canonical_json(std::path::Path::new("standard output"), value).map_err(CliError::failed)
}

/// Writes bytes to standard output.
///
/// # Errors
/// Standard output can't be written to (exit code 1).
pub fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    std::io::stdout()
        .write_all(bytes)
        .map_err(|error| CliError::failed(miette::miette!("can't write to standard output: {error}")))
}

/// Prints a value that is not a document to standard output.
///
/// # Errors
/// A value that JSON can't hold (exit code 2).
pub fn plain_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::usage(error, None))?;
    println!("{text}");
    Ok(())
}
