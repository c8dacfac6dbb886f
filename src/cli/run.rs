//! `nanochat run`: runs an experiment, shows progress, prints the verdicts.

use nanochat_artifacts::{ResultsRoot, Scorecard, Summary, read_document};
use nanochat_lab::scorecard::{self, Gate};

use super::arm_places::PlaceArgs;
use super::baseline_progress;
use super::context::SpecArgs;
use super::output::{gib, json, number, table};
use super::progress::{Progress, thousands};
use super::signals::stop_runs;
use super::slurm::{self, SlurmArgs};
use super::{CliError, CliResult, Exit, Format, terminal, verdict_text};
use crate::baseline::{Arms, BaselineArm, Session, Wanted};
use crate::cluster;
use crate::run::{
    ForeignArms, Judged, MachineCheck, Opened, Options, OtherArm, Others, Outcome, Part, Scope, Shard, Stop,
    run_experiment, run_hook,
};

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
    /// Only this part of the runs: 3/16 is the third of sixteen, and `nanochat merge` joins them. Arms of a block stay together
    #[arg(long, value_name = "NUMBER/OF")]
    shard: Option<Shard>,
    #[command(flatten)]
    slurm: SlurmArgs,
    /// Run this command through the shell when the experiment ends, however it does; NANOCHAT_EXPERIMENT, NANOCHAT_STATUS,
    /// NANOCHAT_FAILED_RUNS and NANOCHAT_REPORT tell it what happened
    #[arg(long, value_name = "COMMAND")]
    on_finish: Option<String>,
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
    // What a job's script starts later doesn't need this machine to be like the profile.
    let elsewhere = args.slurm.on.is_some() || args.slurm.judge.is_some();
    let machine = match elsewhere {
        true => MachineCheck::Skip,
        false => MachineCheck::ProfileAndMemory { allow_mismatch: args.allow_hardware_mismatch },
    };
    let opened = args.spec.open(Scope::All, machine)?;
    if args.slurm.on.is_some() {
        let command = slurm::command(&args.spec, &args.baseline.places, args.allow_hardware_mismatch)?;
        if let Some(exit) = slurm::execute(&args.slurm, &opened, &command, args.on_finish.as_deref())? {
            return Ok(exit);
        }
    }
    let outcome = carry_out(&args, &opened, part(&args, &opened)?)?;
    print(&outcome, &opened.root, args.format)?;
    let exit = exit(&outcome, args.gate);
    if let Some(command) = &args.on_finish {
        finish(command, &opened, &outcome);
    }
    Ok(exit)
}

/// Which of the runs this process carries out.
fn part(args: &Args, opened: &Opened) -> Result<Part, CliError> {
    if let Some(list) = &args.slurm.judge {
        let folder = opened.root.experiment(&opened.experiment.name).map_err(CliError::invalid)?;
        cluster::note_end(&folder, list).map_err(CliError::failed)?;
    }
    Ok(match (&args.slurm.element, args.shard) {
        (Some(element), _) => cluster::element(element, opened.plans()).map_err(CliError::invalid)?,
        _ if args.slurm.on.is_some() || args.slurm.judge.is_some() => Part::Judging,
        (None, Some(shard)) => shard.part(opened.plans()),
        (None, None) => Part::Whole,
    })
}

/// The runs of this process, to their verdicts.
fn carry_out(args: &Args, opened: &Opened, part: Part) -> Result<Outcome, CliError> {
    opened.make_thread_pool()?;
    let stop = stop_runs();
    let only_judges = part == Part::Judging;
    let options = Options {
        force: args.force,
        fail_fast: args.fail_fast,
        trust_checkpoints: args.trust_checkpoints,
        hardware_matches: opened.hardware_matches,
        part,
    };
    match opened.experiment.arms.is_empty() || only_judges {
        true => beside_baseline(&args.baseline, opened, options, &stop),
        false => with_arms(&args.baseline.places, opened, options, &stop),
    }
}

/// Runs the user's own command.
fn finish(command: &str, opened: &Opened, outcome: &Outcome) {
    if let Err(error) = run_hook(command, &opened.experiment.name, outcome) {
        tell!("warning: the command of --on-finish failed: {error}");
    }
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
    if outcome.no_progress && outcome.judged.is_none() {
        return Exit::NoProgress;
    }
    if outcome.interrupted {
        return Exit::Interrupted;
    }
    if !outcome.failed.is_empty() || !outcome.unfinished.is_empty() || outcome.no_timing.is_some() {
        return Exit::Failed;
    }
    let Some(judged) = &outcome.judged else { return Exit::Done };
    match scorecard::gate(&judged.scorecard) {
        _ if !gate => Exit::Done,
        Gate::Passed => Exit::Done,
        Gate::Failed => Exit::VerdictFailed,
        Gate::Inconclusive => Exit::Inconclusive,
        Gate::NothingCompared => Exit::NothingCompared,
        Gate::Unjudged => Exit::Unjudged,
    }
}

fn print(outcome: &Outcome, root: &ResultsRoot, format: Format) -> Result<(), CliError> {
    let Some(Judged { scorecard, reports }) = &outcome.judged else {
        print_ends(outcome);
        return Ok(());
    };
    if format == Format::Json {
        return json(scorecard);
    }
    print_verdicts(scorecard, root);
    print_ends(outcome);
    say!("report: {}", reports.markdown.display());
    say!("        {}", reports.html.display());
    Ok(())
}

pub(super) fn print_verdicts(scorecard: &Scorecard, root: &ResultsRoot) {
    if let Some(answer) = &scorecard.answer {
        say!();
        super::output::say_sentence(&format!("{answer}."));
    }
    super::output::verdict_lines(&format!("\n{}\n", runs_table(scorecard, root)));
    verdict_text::print_cells(scorecard);
    verdict_text::print_verdicts(scorecard);
    say!();
}

/// How the runs of this command ended.
fn print_ends(outcome: &Outcome) {
    for (run_id, reason) in &outcome.failed {
        say!("failed: {run_id}: {reason}");
    }
    for run_id in &outcome.unfinished {
        say!("not finished: {run_id}");
    }
    if let Some(reason) = &outcome.no_timing {
        say!("no timing session: {reason}");
    }
    if outcome.interrupted {
        say!("stopped; the same command continues");
    } else if !outcome.unfinished.is_empty() || outcome.no_timing.is_some() {
        say!("the same command goes on with what isn't finished");
    } else if outcome.finished == 0 && outcome.already_done > 0 && outcome.failed.is_empty() {
        say!("all {} runs were done before (--force starts over)", outcome.already_done);
    }
}

fn runs_table(scorecard: &Scorecard, root: &ResultsRoot) -> comfy_table::Table {
    let mut rows = table(&["run", "status", "val bpb", "tokens/s", "peak memory", "seconds"]);
    let folder = root.experiment(&scorecard.experiment).ok();
    for run_id in &scorecard.runs {
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
