//! `nanochat run --on slurm`: submits, shows the script, waits, asks what Ctrl-C means.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use nanochat_artifacts::{ExperimentFolder, read_document};

use super::arm_places::PlaceArgs;
use super::context::SpecArgs;
use super::signals::stop_on_signals;
use super::watch::Screen;
use super::{CliError, CliResult, Exit, input};
use crate::cluster::{self, ClusterError, Request, Slurm, Submitted};
use crate::run::{self, Opened};

/// Between two looks at the artifacts, and at the queue.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_QUEUE: Duration = Duration::from_secs(5);
/// Files of a network may show later what another machine has written.
const SETTLE: Duration = Duration::from_secs(5);

/// Where the runs are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// As jobs of a Slurm cluster, by the `slurm` settings of the hardware profile
    Slurm,
}

#[derive(Debug, clap::Args)]
pub struct SlurmArgs {
    /// Where to run: submit what is missing as array jobs, wait, and judge
    #[arg(long, value_enum, conflicts_with_all = ["force", "shard", "with_baseline"])]
    pub on: Option<Place>,
    /// Don't wait for the jobs; the same command without it picks them up
    #[arg(long, requires = "on")]
    detach: bool,
    /// Print the jobs' scripts and submit nothing
    #[arg(long, requires = "on", conflicts_with = "detach")]
    dry_run: bool,
    /// Runs of an element of a job, as FILE:LINE
    #[arg(long, hide = true, value_name = "FILE:LINE", conflicts_with_all = ["on", "shard", "judge"])]
    pub element: Option<String>,
    /// Only judge; the file is the list of the submission that has ended
    #[arg(long, hide = true, value_name = "FILE", conflicts_with_all = ["on", "shard"])]
    pub judge: Option<String>,
}

/// The words that start `run` in a job.
pub fn command(spec: &SpecArgs, places: &PlaceArgs, allow_mismatch: bool) -> Result<Vec<String>, CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::usage(error, None))?;
    let not_text = || CliError::usage("a path that isn't UTF-8 can't stand in a job's script", None);
    let text = |path: &std::path::Path| path.to_str().map(str::to_string).ok_or_else(not_text);
    let mut words = vec![text(&program)?, "run".to_string()];
    if allow_mismatch {
        words.push("--allow-hardware-mismatch".to_string());
    }
    let overlay = &spec.overlay;
    words.extend(overlay.set.iter().map(|set| format!("--set={set}")));
    words.extend(overlay.profile.iter().map(|profile| format!("--profile={profile}")));
    words.extend(overlay.allow_outside.then(|| "--allow-outside".to_string()));
    words.extend(spec.only.iter().map(|only| format!("--only={only}")));
    words.extend(places.words().ok_or_else(not_text)?);
    let spec = text(&spec.spec)?;
    // Other options follow it, so it can't be set apart by `--`.
    words.push(if spec.starts_with('-') { format!("./{spec}") } else { spec });
    Ok(words)
}

/// Submits, and waits unless the user asks for the contrary. None once all jobs have ended: then the results are to be shown.
pub fn execute(
    args: &SlurmArgs,
    opened: &Opened,
    command: &[String],
    on_finish: Option<&str>,
) -> Result<Option<Exit>, CliError> {
    let folder = opened.root.experiment(&opened.experiment.name).map_err(CliError::invalid)?;
    // Who waits for the jobs runs the command that comes after them; else the last job does.
    let judging: Vec<String> = on_finish
        .filter(|_| args.detach || args.dry_run)
        .map(|command| format!("--on-finish={command}"))
        .into_iter()
        .collect();
    let none = nanochat_plan::SlurmSettings::default();
    let profile = opened.experiment.profile();
    let request = Request {
        folder: &folder,
        plans: opened.plans(),
        command,
        judging: &judging,
        settings: profile.and_then(|profile| profile.slurm.as_ref()).unwrap_or(&none),
        threads: profile.map_or(0, |profile| profile.threads),
        lacks_session: run::lacks_session(opened, &folder),
        arms_are_timed: run::arms_are_timed(opened),
    };
    let slurm = Slurm::at(opened.root.project());
    if args.dry_run {
        print_scripts(&request, &slurm)?;
        return Ok(Some(Exit::Done));
    }
    let submitted = submit(&request, &slurm, opened)?;
    if args.detach {
        say!("`nanochat watch {0}` shows the runs; `nanochat cancel {0}` ends them", opened.experiment.name);
        return Ok(Some(Exit::Done));
    }
    if submitted.jobs.is_empty() && submitted.open == 0 && !submitted.timing_open {
        return Ok(None);
    }
    wait(&folder, &slurm, &opened.experiment.name)
}

fn submit(request: &Request<'_>, slurm: &Slurm, opened: &Opened) -> Result<Submitted, CliError> {
    // The record is there before the first job begins.
    let record = opened.record();
    let queue = slurm.queue().map_err(CliError::failed);
    queue?;
    nanochat_artifacts::write_document(&request.folder.record(), &record).map_err(CliError::failed)?;
    let submitted = cluster::submit(request, slurm).map_err(CliError::failed)?;
    let Submitted { jobs, runs, timing, open, timing_open, done } = &submitted;
    let session = if *timing { " and the timing session" } else { "" };
    let waiting = if *timing_open { ", and so is the timing session" } else { "" };
    match jobs.as_slice() {
        [] => say!("nothing to submit: {done} runs are done, {open} are queued or running{waiting}"),
        jobs => say!(
            "submitted {runs} runs{session} as job {}; {done} are done, {open} were queued or running",
            jobs.join(", ")
        ),
    }
    Ok(submitted)
}

fn print_scripts(request: &Request<'_>, slurm: &Slurm) -> Result<(), CliError> {
    let prepared = cluster::prepare(request, slurm).map_err(CliError::invalid)?;
    let runs: usize = prepared.elements.iter().map(Vec::len).sum();
    let (elements, arrays) = (prepared.elements.len(), prepared.arrays.len());
    let session = if prepared.timing.is_some() { ", and a timing session," } else { "" };
    say!("# {runs} runs in {elements} elements of {arrays} arrays{session} would be submitted");
    for (slice, script) in &prepared.arrays {
        say!("# --- elements {} to {}", slice.first + 1, slice.first + slice.count);
        say_lines!("{script}");
    }
    if let Some(script) = &prepared.timing {
        say!("# --- the timing session, an element of its own after the runs");
        say_lines!("{script}");
    }
    if arrays > 0 || prepared.timing.is_some() {
        say!("# --- the last job, after all others");
        say_lines!("{}", prepared.judging);
    }
    Ok(())
}

/// Waits until no job of the experiment is left.
fn wait(folder: &ExperimentFolder, slurm: &Slurm, name: &str) -> Result<Option<Exit>, CliError> {
    let stop = stop_on_signals(["", ""]);
    let mut screen = Screen::default();
    let (mut looked, mut silent) = (Instant::now(), false);
    loop {
        screen.show(folder);
        if stop.requested() {
            screen.clear();
            return Ok(Some(ask(folder, slurm, name)?));
        }
        std::thread::sleep(LOOK);
        if looked.elapsed() < LOOK_AT_QUEUE {
            continue;
        }
        looked = Instant::now();
        match cluster::open_jobs(folder, slurm) {
            Ok(open) if open.is_empty() => break,
            Ok(_) => silent = false,
            // A controller that is restarted answers again, and jobs run on meanwhile.
            Err(error) => {
                if !silent {
                    screen.line(&format!("the cluster doesn't answer, its jobs go on: {error}"));
                }
                silent = true;
            }
        }
    }
    screen.clear();
    let since = Instant::now();
    while !judged(folder) && since.elapsed() < SETTLE {
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

fn judged(folder: &ExperimentFolder) -> bool {
    read_document::<nanochat_artifacts::Scorecard>(&folder.scorecard()).is_ok()
}

/// What Ctrl-C means: without a terminal the jobs run on.
fn ask(folder: &ExperimentFolder, slurm: &Slurm, name: &str) -> CliResult {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        tell!(
            "the jobs of {name} are still queued or running. Type `cancel` to end them, anything else to leave them:"
        );
        if input::line().is_some_and(|answer| answer.trim() == "cancel") {
            return cancel(folder, slurm);
        }
    }
    tell!("left running; the same command picks the jobs up, `nanochat cancel {name}` ends them");
    Ok(Exit::Interrupted)
}

fn cancel(folder: &ExperimentFolder, slurm: &Slurm) -> CliResult {
    let count = cluster::cancel(folder, slurm).map_err(|error| match error {
        ClusterError::NoJobs { .. } => CliError::invalid(error),
        error => CliError::failed(error),
    })?;
    say!("cancelled {count} jobs; runs that had begun save a checkpoint, and the same `run` goes on from it");
    Ok(Exit::Done)
}

/// `nanochat cancel`.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// The experiment whose jobs to end
    experiment: String,
}

/// Cancels the jobs of an experiment.
pub fn execute_cancel(args: CancelArgs) -> CliResult {
    let root = crate::run::project();
    let folder = root.experiment(&args.experiment).map_err(CliError::invalid)?;
    cancel(&folder, &Slurm::at(root.project()))
}
