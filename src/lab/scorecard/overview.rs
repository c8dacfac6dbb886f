//! What `nanochat list` shows: experiments with their verdicts, and runs with their headline figures.

use std::time::SystemTime;

use serde::Serialize;

use nanochat_artifacts::submissions::{SubmissionFolder, TIMING};
use nanochat_artifacts::{
    ArtifactError, ExperimentFolder, ResultsRoot, RunDocuments, RunStatus, Scorecard, Verdict, read_document,
    read_experiment,
};

use crate::live::{self, LiveState, RunLive};

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentOverview {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Runs planned.
    pub planned: usize,
    /// Runs finished.
    pub finished: usize,
    /// Verdicts, once there is a scorecard.
    pub verdicts: Option<Verdicts>,
    /// Lowest final bits per byte among its finished runs.
    pub best_val_bpb: Option<f64>,
    /// Highest throughput among its finished runs.
    pub tokens_per_second: Option<f64>,
    /// Its runs, in planned order.
    pub runs: Vec<RunOverview>,
    /// Its timing session, whose steps are blocks, while it is queued or goes on.
    pub timing: Option<RunLive>,
    /// Seconds until all runs are done, while some go on.
    pub seconds_left: Option<f64>,
    /// Why it can't be read, when it can't.
    pub error: Option<String>,
}

/// The three verdicts over all cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Of quality.
    pub quality: Verdict,
    /// Of speed.
    pub speed: Verdict,
    /// Of reproducibility.
    pub reproducibility: Verdict,
}

/// What to list, and in which order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listing<'a> {
    /// Only this experiment.
    pub experiment: Option<&'a str>,
    /// Only experiments with this verdict, by its name in documents.
    pub verdict: Option<&'a str>,
    /// Only runs with this status, and experiments that have one.
    pub status: Option<&'a str>,
    /// The order.
    pub order: Order,
}

/// Order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By name; runs in planned order.
    #[default]
    Name,
    /// Lowest bits per byte first.
    BitsPerByte,
    /// Fastest first.
    Speed,
}

impl Listing<'_> {
    /// The experiments to list, each with its runs to list.
    pub fn select(&self, mut experiments: Vec<ExperimentOverview>) -> Vec<ExperimentOverview> {
        experiments.retain(|experiment| self.includes(experiment));
        experiments.sort_by(|a, b| {
            self.order.compare((a.best_val_bpb, a.tokens_per_second), (b.best_val_bpb, b.tokens_per_second))
        });
        for experiment in &mut experiments {
            experiment.runs.retain(|run| self.status.is_none_or(|status| run.status == status));
            experiment.runs.sort_by(|a, b| {
                self.order.compare((a.final_val_bpb, a.tokens_per_second), (b.final_val_bpb, b.tokens_per_second))
            });
        }
        experiments
    }

    fn includes(&self, experiment: &ExperimentOverview) -> bool {
        let verdicts = experiment.verdicts.iter().flat_map(|v| [v.quality, v.speed, v.reproducibility]);
        self.experiment.is_none_or(|name| experiment.name == name)
            && self.verdict.is_none_or(|wanted| verdicts.map(verdict_name).any(|verdict| verdict == wanted))
            && self.status.is_none_or(|wanted| experiment.runs.iter().any(|run| run.status == wanted))
    }
}

impl Order {
    /// Compares bits per byte and throughput; missing figures come last.
    fn compare(self, a: (Option<f64>, Option<f64>), b: (Option<f64>, Option<f64>)) -> std::cmp::Ordering {
        match self {
            Self::Name => std::cmp::Ordering::Equal,
            Self::BitsPerByte => a.0.unwrap_or(f64::INFINITY).total_cmp(&b.0.unwrap_or(f64::INFINITY)),
            Self::Speed => b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)),
        }
    }
}

/// A verdict by its name in documents.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not_comparable",
        Verdict::Missing => "missing",
        Verdict::Off => "off",
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunOverview {
    /// Run id.
    pub run_id: String,
    /// Seed.
    pub seed: Option<u64>,
    /// `finished`, `interrupted`, `failed` or `planned`; while somebody has it what it is doing: `queued`, `preparing`,
    /// `training`, `evaluating`; and `left` when whoever had it shows no sign of life.
    pub status: &'static str,
    /// The machine that has it now.
    pub host: Option<String>,
    /// Steps done.
    pub steps: u64,
    /// Steps planned.
    pub planned_steps: Option<u64>,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Seconds until its end, while somebody has it.
    pub seconds_left: Option<f64>,
    /// Seconds since its last sign of life, while somebody has it.
    pub silent_seconds: Option<f64>,
    /// Final bits per byte.
    pub final_val_bpb: Option<f64>,
    /// Median tokens per second.
    pub tokens_per_second: Option<f64>,
    /// Seconds from start to end.
    pub elapsed_seconds: Option<f64>,
    /// When it was finished, UTC.
    pub finished_at: Option<String>,
}

/// All experiments of a project, sorted by name. One that can't be read is listed with its error.
pub fn overview(root: &ResultsRoot) -> Result<Vec<ExperimentOverview>, ArtifactError> {
    Ok(root
        .experiments()?
        .iter()
        .map(|folder| of_experiment(folder).unwrap_or_else(|error| unreadable(folder, &error)))
        .collect())
}

/// One experiment.
pub fn of_experiment(folder: &ExperimentFolder) -> Result<ExperimentOverview, ArtifactError> {
    let documents = read_experiment(folder)?;
    let scorecard: Option<Scorecard> = match read_document(&folder.scorecard()) {
        Ok(scorecard) => Some(scorecard),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let finished: Vec<_> = documents.runs.iter().filter_map(RunDocuments::finished).collect();
    let mut runs: Vec<RunOverview> = documents.runs.iter().map(of_run).collect();
    runs.extend(documents.absent.iter().map(|id| RunOverview {
        run_id: id.clone(),
        seed: None,
        status: "planned",
        host: None,
        steps: 0,
        planned_steps: None,
        loss: None,
        seconds_left: None,
        silent_seconds: None,
        final_val_bpb: None,
        tokens_per_second: None,
        elapsed_seconds: None,
        finished_at: None,
    }));
    let live = with_live_states(folder, &mut runs)?;
    Ok(ExperimentOverview {
        seconds_left: live.seconds_left,
        timing: live.timing,
        name: documents.record.name.clone(),
        description: documents.record.description.clone(),
        planned: documents.record.runs.len(),
        finished: finished.len(),
        verdicts: scorecard.map(|card| Verdicts {
            quality: card.quality.verdict(),
            speed: card.speed.verdict(),
            reproducibility: card.reproducibility.verdict(),
        }),
        best_val_bpb: finished.iter().filter_map(|summary| summary.final_val_bpb).min_by(f64::total_cmp),
        tokens_per_second: finished.iter().filter_map(|summary| summary.tokens_per_second).max_by(f64::total_cmp),
        runs,
        error: None,
    })
}

/// What is known of an experiment's end and its timing session.
#[derive(Default)]
struct Left {
    seconds_left: Option<f64>,
    timing: Option<RunLive>,
}

/// What runs are doing that aren't finished.
fn with_live_states(folder: &ExperimentFolder, runs: &mut [RunOverview]) -> Result<Left, ArtifactError> {
    let submissions = SubmissionFolder::of(folder)?;
    let queued = submissions.read().submitted_runs(&submissions);
    let now = SystemTime::now();
    let mut unfinished = Vec::new();
    for run in runs.iter_mut().filter(|run| run.status != "finished") {
        let live = live::of_run(&folder.run(&run.run_id)?, queued.contains(&run.run_id), now);
        unfinished.push(live.clone());
        if !matches!(live.state, LiveState::Queued | LiveState::Left) && !live.state.is_running() {
            continue;
        }
        run.status = live.state.name();
        run.steps = run.steps.max(live.step);
        run.planned_steps = run.planned_steps.or(live.steps);
        run.host = live.host.filter(|_| live.state.is_running());
        run.final_val_bpb = run.final_val_bpb.or(live.val_bpb);
        run.tokens_per_second = live.tokens_per_second.or(run.tokens_per_second);
        (run.loss, run.seconds_left, run.silent_seconds) = (live.loss, live.seconds_left, live.silent_seconds);
    }
    let is_open = |timing: &RunLive| timing.state.is_running() || timing.state == LiveState::Queued;
    let timing = live::of_timing(folder, queued.contains(TIMING), now)?.filter(is_open);
    let seconds_left = live::seconds_left(&unfinished).or(timing.as_ref().and_then(|timing| timing.seconds_left));
    Ok(Left { seconds_left, timing })
}

fn of_run(run: &RunDocuments) -> RunOverview {
    let summary = run.summary.as_ref();
    RunOverview {
        run_id: run.plan.run_id.clone(),
        seed: Some(run.plan.seed),
        status: match summary.map(|summary| summary.status) {
            Some(RunStatus::Finished) => "finished",
            Some(RunStatus::Interrupted) => "interrupted",
            Some(RunStatus::Failed) => "failed",
            None => "planned",
        },
        host: None,
        steps: summary.map_or(0, |summary| summary.steps),
        planned_steps: Some(run.plan.num_iterations),
        loss: summary.and_then(|summary| summary.train_loss).filter(|loss| loss.is_finite()),
        seconds_left: None,
        silent_seconds: None,
        final_val_bpb: summary.and_then(|summary| summary.final_val_bpb),
        tokens_per_second: summary.and_then(|summary| summary.tokens_per_second),
        elapsed_seconds: summary.map(|summary| summary.elapsed_seconds),
        finished_at: run.environment.as_ref().map(|environment| environment.finished_at.clone()),
    }
}

fn unreadable(folder: &ExperimentFolder, error: &ArtifactError) -> ExperimentOverview {
    ExperimentOverview {
        name: folder.name(),
        description: String::new(),
        planned: 0,
        finished: 0,
        verdicts: None,
        best_val_bpb: None,
        tokens_per_second: None,
        runs: Vec::new(),
        timing: None,
        seconds_left: None,
        error: Some(error.to_string()),
    }
}
