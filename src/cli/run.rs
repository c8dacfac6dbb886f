//! `nanochat run`: runs an experiment, shows progress, prints the verdicts.

use nanochat_artifacts::{ResultsRoot, Summary, read_document};
use nanochat_lab::scorecard::{self, Gate};

use super::arm_places::PlaceArgs;
use super::baseline_progress;
use super::context::SpecArgs;
use super::output::{gib, json, number, table};
use super::progress::{Progress, thousands};
use super::signals::stop_runs;
use super::{CliError, CliResult, Exit, Format, terminal, verdict_text};
use crate::baseline::{Arms, BaselineArm, Session, Wanted};
use crate::run::{ForeignArms, MachineCheck, Opened, Options, OtherArm, Others, Outcome, Scope, Stop, run_experiment};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Start every run over, even if it is finished
    #[arg(long)]
    force: bool,
    /// Go on from checkpoints that this user didn't write on this machine
    #[arg(long)]
    trust_checkpoints: bool,
    /// Stop at the first run that fails
    #[arg(long)]
    fail_fast: bool,
    /// Run even if the machine doesn't match the profile; speed is then not judged
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// Turn verdicts into the exit code: 3 failed, 4 inconclusive, 5 nothing could be compared
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    baseline: BaselineArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct BaselineArgs {
    /// Run karpathy/nanochat too, in alternating blocks on this machine, and record it
    #[arg(long, requires_all = ["checkout", "python"])]
    with_baseline: bool,
    #[command(flatten)]
    places: PlaceArgs,
}

impl BaselineArgs {
    /// Opens the baseline as the other arm, if the user asks for it.
    fn open(&self, opened: &Opened, stop: &Stop) -> Result<Option<Session>, CliError> {
        let Some(place) = self.places.place(opened.hardware_matches).filter(|_| self.with_baseline) else {
            return Ok(None);
        };
        let Opened { experiment, root, .. } = opened;
        // Processes of the checkout are ended in order.
        let _at_work = stop.at_work();
        Ok(Some(Session::for_experiment(&place, experiment, opened.plans(), root, &|| stop.requested())?))
    }
}

/// The runs of one arm alone.
pub(super) fn execute_arm(mut args: Args, arm: &str) -> CliResult {
    args.spec.only.push(format!("{}={arm}", nanochat_plan::ARM_AXIS));
    execute(args)
}

pub fn execute(args: Args) -> CliResult {
    let machine = MachineCheck::ProfileAndMemory { allow_mismatch: args.allow_hardware_mismatch };
    let opened = args.spec.open(Scope::All, machine)?;
    opened.make_thread_pool()?;
    let stop = stop_runs();
    let options = Options {
        force: args.force,
        fail_fast: args.fail_fast,
        trust_checkpoints: args.trust_checkpoints,
        hardware_matches: opened.hardware_matches,
    };
    let outcome = match opened.experiment.arms.is_empty() {
        true => beside_baseline(&args.baseline, &opened, options, &stop)?,
        false => with_arms(&args.baseline.places, &opened, options, &stop)?,
    };
    print(&outcome, &opened.root, args.format)?;
    Ok(exit(&outcome, args.gate))
}

/// This engine's runs, with those of the baseline where the user asks for it.
fn beside_baseline(args: &BaselineArgs, opened: &Opened, options: Options, stop: &Stop) -> Result<Outcome, CliError> {
    let session = args.open(opened, stop)?;
    let mut progress = baseline_progress::Progress::default();
    let mut report = |plan: &_, report: crate::baseline::Report<'_>| progress.show(plan, report);
    let mut arm = match &session {
        Some(session) => {
            Some(BaselineArm::new(session, &opened.experiment, opened.plans(), &opened.root, &mut report)?)
        }
        None => None,
    };
    let other_arm = arm.as_mut().map(|arm| arm as &mut dyn OtherArm);
    run(opened, options, stop, Others { other_arm, arms: None })
}

/// The runs of all arms.
fn with_arms(args: &PlaceArgs, opened: &Opened, options: Options, stop: &Stop) -> Result<Outcome, CliError> {
    let Opened { experiment, root, .. } = opened;
    let places = args.places(experiment, opened.hardware_matches)?;
    let mut progress = baseline_progress::Progress::default();
    let mut report = |plan: &_, report: crate::baseline::Report<'_>| progress.show(plan, report);
    let wanted = Wanted { experiment, plans: opened.plans(), force: options.force };
    // Processes of the checkouts are ended in order.
    let at_work = stop.at_work();
    let mut arms = Arms::open(&wanted, &places, root, &|| stop.requested(), &mut report)?;
    drop(at_work);
    let arms = arms.as_mut().map(|arms| arms as &mut dyn ForeignArms);
    run(opened, options, stop, Others { other_arm: None, arms })
}

fn run(opened: &Opened, options: Options, stop: &Stop, others: Others<'_>) -> Result<Outcome, CliError> {
    let mut progress = Progress::default();
    let outcome = run_experiment(opened, options, stop, others, &mut |event| progress.show(event));
    outcome.map_err(CliError::failed)
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
        Gate::Unjudged => Exit::Unjudged,
    }
}

fn print(outcome: &Outcome, root: &ResultsRoot, format: Format) -> Result<(), CliError> {
    if format == Format::Json {
        return json(&outcome.scorecard);
    }
    let scorecard = &outcome.scorecard;
    if let Some(answer) = &scorecard.answer {
        say!();
        say!("{answer}.");
    }
    super::output::verdict_lines(&format!("\n{}\n", runs_table(outcome, root)));
    verdict_text::print_cells(scorecard);
    verdict_text::print_verdicts(scorecard);
    say!();
    for (run_id, reason) in &outcome.failed {
        say!("failed: {run_id}: {reason}");
    }
    if outcome.interrupted {
        say!("stopped; the same command continues");
    } else if outcome.finished == 0 && outcome.failed.is_empty() {
        say!("all {} runs were done before (--force starts over)", outcome.already_done);
    }
    say!("report: {}", outcome.reports.markdown.display());
    say!("        {}", outcome.reports.html.display());
    Ok(())
}

fn runs_table(outcome: &Outcome, root: &ResultsRoot) -> comfy_table::Table {
    let mut rows = table(&["run", "status", "val bpb", "tokens/s", "peak memory", "seconds"]);
    let folder = root.experiment(&outcome.scorecard.experiment).ok();
    for run_id in &outcome.scorecard.runs {
        let path = folder.as_ref().and_then(|folder| folder.run(run_id).ok()).map(|run| run.summary());
        let Some(summary) = path.and_then(|path| read_document::<Summary>(&path).ok()) else { continue };
        rows.add_row([
            run_id.clone(),
            format!("{:?}", summary.status).to_lowercase(),
            number(summary.final_val_bpb, 4),
            summary.tokens_per_second.map_or_else(|| "–".into(), thousands),
            gib(summary.peak_memory_bytes()),
            format!("{:.1}", summary.elapsed_seconds),
        ]);
    }
    terminal::fit(&mut rows, &["peak memory", "seconds", "status"]);
    rows
}
