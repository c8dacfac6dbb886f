//! `nanochat compare`: before and after, from two folders or two git revisions.

use std::path::{Path, PathBuf};

use super::{CliError, CliResult, Exit};
use crate::artifacts::{Tree, Verdict};
use crate::report;
use crate::scorecard::compare::{Comparison, compare, gate};
use crate::scorecard::{Gate, ScorecardError};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier results: a folder, a git revision, or both sides as `BEFORE..AFTER`; with three dots the commit that
    /// both have grown from counts as the earlier side.
    before: String,
    /// The later results: a folder or a git revision; the work tree's `results/` when left out.
    after: Option<String>,
    /// Exit with 3 when a verdict fails, 4 when one is inconclusive, 5 when nothing could be compared.
    #[arg(long)]
    gate: bool,
    /// Folder whose templates take the place of the built-in ones of the same name.
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: CompareFormat,
}

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum CompareFormat {
    /// A table for people.
    #[default]
    Text,
    /// A pull-request comment.
    Markdown,
    /// A self-contained page.
    Html,
    /// JSON for scripts.
    Json,
}

pub fn execute(args: Args) -> CliResult {
    let (before, after) = sides(&args)?;
    let comparison = compare(&before, &after).map_err(|error| match error {
        ScorecardError::NothingThere { .. } => CliError::invalid(error),
        other => CliError::failed(other),
    })?;
    let text = match args.format {
        CompareFormat::Text => text(&comparison),
        CompareFormat::Json => super::output::json_text(&comparison)?,
        CompareFormat::Markdown => rendered(&comparison, &args)?.markdown,
        CompareFormat::Html => rendered(&comparison, &args)?.html,
    };
    match &args.output {
        Some(path) => crate::artifacts::write_atomic(path, text.as_bytes()).map_err(CliError::failed)?,
        None => print!("{text}"),
    }
    Ok(if args.gate { exit(gate(&comparison)) } else { Exit::Done })
}

fn rendered(comparison: &Comparison, args: &Args) -> Result<report::Rendered, CliError> {
    report::render_comparison(comparison, args.templates.as_deref()).map_err(CliError::failed)
}

fn exit(gate: Gate) -> Exit {
    match gate {
        Gate::Passed => Exit::Done,
        Gate::Failed => Exit::VerdictFailed,
        Gate::Inconclusive => Exit::Inconclusive,
        Gate::NothingCompared => Exit::NothingCompared,
    }
}

fn sides(args: &Args) -> Result<(Tree, Tree), CliError> {
    let here = Path::new(".");
    match (&args.after, args.before.split_once("..")) {
        (Some(after), _) => Ok((side(&args.before)?, side(after)?)),
        (None, _) if Path::new(&args.before).is_dir() => {
            Ok((side(&args.before)?, Tree::folder(here).map_err(CliError::invalid)?))
        }
        (None, Some((before, after))) => {
            let or_head = |revision: &str| if revision.is_empty() { "HEAD".to_string() } else { revision.to_string() };
            let tree = |revision: &str| Tree::revision(here, &or_head(revision)).map_err(CliError::invalid);
            match after.strip_prefix('.') {
                None => Ok((tree(before)?, tree(after)?)),
                Some(after) => {
                    let base = Tree::merge_base(here, &or_head(before), &or_head(after)).map_err(CliError::invalid)?;
                    Ok((base, tree(after)?))
                }
            }
        }
        (None, None) => Ok((side(&args.before)?, Tree::folder(here).map_err(CliError::invalid)?)),
    }
}

/// Takes what is a folder for one, and everything else for a revision.
fn side(name: &str) -> Result<Tree, CliError> {
    let path = Path::new(name);
    if path.is_dir() { Tree::folder(path) } else { Tree::revision(Path::new("."), name) }.map_err(CliError::invalid)
}

fn text(comparison: &Comparison) -> String {
    let mut table = super::output::table(&[
        "experiment",
        "cell",
        "quality",
        "before",
        "after",
        "difference",
        "speed",
        "ratio",
        "runs",
    ]);
    let figure =
        |value: Option<f64>, decimals: usize| value.map_or("–".to_string(), |value| format!("{value:.decimals$}"));
    for experiment in &comparison.experiments {
        for cell in &experiment.cells {
            table.add_row([
                experiment.name.clone(),
                cell.label.clone(),
                if cell.identical { "identical".to_string() } else { word(cell.quality.verdict).to_string() },
                figure(cell.quality.baseline, 5),
                figure(cell.quality.candidate, 5),
                cell.quality.difference.map_or("–".to_string(), |difference| format!("{difference:+.5}")),
                word(cell.speed.verdict).to_string(),
                figure(cell.speed.ratio, 4),
                cell.quality.candidate_runs.to_string(),
            ]);
        }
    }
    let mut text = format!("{} → {}\n{table}\n", comparison.before, comparison.after);
    for (what, experiments) in [("appeared", &comparison.appeared), ("vanished", &comparison.vanished)] {
        experiments.iter().for_each(|name| text.push_str(&format!("{what}: {name}\n")));
    }
    for experiment in &comparison.experiments {
        for (what, runs) in [("appeared", &experiment.appeared), ("vanished", &experiment.vanished)] {
            runs.iter().for_each(|run| text.push_str(&format!("{what}: {}/{run}\n", experiment.name)));
        }
    }
    for cell in comparison.experiments.iter().flat_map(|one| one.cells.iter()) {
        text.push_str(&format!("{}: {}; {}.\n", cell.label, cell.quality.reason, cell.speed.reason));
    }
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not comparable",
        Verdict::Missing => "missing",
    }
}
