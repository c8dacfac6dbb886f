//! What a run of the experiment would do, and why: every plan held against what is on disk.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{RunState, state_of};
use nanochat_artifacts::{ArtifactError, ExperimentFolder, read_document};
use nanochat_plan::{Change, Outlook, OutlookState, RunPlan, deciding};

/// Most differences that the sentence names.
const MAX_NAMED: usize = 4;
/// Values that follow from others: named last.
const FOLLOWING: [&str; 5] = ["lr_scale", "num_iterations", "total_batch_size", "version", "weight_decay"];

/// The outlook of every plan, in their order.
///
/// # Errors
/// A run id that can't be a folder.
pub fn outlook(plans: &[RunPlan], folder: &ExperimentFolder) -> Result<Vec<Outlook>, ArtifactError> {
    let planned: BTreeSet<&str> = plans.iter().map(|plan| plan.plan_hash.as_str()).collect();
    let mut stored = stored_plans(folder);
    stored.retain(|plan| !planned.contains(plan.plan_hash.as_str()));
    plans.iter().map(|plan| one(plan, folder, &stored)).collect()
}

fn one(plan: &RunPlan, folder: &ExperimentFolder, stored: &[RunPlan]) -> Result<Outlook, ArtifactError> {
    let run = folder.run(&plan.run_id)?;
    let mut outlook = Outlook {
        run_id: plan.run_id.clone(),
        state: OutlookState::New,
        reason: "nothing is recorded".to_owned(),
        step: None,
        changed: Vec::new(),
    };
    let (state, reason) = match state_of(plan, &run) {
        RunState::Done { environment, .. } => {
            let machine = environment.map(|environment| format!(" on machine {}", environment.machine_id));
            (OutlookState::Done, format!("recorded{}", machine.unwrap_or_default()))
        }
        RunState::Failed { reason } => (OutlookState::Failed, reason),
        RunState::Interrupted { step } => {
            outlook.step = Some(step);
            (OutlookState::Interrupted, format!("continues at step {step}"))
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

/// The plans that lie in an experiment's folder; unreadable ones count as absent.
fn stored_plans(folder: &ExperimentFolder) -> Vec<RunPlan> {
    let folders = folder.run_folders().unwrap_or_default();
    folders.iter().filter_map(|run| read_document(&run.plan()).ok()).collect()
}

/// What differs from the stored plan at the same place of the matrix; the one with the fewest differences, where several
/// were run there.
fn nearest(plan: &RunPlan, stored: &[RunPlan]) -> Option<Vec<Change>> {
    let same_place =
        |other: &&RunPlan| other.axes == plan.axes && other.seed == plan.seed && other.repeat == plan.repeat;
    stored.iter().filter(same_place).map(|earlier| changes(earlier, plan)).min_by_key(Vec::len)
}

fn changes(before: &RunPlan, now: &RunPlan) -> Vec<Change> {
    let (before, now) = (leaves(before), leaves(now));
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |values: &BTreeMap<String, Value>, key: &str| values.get(key).cloned().unwrap_or_default();
    let mut changes: Vec<Change> = keys
        .into_iter()
        .map(|key| Change { key: key.clone(), before: value(&before, key), now: value(&now, key) })
        .filter(|change| change.before != change.now)
        .collect();
    changes.sort_by_key(|change| FOLLOWING.contains(&change.key.as_str()));
    changes
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

/// Every deciding value by dotted key.
fn leaves(plan: &RunPlan) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    collect(String::new(), &deciding(plan), &mut leaves);
    leaves
}

fn collect(key: String, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) => {
            let dot = if key.is_empty() { "" } else { "." };
            object.iter().for_each(|(inner, value)| collect(format!("{key}{dot}{inner}"), value, leaves));
        }
        value => {
            leaves.insert(key, value.clone());
        }
    }
}
