//! The only place that prints. What is printed may come from a stranger's documents, so it goes through [`outside`].
//!
//! A result that can't be printed since nobody reads it any more ends nothing: the exit code says what there is to say.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use super::{CliError, outside, terminal};

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

/// A line on standard output, as `println!` takes it.
macro_rules! say {
    () => { $crate::cli::output::text("\n") };
    ($($arguments:tt)*) => { $crate::cli::output::print_line(format_args!($($arguments)*)) };
}

/// Lines that the program laid out, such as tables, on standard output.
macro_rules! say_lines {
    ($($arguments:tt)*) => { $crate::cli::output::print_lines(format_args!($($arguments)*)) };
}

/// A line on standard error.
macro_rules! tell {
    ($($arguments:tt)*) => { $crate::cli::output::print_note(format_args!($($arguments)*)) };
}

/// One line on standard output.
pub fn print_line(line: Arguments<'_>) {
    text(&(outside::line(&line.to_string()) + "\n"));
}

/// Several lines on standard output.
pub fn print_lines(lines: Arguments<'_>) {
    text(&(outside::lines(&lines.to_string()) + "\n"));
}

/// A sentence on standard output, in lines that fit a terminal.
pub fn say_sentence(sentence: &str) {
    print_lines(format_args!("{}", terminal::wrap(&outside::line(sentence), 0, 2)));
}

/// Lines of a table, and the end of the last one, with verdicts in colour on a terminal.
pub fn verdict_lines(lines: &str) {
    let lines = outside::lines(lines);
    let lines = if terminal::has_colours() { terminal::paint(&lines) } else { lines };
    text(&(lines + "\n"));
}

/// JSON on standard output, and the end of its line.
pub fn say_json(json: &str) {
    text(&(outside::json(json) + "\n"));
}

/// One line on standard error.
pub fn print_note(line: Arguments<'_>) {
    // Where a message about a broken standard error could go, there is nothing.
    let _ = writeln!(io::stderr().lock(), "{}", outside::line(&line.to_string()));
}

/// An error on standard error; [`outside::Handler`] has seen to its text.
pub fn report(report: &miette::Report) {
    let _ = writeln!(io::stderr().lock(), "{report:?}");
}

/// Text whose characters were seen to, on standard output. A reader that has left ends nothing: there is only nobody left to tell.
pub fn text(text: &str) {
    note(io::stdout().lock().write_all(text.as_bytes()));
}

/// The first reason why standard output couldn't be written to, other than that nobody reads it any more.
static FAILED: OnceLock<String> = OnceLock::new();

/// Why what was printed isn't all there, if it isn't.
pub fn failure() -> Option<&'static str> {
    note(io::stdout().lock().flush());
    FAILED.get().map(String::as_str)
}

/// Whether a pipe's reader or a terminal is gone, which ends nothing.
fn nobody_reads(error: &io::Error) -> bool {
    /// What a terminal that was closed answers (`EIO`), on every Unix.
    const INPUT_OUTPUT_ERROR: i32 = 5;
    error.kind() == io::ErrorKind::BrokenPipe || (cfg!(unix) && error.raw_os_error() == Some(INPUT_OUTPUT_ERROR))
}

fn note(written: io::Result<()>) {
    if let Err(error) = written
        && !nobody_reads(&error)
    {
        let _ = FAILED.set(error.to_string());
    }
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
    text(&json_text(value)?);
    Ok(())
}

/// A document as text, as it is written to files.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json_text<T: serde::Serialize>(value: &T) -> Result<String, CliError> {
    let text = nanochat_artifacts::canonical_json(std::path::Path::new("standard output"), value);
    Ok(outside::json(&text.map_err(CliError::failed)?))
}

/// Writes bytes to standard output.
///
/// See [`text`].
pub fn bytes(bytes: &[u8]) {
    note(io::stdout().lock().write_all(bytes));
}

/// Prints a value that is not a document to standard output.
///
/// # Errors
/// A value that JSON can't hold (exit code 2).
pub fn plain_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::usage(error, None))?;
    say_json(&text);
    Ok(())
}
