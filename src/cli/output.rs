//! Shared pieces of printing.

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// JSON for scripts.
    Json,
}

/// An empty table with a header, without frames, so that it can be cut and pasted.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table
}

/// Prints a value as JSON to standard output.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json<T: serde::Serialize>(value: &T) -> Result<(), super::CliError> {
    print!("{}", json_text(value)?);
    Ok(())
}

/// A value as JSON text.
///
/// # Errors
/// A value that JSON can't hold (exit code 1).
pub fn json_text<T: serde::Serialize>(value: &T) -> Result<String, super::CliError> {
    nanochat_artifacts::canonical_json(std::path::Path::new("standard output"), value).map_err(super::CliError::failed)
}
