//! `nanochat noise`: an arm against itself, to know what a difference has to stand out from.

use std::path::{Path, PathBuf};

use super::output::table;
use super::plan::{Overlay, select};
use super::progress::Progress;
use super::run::{check_hardware, stop_on_signals, use_threads};
use super::{CliError, CliResult, Exit, Format};
use crate::run::{Options, Stop, carry_out};
use nanochat_artifacts::{Judgement, NoiseEntry, NoiseRecord, ResultsRoot, read_experiment, write_document};
use nanochat_experiment::config::SpecErrors;
use nanochat_experiment::{self as experiment, Experiment};
use nanochat_lab::report;
use nanochat_lab::scorecard;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment spec
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// The cell, by its axes' values; the first one by default
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// How many seeds to run, counted up from the spec's first one
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=1000))]
    seeds: u64,
    /// Start every run over, whatever is on disk
    #[arg(long)]
    force: bool,
    /// Run although the machine is not what the profile says; the noise of speed is then not recorded
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    let mut experiment = experiment::load(&args.spec, &args.overlay.options()).map_err(CliError::invalid)?;
    let missing = experiment::missing_paths(&experiment);
    if !missing.is_empty() {
        return Err(CliError::invalid(SpecErrors::new(args.spec.display().to_string(), missing)));
    }
    let cell = select(&experiment, &args.only)?.first().map(|cell| (*cell).clone());
    let of = experiment.name.clone();
    against_itself(&mut experiment, args.seeds);
    let plans = experiment::expand_cells(&experiment, cell.iter()).map_err(|error| {
        let help = error.way_out();
        CliError::usage(error, help.as_deref())
    })?;
    let hardware_matches = check_hardware(&experiment, &plans.runs, args.allow_hardware_mismatch)?;
    use_threads(&experiment)?;
    let root = ResultsRoot::new(Path::new(""));
    let stop = Stop::default();
    stop_on_signals(&stop);
    let options = Options { force: args.force, fail_fast: false, hardware_matches };
    let mut progress = Progress::new();
    let record = experiment.record(&plans.runs);
    let outcome = carry_out(&record, &plans.runs, &root, options, &stop, None, &mut |event| progress.show(event))
        .map_err(|error| CliError::failed(miette::miette!("{error}")))?;
    if outcome.interrupted {
        eprintln!("stopped; the same command continues");
        return Ok(Exit::Interrupted);
    }
    if let Some((run_id, reason)) = outcome.failed.first() {
        return Err(CliError::failed(miette::miette!("{run_id}: {reason}; the noise was not recorded")));
    }
    conclude(&root, &of, &experiment.name, args.format)
}

/// Makes the spec one of a single arm: more seeds, no repeats, no baseline, in a folder of its own.
fn against_itself(experiment: &mut Experiment, seeds: u64) {
    let first = experiment.seeds.first().copied().unwrap_or(42);
    experiment.seeds = (first..).take(seeds as usize).collect();
    experiment.description = format!("One arm of {} against itself: the noise between seeds.", experiment.name);
    experiment.name = format!("{}-noise", experiment.name);
    experiment.reproducibility.repeats = 0;
    experiment.baseline_results = None;
}

/// Writes the document, has the experiment's own verdicts cite it, and prints what was found.
fn conclude(root: &ResultsRoot, of: &str, name: &str, format: Format) -> CliResult {
    let folder = root.experiment(of).map_err(CliError::invalid)?;
    let documents = root.experiment(name).and_then(|noise| read_experiment(&noise)).map_err(CliError::failed)?;
    let record = scorecard::noise::measure(&documents);
    let (quality, speed) = scorecard::noise::against_itself(&documents);
    write_document(&folder.noise(), &record).map_err(CliError::failed)?;
    if folder.record().is_file() {
        scorecard::update(&folder, root.project()).map_err(CliError::failed)?;
        report::update(root, of, None).map_err(CliError::failed)?;
        report::refresh_leaderboard(root).map_err(CliError::failed)?;
    }
    match format {
        Format::Json => super::output::json(&serde_json::json!({
            "noise": record,
            "against_itself": { "quality": quality, "speed": speed },
        }))?,
        Format::Text => print(&record, [("quality", &quality), ("speed", &speed)], &folder.noise()),
    }
    Ok(Exit::Done)
}

fn print(record: &NoiseRecord, halves: [(&str, &Judgement); 2], path: &Path) {
    let mut rows = table(&["metric", "runs", "mean", "standard deviation", "95% interval", "of the mean"]);
    for entry in &record.entries {
        let NoiseEntry { metric, standard_deviation, interval, mean, runs, .. } = entry;
        let decimals = if metric == "tokens_per_second" { 1 } else { 6 };
        let number = |value: f64| format!("{value:.decimals$}");
        rows.add_row([
            metric.clone(),
            runs.to_string(),
            mean.map_or_else(|| "–".into(), number),
            number(*standard_deviation),
            interval.map_or_else(|| "–".into(), |(low, high)| format!("{} … {}", number(low), number(high))),
            mean.map_or_else(|| "–".into(), |mean| format!("{:.3}%", 100.0 * standard_deviation / mean.abs())),
        ]);
    }
    println!("\n{rows}\n\nEvery second seed against the others:");
    for (name, judgement) in halves {
        println!("{name:<8} {:<13} {}", super::run::label(judgement), judgement.reason);
    }
    println!("\nnoise: {}", path.display());
}
