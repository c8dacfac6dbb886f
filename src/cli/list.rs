//! `nanochat list`: experiments and runs, with status, verdicts and headline figures.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nanochat_artifacts::{ResultsRoot, Verdict};
use nanochat_lab::live::TIMING_SESSION;
use nanochat_lab::scorecard::{ExperimentOverview, Listing, Order, Verdicts, overview, verdict_name};

use super::output::{json, number, table};
use super::{CliError, CliResult, Exit, Format, names, terminal};
use crate::run::{RecordedInputs, duration};

/// What a run's status can be.
const STATUSES: [&str; 9] =
    ["finished", "interrupted", "failed", "planned", "queued", "preparing", "training", "evaluating", "left"];
/// Columns that are there only while somebody has a run.
const LIVE: [&str; 3] = ["loss", "left", "last sign"];

/// Most names in a remark.
const NAMED: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the runs of this experiment
    #[arg(add = names::experiments())]
    experiment: Option<String>,
    /// Only experiments with this verdict
    #[arg(long, value_parser = ["pass", "fail", "inconclusive", "not_comparable", "missing", "off"])]
    verdict: Option<String>,
    /// Only runs with this status, or experiments that have one
    #[arg(long, value_parser = STATUSES)]
    status: Option<String>,
    /// Order of the list
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Folder of the project, which holds `results/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Sort {
    /// By name; runs in planned order
    #[default]
    Name,
    /// Lowest bits per byte first
    Bpb,
    /// Fastest first
    Speed,
}

pub fn execute(args: Args) -> CliResult {
    let root = ResultsRoot::new(&args.project);
    let listing = Listing {
        experiment: args.experiment.as_deref(),
        verdict: args.verdict.as_deref(),
        status: args.status.as_deref(),
        order: match args.sort {
            Sort::Name => Order::Name,
            Sort::Bpb => Order::BitsPerByte,
            Sort::Speed => Order::Speed,
        },
    };
    let all = overview(&root).map_err(CliError::failed)?;
    if let Some(name) = &args.experiment
        && !all.iter().any(|experiment| experiment.name == *name)
    {
        let message = format!("there are no results of `{name}` under `{}`", root.results().display());
        let help = names::help(name, &root, "`nanochat list` shows all experiments with results");
        return Err(CliError::usage(message, Some(&help)));
    }
    let experiments = listing.select(all);
    let inputs = inputs(&root, &experiments, args.experiment.is_some());
    match args.format {
        Format::Json => json(&serde_json::json!({ "experiments": experiments, "inputs": inputs }))?,
        Format::Text if args.experiment.is_some() => experiments.iter().for_each(print_runs),
        Format::Text if experiments.is_empty() => say!("No results under {} match.", root.results().display()),
        Format::Text => print_experiments(&experiments),
    }
    if args.format == Format::Text {
        for (remark, names) in &inputs {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            say!("{remark}: {}{more}", names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "));
        }
    }
    Ok(Exit::Done)
}

/// What is to be said of the inputs of finished runs, and of which: of the runs of an experiment, or of the experiments, whose first
/// finished run stands for all.
fn inputs(root: &ResultsRoot, experiments: &[ExperimentOverview], of_runs: bool) -> BTreeMap<String, Vec<String>> {
    let mut here = RecordedInputs::new(root);
    let mut remarks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in experiments {
        let Ok(folder) = root.experiment(&one.name) else { continue };
        let finished = one.runs.iter().filter(|run| run.status == "finished");
        for run in finished.take(if of_runs { usize::MAX } else { 1 }) {
            let found = folder.run(&run.run_id).ok().and_then(|run| here.of_run(&run));
            if let Some(remark) = found.and_then(|found| found.remark()) {
                let name = if of_runs { &run.run_id } else { &one.name };
                remarks.entry(remark).or_default().push(name.clone());
            }
        }
    }
    remarks
}

fn print_experiments(experiments: &[ExperimentOverview]) {
    let mut table = table(&["experiment", "runs", "quality", "speed", "reproducibility", "best bpb", "tokens/s"]);
    for one in experiments {
        let verdict = |get: fn(&Verdicts) -> Verdict| one.verdicts.as_ref().map_or("–", |v| verdict_name(get(v)));
        table.add_row([
            one.name.clone(),
            format!("{}/{}", one.finished, one.planned),
            verdict(|v| v.quality).to_string(),
            verdict(|v| v.speed).to_string(),
            verdict(|v| v.reproducibility).to_string(),
            number(one.best_val_bpb, 5),
            number(one.tokens_per_second, 0),
        ]);
    }
    terminal::fit(&mut table, &["tokens/s", "best bpb", "runs"]);
    super::output::verdict_lines(&table.to_string());
    experiments.iter().filter_map(|one| one.error.as_ref()).for_each(|error| tell!("warning: {error}"));
}

fn print_runs(one: &ExperimentOverview) {
    let is_live = one.runs.iter().any(|run| run.silent_seconds.is_some());
    let mut columns = vec!["run", "status", "steps", "final bpb", "tokens/s"];
    columns.extend(if is_live { &LIVE[..] } else { &["seconds", "finished at"][..] });
    let mut table = table(&columns);
    for run in &one.runs {
        let steps = run.planned_steps.map_or("–".to_string(), |planned| format!("{}/{planned}", run.steps));
        let mut row = vec![
            run.run_id.clone(),
            run.host.as_ref().map_or_else(|| run.status.to_string(), |host| format!("{} on {host}", run.status)),
            steps,
            number(run.final_val_bpb, 5),
            number(run.tokens_per_second, 0),
        ];
        if is_live {
            row.extend([number(run.loss, 4), time(run.seconds_left, ""), time(run.silent_seconds, " ago")]);
        } else {
            row.extend([number(run.elapsed_seconds, 1), run.finished_at.clone().unwrap_or_else(|| "–".to_string())]);
        }
        table.add_row(row);
    }
    terminal::fit(&mut table, &["finished at", "seconds", "loss", "tokens/s", "steps"]);
    super::output::verdict_lines(&table.to_string());
    if let Some(timing) = &one.timing {
        let host = timing.host.as_ref().filter(|_| timing.state.is_running());
        let host = host.map(|host| format!(" on {host}")).unwrap_or_default();
        let blocks = timing.steps.map(|steps| format!(", block {} of {steps}", timing.step + 1)).unwrap_or_default();
        say!("{TIMING_SESSION}: {}{host}{blocks}", timing.state.name());
    }
    if let Some(seconds) = one.seconds_left {
        say!("about {} left", duration(seconds));
    }
}

fn time(seconds: Option<f64>, after: &str) -> String {
    seconds.map_or_else(|| "–".to_string(), |seconds| format!("{}{after}", duration(seconds)))
}
