//! What a run of the experiment would do, and why: compares every plan with the results on disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use nanochat_artifacts::submissions::SubmissionFolder;
use nanochat_artifacts::{ArtifactError, BaselineResult, ExperimentFolder, ResultsRoot, RunFolder, read_document};
use nanochat_experiment::Experiment;
use nanochat_lab::live::{self, LiveState};
use nanochat_lab::scorecard;
use nanochat_plan::{Change, Outlook, OutlookState, Power, RunPlan, changes};

use super::recorded_inputs::{InputsHere, RecordedInputs};
use super::{RunState, duration, state_of};

/// Most differences that the sentence names.
const MAX_NAMED: usize = 4;

/// The outlook of every plan, in their order.
///
/// # Errors
/// A run id that can't be a folder.
pub fn outlook(
    plans: &[RunPlan],
    folder: &ExperimentFolder,
    inputs: &mut RecordedInputs,
) -> Result<Vec<Outlook>, ArtifactError> {
    let planned: BTreeSet<&str> = plans.iter().map(|plan| plan.plan_hash.as_str()).collect();
    let mut stored = stored_plans(folder);
    stored.retain(|plan| !planned.contains(plan.plan_hash.as_str()));
    let submissions = SubmissionFolder::of(folder)?;
    let queued = submissions.read().submitted_runs(&submissions);
    plans
        .iter()
        .map(|plan| match in_hand(&folder.run(&plan.run_id)?, plan, queued.contains(&plan.run_id)) {
            Some(outlook) => Ok(outlook),
            None => one(plan, folder, &stored, inputs),
        })
        .collect()
}

/// The smallest difference that the planned seeds can detect; none if the metric's noise was never measured.
///
/// # Errors
/// A document that can't be read.
pub fn power(experiment: &Experiment, runs: &[RunPlan], root: &ResultsRoot) -> Result<Option<Power>, ArtifactError> {
    let (name, metric) = (&experiment.name, experiment.quality.metric);
    let (noise, fewest) = match experiment.ruleset.as_str() {
        scorecard::V1 => (scorecard::power::noise(root, name, metric)?, scorecard::RUNS_FOR_INTERVAL),
        _ => {
            let noise = scorecard::power::noise_of_configuration(root, name, metric, runs)?;
            (noise, scorecard::SEEDS_FOR_INTERVAL)
        }
    };
    let Some(noise) = noise else { return Ok(None) };
    let results = experiment.baseline_results.as_ref().map(Path::new).filter(|path| path.exists());
    let baseline = results.map(read_document::<BaselineResult>).transpose()?;
    Ok(Some(scorecard::power::power(&experiment.quality, runs, &noise, baseline.as_ref(), fewest)))
}

fn one(
    plan: &RunPlan,
    folder: &ExperimentFolder,
    stored: &[RunPlan],
    inputs: &mut RecordedInputs,
) -> Result<Outlook, ArtifactError> {
    let run = folder.run(&plan.run_id)?;
    let mut outlook = Outlook {
        run_id: plan.run_id.clone(),
        state: OutlookState::New,
        reason: "nothing is recorded".to_owned(),
        step: None,
        changed: Vec::new(),
    };
    let (state, reason) = match state_of(plan, &run) {
        RunState::Done { summary, environment } => {
            let machine = environment.map(|environment| format!(" on machine {}", environment.machine_id));
            let recorded = format!("recorded{}", machine.unwrap_or_default());
            // Runs of other programs record no inputs of this one.
            match summary.arm.is_none().then(|| inputs.of_summary(plan, &summary)) {
                Some(InputsHere::Changed(what)) => (OutlookState::Changed, format!("{what}: made again")),
                Some(here) => {
                    let remark = here.remark().map(|remark| format!(", {remark}")).unwrap_or_default();
                    (OutlookState::Done, format!("{recorded}{remark}"))
                }
                None => (OutlookState::Done, recorded),
            }
        }
        RunState::Failed { reason } => (OutlookState::Failed, reason),
        RunState::Interrupted { step } => {
            outlook.step = Some(step);
            let reason = match inputs.of_checkpoint(plan, &run, step) {
                Some(InputsHere::Changed(what)) => {
                    format!(
                        "at step {step}, and `run` refuses to go on with other inputs ({what}); --force starts over"
                    )
                }
                _ => format!("continues at step {step}"),
            };
            (OutlookState::Interrupted, reason)
        }
        RunState::Changed { .. } => {
            let before = read_document(&run.plan()).ok();
            outlook.changed = before.map(|before: RunPlan| changes(&before, plan)).unwrap_or_default();
            (OutlookState::Changed, sentence(&outlook.changed))
        }
        RunState::New => match nearest(plan, stored) {
            None => return Ok(outlook),
            Some(changed) => {
                outlook.changed = changed;
                (OutlookState::Changed, sentence(&outlook.changed))
            }
        },
    };
    Ok(Outlook { state, reason, ..outlook })
}

/// A run that somebody works on, or that a cluster has queued; none of other runs.
fn in_hand(run: &RunFolder, plan: &RunPlan, is_queued: bool) -> Option<Outlook> {
    let live = live::of_run(run, is_queued, SystemTime::now());
    let step = Some(live.step).filter(|_| live.state.is_running());
    let reason = match live.state {
        LiveState::Queued => "queued".to_owned(),
        state if state.is_running() => {
            let host = live.host.as_deref().unwrap_or("another machine");
            let figures = [
                live.loss.map(|loss| format!("loss {loss:.4}")),
                live.val_bpb.map(|bpb| format!("{bpb:.4} bpb")),
                live.tokens_per_second.map(|rate| format!("{rate:.0} tokens a second")),
                live.seconds_left.map(|seconds| format!("{} left", duration(seconds))),
                live.silent_seconds.map(|seconds| format!("last sign {} ago", duration(seconds))),
            ];
            let figures: String = figures.into_iter().flatten().map(|figure| format!(", {figure}")).collect();
            format!("{} on {host}, step {}/{}{figures}", state.name(), live.step, plan.num_iterations)
        }
        _ => return None,
    };
    Some(Outlook { run_id: plan.run_id.clone(), state: OutlookState::Running, reason, step, changed: Vec::new() })
}

/// The plans in an experiment's folder; unreadable ones count as absent.
fn stored_plans(folder: &ExperimentFolder) -> Vec<RunPlan> {
    let folders = folder.run_folders().unwrap_or_default();
    folders.iter().filter_map(|run| read_document(&run.plan()).ok()).collect()
}

/// Differences from the stored plan of the same cell, seed and repeat; of several, from the one with the fewest.
fn nearest(plan: &RunPlan, stored: &[RunPlan]) -> Option<Vec<Change>> {
    let same_cell =
        |other: &&RunPlan| other.axes == plan.axes && other.seed == plan.seed && other.repeat == plan.repeat;
    stored.iter().filter(same_cell).map(|earlier| changes(earlier, plan)).min_by_key(Vec::len)
}

fn sentence(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "another plan was run here".to_owned();
    }
    let name = |change: &Change| format!("{} {} → {}", change.key, change.before, change.now);
    let named = changes.iter().take(MAX_NAMED).map(name).collect::<Vec<_>>().join(", ");
    match changes.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}
