//! What runs are doing, from artifacts and leases alone: on any machine that sees the folder.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::Serialize;

use nanochat_artifacts::lease::{self, Doing};
use nanochat_artifacts::submissions::{SubmissionFolder, TIMING};
use nanochat_artifacts::{
    ArtifactError, ExperimentFolder, ExperimentRecord, RunFolder, RunStatus, Summary, files, read_document,
};
use nanochat_plan::RunPlan;

/// What the timing session is called among runs.
pub const TIMING_SESSION: &str = "timing session";

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveState {
    /// Nobody has begun it.
    Planned,
    /// A cluster has it in its queue.
    Queued,
    /// Somebody reads its data, tokenizer and weights.
    Preparing,
    /// It trains.
    Training,
    /// It is being evaluated.
    Evaluating,
    /// It is the timing session, and takes blocks.
    Timing,
    /// Whoever had it has shown no sign of life for too long, or left it before its end.
    Left,
    /// It was stopped, and can go on.
    Interrupted,
    /// It failed.
    Failed,
    /// It is done.
    Finished,
}

impl LiveState {
    /// Whether somebody works on it.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Preparing | Self::Training | Self::Evaluating | Self::Timing)
    }

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Timing => "timing",
            Self::Left => "left",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunLive {
    /// Run id.
    pub run_id: String,
    /// What it is doing.
    pub state: LiveState,
    /// Why it failed or stopped.
    pub reason: Option<String>,
    /// The machine that has it, or had it.
    pub host: Option<String>,
    /// The cluster's job that has it, or had it.
    pub job: Option<String>,
    /// Steps done.
    pub step: u64,
    /// Steps planned, where that is known.
    pub steps: Option<u64>,
    /// Training loss.
    pub loss: Option<f64>,
    /// Validation bits per byte.
    pub val_bpb: Option<f64>,
    /// Tokens a second.
    pub tokens_per_second: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Seconds until its end, at its pace.
    pub seconds_left: Option<f64>,
    /// Seconds since its last sign of life, while somebody has it.
    pub silent_seconds: Option<f64>,
}

/// An experiment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentLive {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Its runs, in planned order.
    pub runs: Vec<RunLive>,
    /// Its timing session, whose steps are blocks; none where nobody has submitted or begun one.
    pub timing: Option<RunLive>,
    /// Seconds until all runs are done, at the pace of those that run now and with as many at once.
    pub seconds_left: Option<f64>,
}

impl ExperimentLive {
    /// Runs in a state.
    pub fn count(&self, which: impl Fn(LiveState) -> bool) -> usize {
        self.runs.iter().filter(|run| which(run.state)).count()
    }

    /// Whether something of it is queued or running.
    pub fn is_open(&self) -> bool {
        let is_open = |run: &RunLive| run.state.is_running() || run.state == LiveState::Queued;
        self.runs.iter().chain(&self.timing).any(is_open)
    }

    /// `3 training, 9 queued`, and the timing session.
    pub fn counts(&self) -> String {
        let states: BTreeSet<LiveState> = self.runs.iter().map(|run| run.state).collect();
        let words =
            states.iter().rev().map(|state| format!("{} {}", self.count(|other| other == *state), state.name()));
        let session = self.timing.iter().map(|timing| format!("{TIMING_SESSION} {}", timing.state.name()));
        words.chain(session).collect::<Vec<_>>().join(", ")
    }
}

/// An experiment as it stands.
///
/// # Errors
/// Its record can't be read. What can't be read of a run counts as absent: it may be about to be written.
pub fn of_experiment(folder: &ExperimentFolder) -> Result<ExperimentLive, ArtifactError> {
    let record: ExperimentRecord = read_document(&folder.record())?;
    let submissions = SubmissionFolder::of(folder)?;
    let queued = submissions.read().submitted_runs(&submissions);
    let now = SystemTime::now();
    let runs: Vec<RunLive> = record
        .runs
        .iter()
        .map(|id| Ok(of_run(&folder.run(id)?, queued.contains(id), now)))
        .collect::<Result<_, ArtifactError>>()?;
    let timing = of_timing(folder, queued.contains(TIMING), now)?;
    let of_timing = timing.as_ref().and_then(|timing| timing.seconds_left);
    let seconds_left = seconds_left(&runs).or(of_timing);
    Ok(ExperimentLive { name: record.name, description: record.description, runs, timing, seconds_left })
}

/// The timing session as it stands; none where nobody has submitted or begun one.
///
/// # Errors
/// A link in the place of its folder.
pub fn of_timing(
    folder: &ExperimentFolder,
    is_queued: bool,
    now: SystemTime,
) -> Result<Option<RunLive>, ArtifactError> {
    let mut timing = of_run(&RunFolder::at(folder.timing_work()?), is_queued, now);
    timing.run_id = TIMING_SESSION.to_string();
    if matches!(timing.state, LiveState::Planned | LiveState::Left) && files::is_there(&folder.timing()) {
        timing.state = LiveState::Finished;
        timing.silent_seconds = None;
    } else if timing.state == LiveState::Planned && timing.step > 0 {
        timing.state = LiveState::Interrupted;
    }
    Ok(Some(timing).filter(|timing| timing.state != LiveState::Planned))
}

/// A run as it stands.
pub fn of_run(folder: &RunFolder, is_queued: bool, now: SystemTime) -> RunLive {
    let mut run = RunLive {
        run_id: folder.name(),
        state: if is_queued { LiveState::Queued } else { LiveState::Planned },
        reason: None,
        host: None,
        job: None,
        step: 0,
        steps: None,
        loss: None,
        val_bpb: None,
        tokens_per_second: None,
        memory_bytes: None,
        seconds_left: None,
        silent_seconds: None,
    };
    let seen = lease::current(folder.path()).ok().flatten();
    let is_live = seen.as_ref().is_some_and(|seen| seen.is_live(now));
    if let Some(seen) = &seen {
        note_lease(&mut run, seen, is_live, now);
    }
    if is_live {
        return run;
    }
    if let Ok(summary) = read_document::<Summary>(&folder.summary()) {
        note_summary(&mut run, summary, is_queued);
        if run.state == LiveState::Finished {
            run.steps = Some(run.step);
        }
    }
    if run.steps.is_none() {
        run.steps = read_document::<RunPlan>(&folder.plan()).ok().map(|plan| plan.num_iterations);
    }
    run
}

fn note_lease(run: &mut RunLive, seen: &lease::Seen, is_live: bool, now: SystemTime) {
    let Some(lease) = &seen.lease else {
        if is_live {
            run.state = LiveState::Preparing;
        }
        return;
    };
    let progress = lease.progress;
    run.host = Some(lease.owner.host.clone());
    run.job.clone_from(&lease.owner.job);
    run.step = progress.step;
    run.steps = Some(progress.steps).filter(|steps| *steps > 0);
    (run.loss, run.val_bpb) = (progress.loss, progress.val_bpb);
    if is_live {
        run.state = match progress.doing {
            Doing::Preparing => LiveState::Preparing,
            Doing::Training => LiveState::Training,
            Doing::Evaluating => LiveState::Evaluating,
            Doing::Timing => LiveState::Timing,
        };
        run.tokens_per_second = progress.tokens_per_second;
        run.memory_bytes = Some(progress.rss_bytes).filter(|bytes| *bytes > 0);
        run.seconds_left = progress.seconds_left;
        run.silent_seconds = Some(seen.age_seconds(now));
    } else if !lease.released {
        run.state = LiveState::Left;
        run.silent_seconds = Some(seen.age_seconds(now));
    }
}

fn note_summary(run: &mut RunLive, summary: Summary, is_queued: bool) {
    let lost = run.state == LiveState::Left;
    run.state = match summary.status {
        RunStatus::Finished => LiveState::Finished,
        RunStatus::Failed => LiveState::Failed,
        RunStatus::Interrupted if lost => LiveState::Left,
        RunStatus::Interrupted if is_queued => LiveState::Queued,
        RunStatus::Interrupted => LiveState::Interrupted,
    };
    if !lost || run.state == LiveState::Finished {
        run.silent_seconds = None;
    }
    run.memory_bytes = Some(summary.peak_memory_bytes());
    run.step = summary.steps;
    run.loss = summary.train_loss.filter(|loss| loss.is_finite()).or(run.loss);
    run.val_bpb = summary.final_val_bpb.or(run.val_bpb);
    run.tokens_per_second = summary.tokens_per_second;
    run.reason = summary.reason;
}

/// Time until all runs are done: what is left of those that run, and whole runs for those that wait, over as many at once.
pub fn seconds_left(runs: &[RunLive]) -> Option<f64> {
    let running: Vec<&RunLive> = runs.iter().filter(|run| run.state.is_running()).collect();
    let paces: Vec<f64> = running
        .iter()
        .filter_map(|run| Some(run.seconds_left? / run.steps?.saturating_sub(run.step).max(1) as f64))
        .collect();
    if paces.is_empty() {
        return None;
    }
    let pace = paces.iter().sum::<f64>() / paces.len() as f64;
    let steps = running.iter().filter_map(|run| run.steps).max()?;
    let waiting = runs.iter().filter(|run| run.state < LiveState::Preparing || run.state == LiveState::Interrupted);
    let waiting: f64 = waiting.map(|run| pace * run.steps.unwrap_or(steps).saturating_sub(run.step) as f64).sum();
    let longest = running.iter().filter_map(|run| run.seconds_left).fold(0.0, f64::max);
    let work: f64 = waiting + running.iter().filter_map(|run| run.seconds_left).sum::<f64>();
    Some((work / running.len() as f64).max(longest))
}
