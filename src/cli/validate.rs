//! `nanochat validate`: checks specs and result documents.

use std::path::PathBuf;

use serde_json::json;

use nanochat_experiment::LoadOptions;
use nanochat_experiment::config::{Diagnostic, Severity, SpecErrors};
use nanochat_lab::schemas::{self, Validated};

use super::annotations::{Level, annotate, file as file_of};
use super::context::vocabulary_size;
use super::output::plain_json;
use super::{CliError, CliResult, Exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Output,
}

/// Code of a path that a spec names and that isn't here.
const MISSING_PATH: &str = "missing-path";

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Output {
    /// With the source line, for people
    #[default]
    Text,
    /// One document, for scripts
    Json,
    /// Annotations of GitHub Actions
    Github,
}

pub fn execute(args: Args) -> CliResult {
    let options = LoadOptions { vocabulary: Some(vocabulary_size), ..LoadOptions::default() };
    let validated = schemas::validate(&args.paths, &options);
    let errors =
        validated.iter().flat_map(|file| &file.diagnostics).filter(|found| found.severity == Severity::Error).count();
    if validated.iter().all(|file| file.kind.is_none() && file.diagnostics.is_empty()) {
        return Err(CliError::usage("there is no spec or result document here", None));
    }
    match args.format {
        Output::Text => print_text(&validated),
        Output::Json => print_json(&validated, errors)?,
        Output::Github => print_github(&validated),
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Invalid })
}

fn print_text(validated: &[Validated]) {
    for file in validated {
        let path = file.path.display();
        let (errors, warnings): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
            file.diagnostics.iter().partition(|found| found.severity == Severity::Error);
        match (file.kind, errors.is_empty()) {
            (Some(kind), true) => say!("ok       {path} ({kind})"),
            (None, true) => say!("skipped  {path} (not a spec or result document)"),
            (_, false) => say!("invalid  {path}"),
        }
        let others = warnings.into_iter().filter(|warning| warning.code != MISSING_PATH);
        let found: Vec<Diagnostic> = errors.into_iter().chain(others).cloned().collect();
        if !found.is_empty() {
            let report = miette::Report::new(SpecErrors::new(path.to_string(), found));
            super::output::report(&report);
        }
    }
    absent(validated).iter().for_each(|line| tell!("{line}"));
}

/// What files name and isn't here, a line a cause: what is missing, in how many files, and the way out.
fn absent(validated: &[Validated]) -> Vec<String> {
    let mut causes: Vec<(&Diagnostic, Vec<String>)> = Vec::new();
    for file in validated {
        let missing = |found: &&Diagnostic| found.code == MISSING_PATH && found.severity == Severity::Warning;
        for found in file.diagnostics.iter().filter(missing) {
            let name = file.path.display().to_string();
            match causes.iter_mut().find(|(known, _)| known.message == found.message) {
                Some((_, files)) => files.push(name),
                None => causes.push((found, vec![name])),
            }
        }
    }
    let line = |(found, files): &(&Diagnostic, Vec<String>)| {
        let named = match files.as_slice() {
            [file] => file.clone(),
            files => format!("{} and {} more", files[0], files.len() - 1),
        };
        let help = found.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("warning: {named}: {}{help}", found.message)
    };
    causes.iter().map(line).collect()
}

fn print_json(validated: &[Validated], errors: usize) -> Result<(), CliError> {
    let files = validated.iter().map(|file| {
        let problems = file.diagnostics.iter().map(|found| schemas::to_json(&file.path, found)).collect::<Vec<_>>();
        json!({ "file": file.path.display().to_string(), "kind": file.kind, "problems": problems })
    });
    let report = json!({ "files": files.collect::<Vec<_>>(), "errors": errors, "ok": errors == 0 });
    plain_json(&report)
}

fn print_github(validated: &[Validated]) {
    for (file, found) in validated.iter().flat_map(|file| file.diagnostics.iter().map(move |found| (file, found))) {
        let level = if found.severity == Severity::Error { Level::Error } else { Level::Warning };
        let place = match &found.place {
            Some(place) => {
                let (line, column) = place.line_column();
                format!("{},line={line},col={column}", file_of(place.source().name()))
            }
            None => file_of(&file.path.display().to_string()),
        };
        let help = found.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        annotate(level, &place, found.code, &format!("{}{help}", found.message));
    }
}
