//! `nanochat list`: experiments and runs, with status, verdicts and headline figures.

use std::path::PathBuf;

use nanochat_artifacts::{ResultsRoot, Verdict};
use nanochat_lab::scorecard::{ExperimentOverview, Listing, Order, RunOverview, Verdicts, overview, verdict_name};

use super::output::{json, number, table};
use super::{CliError, CliResult, Exit, Format, names, terminal};

/// What a run's status can be.
const STATUSES: [&str; 9] =
    ["finished", "interrupted", "failed", "planned", "queued", "preparing", "training", "evaluating", "left"];

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
    match args.format {
        Format::Json => json(&serde_json::json!({ "experiments": experiments }))?,
        Format::Text if args.experiment.is_some() => experiments.iter().for_each(|one| print_runs(&one.runs)),
        Format::Text if experiments.is_empty() => say!("No results under {} match.", root.results().display()),
        Format::Text => print_experiments(&experiments),
    }
    Ok(Exit::Done)
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

fn print_runs(runs: &[RunOverview]) {
    let mut table = table(&["run", "status", "steps", "final bpb", "tokens/s", "seconds", "finished at"]);
    for run in runs {
        let steps = run.planned_steps.map_or("–".to_string(), |planned| format!("{}/{planned}", run.steps));
        table.add_row([
            run.run_id.clone(),
            run.host.as_ref().map_or_else(|| run.status.to_string(), |host| format!("{} on {host}", run.status)),
            steps,
            number(run.final_val_bpb, 5),
            number(run.tokens_per_second, 0),
            number(run.elapsed_seconds, 1),
            run.finished_at.clone().unwrap_or_else(|| "–".to_string()),
        ]);
    }
    terminal::fit(&mut table, &["finished at", "seconds", "tokens/s", "steps"]);
    super::output::verdict_lines(&table.to_string());
}
