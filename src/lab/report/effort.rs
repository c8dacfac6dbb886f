//! When an experiment ran, by which command, and what it took in all.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::Sources;
use nanochat_artifacts::{Environment, Summary};

/// When an experiment ran, and what it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Effort {
    /// When its first run began, to the minute, UTC; of a run that was interrupted, as if it had gone on without the pause.
    pub began: Option<String>,
    /// When its last run ended.
    pub ended: Option<String>,
    /// The spec's path from the project's root, where it lies at the usual place.
    pub spec: Option<String>,
    /// Full commits of this program that made the runs.
    pub commits: Vec<String>,
    /// Whether those are commits of the project's own repository, so that a link within it finds them.
    pub is_own_repository: bool,
    /// Number of runs that were carried out, unfinished ones included.
    pub runs: u64,
    /// Seconds of all runs together.
    pub seconds: f64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Training FLOPs.
    pub flops: f64,
    /// Hours of processor threads.
    pub cpu_hours: f64,
    /// Hours of GPUs; none where none was used.
    pub gpu_hours: Option<f64>,
}

/// Adds up what all runs took.
pub(super) fn effort(sources: &Sources) -> Effort {
    let mut effort =
        Effort { spec: sources.spec.clone(), is_own_repository: sources.is_own_repository, ..Effort::default() };
    let (mut began, mut ended) = (None::<Timestamp>, None::<Timestamp>);
    let mut gpu_hours = 0.0;
    for run in &sources.documents.runs {
        let Some(summary) = &run.summary else { continue };
        effort.runs += 1;
        effort.seconds += summary.elapsed_seconds;
        effort.tokens += summary.tokens;
        effort.flops += summary.tokens as f64 * run.plan.flops_per_token as f64;
        let Some(environment) = &run.environment else { continue };
        let hours = summary.elapsed_seconds / 3600.0;
        effort.cpu_hours += hours * environment.threads as f64;
        gpu_hours += hours * environment.gpus.len() as f64;
        if let Some((first, last)) = times(environment, summary) {
            began = Some(began.map_or(first, |time| time.min(first)));
            ended = Some(ended.map_or(last, |time| time.max(last)));
        }
        let commit = environment.code_commit.clone().filter(|commit| is_hash(commit));
        if let Some(commit) = commit.filter(|commit| !effort.commits.contains(commit)) {
            effort.commits.push(commit);
        }
    }
    effort.gpu_hours = (gpu_hours > 0.0).then_some(gpu_hours);
    effort.began = began.map(minute);
    effort.ended = ended.map(minute);
    effort
}

/// Begin and end of a run.
fn times(environment: &Environment, summary: &Summary) -> Option<(Timestamp, Timestamp)> {
    let ended: Timestamp = environment.finished_at.parse().ok()?;
    let lasted = SignedDuration::try_from_secs_f64(summary.elapsed_seconds).ok()?;
    Some((ended.checked_sub(lasted).ok()?, ended))
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// Whether it is a full commit, which a link may name.
fn is_hash(commit: &str) -> bool {
    commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}
