//! `nanochat compare`: before and after, from two folders, two git revisions, or two benchmarks.

use std::path::{Path, PathBuf};

use super::annotations::{Level, annotate, file};
use super::{CliError, CliResult, Exit};
use crate::run::{judging, made_by_other_code, stale};
use nanochat_artifacts::{Bench, Tree, Verdict, write_atomic};
use nanochat_lab::report;
use nanochat_lab::scorecard::compare::{Comparison, compare, gate};
use nanochat_lab::scorecard::{BenchComparison, Gate, ScorecardError, compare_benches};
use nanochat_plan::Change;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier results: a folder, a git revision, or both sides as `BEFORE..AFTER`; with three dots the commit that
    /// both have grown from counts as the earlier side. Or a benchmark, as a file or `REVISION:PATH`.
    before: String,
    /// The later results: a folder or a git revision, the work tree's `results/` when left out; or a benchmark.
    after: Option<String>,
    /// Exit with 3 when a verdict fails, 4 when one is inconclusive, 5 when nothing could be compared, 6 when something
    /// changed and wasn't judged, results are stale against their spec, or rules or inputs changed that a person must
    /// approve.
    #[arg(long)]
    gate: bool,
    /// A person has approved the changes of rules and inputs that are shown first: the later side's rules judge, and the
    /// gate doesn't wait for them any more.
    #[arg(long)]
    approved: bool,
    /// With `--gate`: results that other code made than there is now count as stale.
    #[arg(long)]
    require_fresh: bool,
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
    /// Annotations of GitHub Actions.
    Github,
}

pub fn execute(args: Args) -> CliResult {
    if let Some(after) = &args.after
        && let (Some(before), Some(after)) = (benchmark(&args.before)?, benchmark(after)?)
    {
        return benches(&args, &before, &after);
    }
    let (before, after) = sides(&args)?;
    let judging = judging(&before, &after, args.approved).map_err(CliError::failed)?;
    let mut comparison = compare(&before, &after, &judging).map_err(|error| match error {
        ScorecardError::NothingThere { .. } => CliError::invalid(error),
        other => CliError::failed(other),
    })?;
    comparison.stale = stale(&after).map_err(CliError::failed)?;
    let other_code = made_by_other_code(&after).map_err(CliError::failed)?;
    if args.require_fresh {
        comparison.stale.extend(other_code);
    } else {
        comparison.other_code = other_code;
    }
    let text = match args.format {
        CompareFormat::Text => text(&comparison),
        CompareFormat::Json => super::output::json_text(&comparison)?,
        CompareFormat::Github => {
            annotations(&comparison);
            String::new()
        }
        CompareFormat::Markdown => rendered(&comparison, &args)?.markdown,
        CompareFormat::Html => rendered(&comparison, &args)?.html,
    };
    if args.format != CompareFormat::Github {
        give(&args, &text)?;
    }
    Ok(if args.gate { exit(gate(&comparison)) } else { Exit::Done })
}

fn give(args: &Args, text: &str) -> Result<(), CliError> {
    match &args.output {
        Some(path) => write_atomic(path, text.as_bytes()).map_err(CliError::failed)?,
        None if args.format == CompareFormat::Text => super::output::verdict_lines(text.trim_end_matches('\n')),
        None => super::output::text(&super::outside::lines(text)),
    }
    Ok(())
}

/// A benchmark by the name of its file, or as `REVISION:PATH`; none for what names neither.
fn benchmark(name: &str) -> Result<Option<Bench>, CliError> {
    let path = Path::new(name);
    let bytes = if path.is_file() {
        let folder = Tree::folder(path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new(".")));
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        folder.and_then(|folder| folder.file(&file)).map_err(CliError::invalid)?
    } else if let Some((revision, file)) = name.split_once(':').filter(|_| !path.exists()) {
        let commit = Tree::revision(Path::new("."), revision).map_err(CliError::invalid)?;
        let found = commit.file(file).map_err(CliError::invalid)?;
        if found.is_none() {
            let help = "`git ls-tree -r --name-only REVISION` lists its files";
            return Err(CliError::usage(format!("there is no {file} in {revision}"), Some(help)));
        }
        found
    } else {
        None
    };
    bytes.map(|bytes| Bench::parse(path, &bytes).map_err(CliError::invalid)).transpose()
}

fn benches(args: &Args, before: &Bench, after: &Bench) -> CliResult {
    let after_name = args.after.as_deref().unwrap_or_default();
    let Some(comparison) = compare_benches((&args.before, before), (after_name, after)) else {
        let what = format!("a benchmark of {} can't be compared with one of {}", before.measured, after.measured);
        return Err(CliError::usage(what, Some("name two that `nanochat bench` wrote for the same thing")));
    };
    let text = match args.format {
        CompareFormat::Text | CompareFormat::Github => bench_text(&comparison),
        CompareFormat::Json => super::output::json_text(&comparison)?,
        CompareFormat::Markdown | CompareFormat::Html => {
            let rendered = report::render_bench_comparison(&comparison, args.templates.as_deref());
            let rendered = rendered.map_err(CliError::failed)?;
            if args.format == CompareFormat::Html { rendered.html } else { rendered.markdown }
        }
    };
    give(args, &text)?;
    Ok(match comparison.verdict {
        _ if !args.gate => Exit::Done,
        Verdict::Pass => Exit::Done,
        Verdict::Fail => Exit::VerdictFailed,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::NotComparable | Verdict::Missing | Verdict::Off => Exit::NothingCompared,
    })
}

fn bench_text(comparison: &BenchComparison) -> String {
    let mut table = super::output::table(&["figure", "unit", "before", "after", "times better"]);
    let number = |value: Option<f64>| {
        let value =
            value.map(|value| if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.6}") });
        value.unwrap_or_else(|| "–".to_string())
    };
    for figure in &comparison.figures {
        let gain = figure.gain.map_or_else(|| "–".to_string(), |gain| format!("{gain:.3}"));
        table.add_row([figure.name.clone(), figure.unit.clone(), number(figure.before), number(figure.after), gain]);
    }
    let mut text = format!("{} → {}\n{table}\n", comparison.before, comparison.after);
    comparison.differences.iter().for_each(|difference| text.push_str(&format!("differs: {difference}\n")));
    text.push_str(&format!("{}: {}\n", word(comparison.verdict), comparison.reason));
    super::terminal::wrap_lines(&text)
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
        Gate::Unjudged => Exit::Unjudged,
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
    let touched = || comparison.experiments.iter().filter(|one| !comparison.untouched.contains(&one.name));
    for experiment in touched() {
        for cell in &experiment.cells {
            table.add_row([
                experiment.name.clone(),
                cell.label.clone(),
                if cell.identical { "identical".to_string() } else { word(cell.quality.verdict()).to_string() },
                figure(cell.quality.baseline.figure, 5),
                figure(cell.quality.candidate.figure, 5),
                cell.quality.difference().map_or("–".to_string(), |difference| format!("{difference:+.5}")),
                word(cell.speed.verdict()).to_string(),
                figure(cell.speed.ratio(), 4),
                cell.quality.candidate.runs.to_string(),
            ]);
        }
    }
    let mut text = format!("{} → {}\n", comparison.before, comparison.after);
    let approved = if comparison.approved { "approved" } else { "a person must approve" };
    comparison.approvals.iter().for_each(|one| text.push_str(&format!("{approved}: {one}\n")));
    comparison.answer.iter().for_each(|answer| text.push_str(&format!("{answer}.\n")));
    if touched().next().is_some() {
        super::terminal::fit(&mut table, &["runs", "ratio", "before", "after", "speed"]);
        text.push_str(&format!("{table}\n"));
    }
    if !comparison.untouched.is_empty() {
        text.push_str(&format!("untouched: {}\n", comparison.untouched.join(", ")));
    }
    for stale in &comparison.stale {
        text.push_str(&format!("stale: {}: {}\n", stale.experiment, stale.reason));
    }
    for other in &comparison.other_code {
        text.push_str(&format!("warning: {}: {}\n", other.experiment, other.reason));
    }
    for (what, experiments) in [("appeared", &comparison.appeared), ("vanished", &comparison.vanished)] {
        experiments.iter().for_each(|name| text.push_str(&format!("{what}: {name}\n")));
    }
    for experiment in &comparison.experiments {
        for (what, runs) in [("appeared", &experiment.appeared), ("vanished", &experiment.vanished)] {
            runs.iter().for_each(|run| text.push_str(&format!("{what}: {}/{run}\n", experiment.name)));
        }
    }
    for experiment in touched() {
        for cell in &experiment.cells {
            let changed = cell.changes.iter().map(change).collect::<Vec<_>>().join(", ");
            let changed = if changed.is_empty() { changed } else { format!(" (changed: {changed})") };
            text.push_str(&format!("{}{changed}: {}; {}.\n", cell.label, cell.quality.reason, cell.speed.reason));
        }
        if let Some(reason) = &experiment.unjudged {
            text.push_str(&format!("not judged: {}: {reason}\n", experiment.name));
        }
    }
    super::terminal::wrap_lines(&text)
}

/// What keeps the gate from being green, and the answer, beside the files that they are about.
fn annotations(comparison: &Comparison) {
    let card = |experiment: &str| file(&format!("results/{experiment}/scorecard.json"));
    for one in &comparison.approvals {
        let level = if comparison.approved { Level::Notice } else { Level::Warning };
        let place = one.experiment.as_ref().map(|name| file(&format!("results/{name}/experiment.json")));
        annotate(level, &place.unwrap_or_default(), "a person must approve", &one.to_string());
    }
    for experiment in comparison.experiments.iter().filter(|one| !comparison.untouched.contains(&one.name)) {
        for cell in &experiment.cells {
            for judgement in [&cell.quality, &cell.speed] {
                let level = match judgement.verdict() {
                    Verdict::Fail => Level::Error,
                    Verdict::Inconclusive => Level::Warning,
                    _ => continue,
                };
                let title = format!("{}: {}", cell.label, word(judgement.verdict()));
                annotate(level, &card(&experiment.name), &title, &judgement.reason);
            }
        }
        if let Some(reason) = &experiment.unjudged {
            annotate(Level::Warning, &card(&experiment.name), "changed and not judged", reason);
        }
    }
    for (title, all) in [("stale", &comparison.stale), ("made by other code", &comparison.other_code)] {
        all.iter().for_each(|one| annotate(Level::Warning, &card(&one.experiment), title, &one.reason));
    }
    if let Some(answer) = &comparison.answer {
        annotate(Level::Notice, "", "nanochat compare", answer);
    }
}

fn change(change: &Change) -> String {
    format!("{} {} → {}", change.key, change.before, change.now)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not comparable",
        Verdict::Missing => "missing",
        Verdict::Off => "off",
    }
}
