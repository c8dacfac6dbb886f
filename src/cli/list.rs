//! `nanochat list`: experiments and runs, with status, verdicts and headline figures.

use std::path::PathBuf;

use super::{CliError, CliResult, Exit, Format};
use nanochat_artifacts::{ResultsRoot, Verdict};
use nanochat_lab::scorecard::{ExperimentOverview, RunOverview, overview};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the runs of this experiment.
    experiment: Option<String>,
    /// Only experiments with this verdict among theirs.
    #[arg(long, value_parser = ["pass", "fail", "inconclusive", "not_comparable", "missing"])]
    verdict: Option<String>,
    /// Only runs with this status, or experiments that have one.
    #[arg(long, value_parser = ["finished", "interrupted", "failed", "planned"])]
    status: Option<String>,
    /// Order of the list.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Folder of the project, which holds `results/`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Sort {
    /// By name; runs in planned order.
    #[default]
    Name,
    /// Lowest bits per byte first.
    Bpb,
    /// Fastest first.
    Speed,
}

pub fn execute(args: Args) -> CliResult {
    let root = ResultsRoot::new(&args.project);
    let mut experiments = overview(&root).map_err(CliError::failed)?;
    if let Some(name) = &args.experiment {
        experiments.retain(|experiment| experiment.name == *name);
        if experiments.is_empty() {
            let message = format!("there are no results of `{name}` under `{}`", root.results().display());
            return Err(CliError::usage(message, Some("`nanochat list` shows what there is")));
        }
    }
    experiments.retain(|experiment| wanted(experiment, &args));
    experiments.sort_by(|a, b| {
        compare(args.sort, (a.best_val_bpb, a.tokens_per_second), (b.best_val_bpb, b.tokens_per_second))
    });
    for experiment in &mut experiments {
        experiment.runs.retain(|run| args.status.as_ref().is_none_or(|status| run.status == status));
        experiment.runs.sort_by(|a, b| {
            compare(args.sort, (a.final_val_bpb, a.tokens_per_second), (b.final_val_bpb, b.tokens_per_second))
        });
    }
    match args.format {
        Format::Json => super::output::json(&serde_json::json!({ "experiments": experiments }))?,
        Format::Text if args.experiment.is_some() => experiments.iter().for_each(|one| print_runs(&one.runs)),
        Format::Text if experiments.is_empty() => println!("No results under {} match.", root.results().display()),
        Format::Text => print_experiments(&experiments),
    }
    Ok(Exit::Done)
}

fn wanted(experiment: &ExperimentOverview, args: &Args) -> bool {
    let verdicts = experiment.verdicts.iter().flat_map(|v| [v.quality, v.speed, v.reproducibility]).map(word);
    let by_verdict = args.verdict.as_ref().is_none_or(|wanted| verdicts.into_iter().any(|verdict| verdict == wanted));
    let by_status = args.status.as_ref().is_none_or(|wanted| experiment.runs.iter().any(|run| run.status == wanted));
    by_verdict && by_status
}

/// Figures that aren't there come last.
fn compare(sort: Sort, a: (Option<f64>, Option<f64>), b: (Option<f64>, Option<f64>)) -> std::cmp::Ordering {
    match sort {
        Sort::Name => std::cmp::Ordering::Equal,
        Sort::Bpb => a.0.unwrap_or(f64::INFINITY).total_cmp(&b.0.unwrap_or(f64::INFINITY)),
        Sort::Speed => b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not_comparable",
        Verdict::Missing => "missing",
    }
}

fn print_experiments(experiments: &[ExperimentOverview]) {
    let mut table =
        super::output::table(&["experiment", "runs", "quality", "speed", "reproducibility", "best bpb", "tokens/s"]);
    for one in experiments {
        let verdict = |get: fn(&nanochat_lab::scorecard::Verdicts) -> Verdict| {
            one.verdicts.as_ref().map_or("–", |v| word(get(v)))
        };
        table.add_row([
            one.name.clone(),
            format!("{}/{}", one.finished, one.planned),
            verdict(|v| v.quality).to_string(),
            verdict(|v| v.speed).to_string(),
            verdict(|v| v.reproducibility).to_string(),
            figure(one.best_val_bpb, 5),
            figure(one.tokens_per_second, 0),
        ]);
    }
    println!("{table}");
    experiments.iter().filter_map(|one| one.error.as_ref()).for_each(|error| eprintln!("warning: {error}"));
}

fn print_runs(runs: &[RunOverview]) {
    let mut table =
        super::output::table(&["run", "status", "steps", "final bpb", "tokens/s", "seconds", "finished at"]);
    for run in runs {
        let steps = run.planned_steps.map_or("–".to_string(), |planned| format!("{}/{planned}", run.steps));
        table.add_row([
            run.run_id.clone(),
            run.status.to_string(),
            steps,
            figure(run.final_val_bpb, 5),
            figure(run.tokens_per_second, 0),
            figure(run.elapsed_seconds, 1),
            run.finished_at.clone().unwrap_or_else(|| "–".to_string()),
        ]);
    }
    println!("{table}");
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".to_string(), |value| format!("{value:.decimals$}"))
}
