//! `nanochat parity`: prints each compared quantity with its largest difference and its bound.

use std::path::PathBuf;

use miette::Diagnostic;
use serde::Serialize;

use super::output::table;
use super::{CliError, CliResult, Exit, Format, device};
use crate::parity::{Check, FileOutcome, check_file};
use nanochat_plan::DeviceKind;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reference files of any kind; each is recognised by its name and content.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder of parquet shards that the reference was measured on, for the kinds that train or evaluate on text.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_parser = device::devices(), default_value_t)]
    device: DeviceKind,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
    ok: bool,
}

pub fn execute(args: Args) -> CliResult {
    let device = device::open(args.device)?;
    let mut checks = Vec::new();
    let mut unreadable = Vec::new();
    let mut skipped = Vec::new();
    for file in &args.files {
        match check_file(file, args.data.as_deref(), &device) {
            Ok(FileOutcome::Checked(more)) => checks.extend(more),
            Ok(FileOutcome::Skipped(reason)) => skipped.push(format!("{}: {reason}", file.display())),
            Err(error) => unreadable.push(error),
        }
    }
    for line in &skipped {
        tell!("skipped  {line}");
    }
    for error in &unreadable {
        tell!("error    {error}");
        error.help().into_iter().for_each(|help| tell!("help     {help}"));
    }
    let ok = !checks.is_empty() && unreadable.is_empty() && checks.iter().all(|check| check.ok);
    let report = Report { checks, ok };
    print(&report, args.format)?;
    Ok(match report {
        _ if !unreadable.is_empty() => Exit::Invalid,
        Report { checks, .. } if checks.is_empty() => Exit::Invalid,
        Report { ok: false, .. } => Exit::Failed,
        _ => Exit::Done,
    })
}

fn print(report: &Report, format: Format) -> Result<(), CliError> {
    match format {
        Format::Json => {
            let text = serde_json::to_string_pretty(report).map_err(|error| CliError::usage(error, None))?;
            say_lines!("{text}");
        }
        Format::Text => {
            let mut rows = table(&["file", "quantity", "largest absolute", "largest relative", "bound", ""]);
            for check in &report.checks {
                let number = |value: f64| if value == 0.0 { "0".to_string() } else { format!("{value:.2e}") };
                rows.add_row([
                    check.file.clone(),
                    check.quantity.clone(),
                    number(check.max_abs),
                    number(check.max_rel),
                    number(check.bound),
                    if check.ok { "ok".to_string() } else { "OUT OF BOUNDS".to_string() },
                ]);
            }
            say_lines!("{rows}");
            let out = report.checks.iter().filter(|check| !check.ok).count();
            say!("{} quantities compared, {out} out of bounds", report.checks.len());
        }
    }
    Ok(())
}
