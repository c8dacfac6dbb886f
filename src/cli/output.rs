//! Shared helpers for printing.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use super::CliError;

/// Prints a line to standard output.
macro_rules! outln {
    () => { $crate::cli::output::print(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Prints to standard output.
macro_rules! out {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!($($argument)*)) };
}

/// Prints a line to standard error.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::cli::output::tell(format_args!($($argument)*)) };
}

/// The first reason why standard output couldn't be written to, other than that nobody reads it any more.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints to standard output. A reader that has left ends nothing: there is only nobody left to tell.
pub fn print(text: Arguments<'_>) {
    note(io::stdout().lock().write_fmt(text));
}

/// Prints a line to standard error, if anybody reads it.
pub fn tell(text: Arguments<'_>) {
    // Where a message about a broken standard error could go, there is nothing.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why what was printed isn't all there, if it isn't.
pub fn failure() -> Option<&'static str> {
    note(io::stdout().lock().flush());
    FAILED.get().map(String::as_str)
}

fn note(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error.to_string());
    }
}

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
    out!("{}", json_text(value)?);
    Ok(())
}

/// A document as text, as it is written to files.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json_text<T: serde::Serialize>(value: &T) -> Result<String, CliError> {
    nanochat_artifacts::canonical_json(std::path::Path::new("standard output"), value).map_err(CliError::failed)
}

/// Writes bytes to standard output; see [`print`].
///
/// # Errors
/// None.
pub fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    note(io::stdout().lock().write_all(bytes));
    Ok(())
}

/// Prints a value that is not a document to standard output.
///
/// # Errors
/// A value that JSON can't hold (exit code 2).
pub fn plain_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::usage(error, None))?;
    outln!("{text}");
    Ok(())
}
