//! `nanochat run`: carries an experiment out, shows progress, prints the verdicts.

use std::path::PathBuf;

use super::beside::{self, BaselineArm};
use super::plan::{Overlay, select};
use super::plan_text;

use super::output::table;
use super::progress::{Progress, thousands};
use super::{CliError, CliResult, Exit, Format};
use crate::hardware;
use crate::run::{Options, OtherArm, Outcome, Stop, carry_out};
use nanochat_artifacts::{Judgement, ResultsRoot, Summary, Verdict, read_document};
use nanochat_experiment::config::SpecErrors;
use nanochat_experiment::{self as experiment, Experiment};
use nanochat_lab::scorecard::{self, Gate};
use nanochat_plan::RunPlan;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment spec.
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only the cells whose axis has this value.
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// Start every run over, whatever is on disk.
    #[arg(long)]
    force: bool,
    /// Stop at the first run that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Run although the machine is not what the profile says; speed is then not judged.
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// Turn verdicts into the exit code: 3 failed, 4 inconclusive, 5 nothing could be compared.
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    beside: beside::Args,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    let experiment = experiment::load(&args.spec, &args.overlay.options()).map_err(CliError::invalid)?;
    let missing = experiment::missing_paths(&experiment);
    if !missing.is_empty() {
        return Err(CliError::invalid(SpecErrors::new(args.spec.display().to_string(), missing)));
    }
    let cells = select(&experiment, &args.only)?;
    let plans = experiment::expand_cells(&experiment, cells).map_err(|error| {
        let help = error.way_out();
        CliError::usage(error, help.as_deref())
    })?;
    let hardware_matches = check_hardware(&experiment, &plans.runs, args.allow_hardware_mismatch)?;
    use_threads(&experiment)?;
    let record = experiment.record(&plans.runs);
    let root = super::project();
    let stop = Stop::default();
    stop_on_signals(&stop);
    let options = Options { force: args.force, fail_fast: args.fail_fast, hardware_matches };
    let session = args.beside.open(&experiment, &plans.runs, (&root, hardware_matches, &stop))?;
    let variants = beside::variants_of(&experiment);
    let mut arm = match &session {
        Some(session) => Some(BaselineArm::new(session, &experiment, &plans.runs, &variants, &root)?),
        None => None,
    };
    let other_arm = arm.as_mut().map(|arm| arm as &mut dyn OtherArm);
    let mut progress = Progress::new();
    let outcome = carry_out(&record, &plans.runs, &root, options, &stop, other_arm, &mut |event| progress.show(event))
        .map_err(|error| CliError::failed(miette::miette!("{error}")))?;
    print(&outcome, &root, args.format)?;
    Ok(exit(&outcome, args.gate))
}

/// Whether the machine is what the profile says and large enough for these plans; if not, an error with the estimate,
/// unless the user allowed it.
pub(super) fn check_hardware(experiment: &Experiment, plans: &[RunPlan], allowed: bool) -> Result<bool, CliError> {
    let Some(profile) = experiment.profile() else { return Ok(true) };
    let machine = hardware::this_machine();
    let matches = match hardware::check(profile, &machine) {
        Ok(()) => !experiment.stand_in,
        Err(mismatch) if allowed => {
            eprintln!("warning: {mismatch}; speed will not be judged");
            false
        }
        Err(mismatch) => {
            let help = "choose another profile with --profile, or run all the same with --allow-hardware-mismatch";
            let estimate = plan_text::estimate(plans, &profile.name).map(|estimate| format!("; {estimate}"));
            let help = format!("{help}{}", estimate.unwrap_or_default());
            return Err(CliError::usage(mismatch, Some(&help)));
        }
    };
    match hardware::fits(plans, &machine) {
        Ok(()) => {}
        Err(too_large) if allowed => eprintln!("warning: {too_large}; it will be tried all the same"),
        Err(too_large) => {
            let help = "lower hardware.device_batch_size, model.depth or model.sequence_len, or try all the same with \
                        --allow-hardware-mismatch";
            return Err(CliError::usage(too_large, Some(help)));
        }
    }
    Ok(matches)
}

/// One thread pool for the whole process, as large as the profile says.
pub(super) fn use_threads(experiment: &Experiment) -> Result<(), CliError> {
    let threads = experiment.profile().map_or(0, |profile| profile.threads);
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global();
    built.map_err(|error| CliError::failed(miette::miette!("the thread pool can't be made: {error}")))
}

/// The first signal ends the run after its step, with a checkpoint; the third ends the program at once.
pub(super) fn stop_on_signals(stop: &Stop) {
    let stop = stop.clone();
    let handler = move || match stop.request() {
        0 => eprintln!("\nstopping after this step; a checkpoint will be written (again to insist)"),
        1 => eprintln!("\nstill writing; once more ends the program at once, and the last checkpoint stays good"),
        _ => std::process::exit(Exit::Interrupted as i32),
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: signals can't be caught ({error}); stopping will lose work since the last checkpoint");
    }
}

fn exit(outcome: &Outcome, gate: bool) -> Exit {
    if outcome.interrupted {
        return Exit::Interrupted;
    }
    if !outcome.failed.is_empty() {
        return Exit::Failed;
    }
    match scorecard::gate(&outcome.scorecard) {
        _ if !gate => Exit::Done,
        Gate::Passed => Exit::Done,
        Gate::Failed => Exit::VerdictFailed,
        Gate::Inconclusive => Exit::Inconclusive,
        Gate::NothingCompared => Exit::NothingCompared,
    }
}

fn print(outcome: &Outcome, root: &ResultsRoot, format: Format) -> Result<(), CliError> {
    if format == Format::Json {
        let text = serde_json::to_string_pretty(&outcome.scorecard).map_err(|error| CliError::usage(error, None))?;
        println!("{text}");
        return Ok(());
    }
    println!();
    println!("{}", runs_table(outcome, root));
    println!();
    let scorecard = &outcome.scorecard;
    let verdicts =
        [("quality", &scorecard.quality), ("speed", &scorecard.speed), ("reproducibility", &scorecard.reproducibility)];
    for (name, judgement) in verdicts.into_iter().chain(scorecard.drift.as_ref().map(|drift| ("drift", drift))) {
        println!("{name:<16} {:<15} {}", label(judgement), judgement.reason);
    }
    println!();
    for (run_id, reason) in &outcome.failed {
        println!("failed: {run_id}: {reason}");
    }
    if outcome.interrupted {
        println!("stopped; the same command continues");
    } else if outcome.finished == 0 && outcome.failed.is_empty() {
        println!("all {} runs were done before (--force starts over)", outcome.already_done);
    }
    println!("report: {}", outcome.reports.markdown.display());
    println!("        {}", outcome.reports.html.display());
    Ok(())
}

fn runs_table(outcome: &Outcome, root: &ResultsRoot) -> comfy_table::Table {
    let mut rows = table(&["run", "status", "val bpb", "tokens/s", "peak memory", "seconds"]);
    let folder = root.experiment(&outcome.scorecard.experiment).ok();
    for run_id in &outcome.scorecard.runs {
        let path = folder.as_ref().and_then(|folder| folder.run(run_id).ok()).map(|run| run.summary());
        let Some(summary) = path.and_then(|path| read_document::<Summary>(&path).ok()) else { continue };
        let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "–".into(), |v| format!("{v:.digits$}"));
        rows.add_row([
            run_id.clone(),
            format!("{:?}", summary.status).to_lowercase(),
            number(summary.final_val_bpb, 4),
            summary.tokens_per_second.map_or_else(|| "–".into(), thousands),
            format!("{:.2} GiB", summary.peak_memory_bytes() as f64 / f64::from(1 << 30)),
            format!("{:.1}", summary.elapsed_seconds),
        ]);
    }
    rows
}

pub(super) fn label(judgement: &Judgement) -> &'static str {
    match judgement.verdict() {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not comparable",
        Verdict::Missing => "missing",
    }
}
