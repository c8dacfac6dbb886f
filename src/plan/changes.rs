//! What differs between two plans, of what decides a result.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Change, RunPlan, deciding};

/// Values that follow from others: named last.
const FOLLOWING: [&str; 5] = ["lr_scale", "num_iterations", "total_batch_size", "version", "weight_decay"];

/// The values that decide the result and differ, by dotted key; causes first, what follows from them last.
pub fn changes(before: &RunPlan, now: &RunPlan) -> Vec<Change> {
    let (before, now) = (leaves(before), leaves(now));
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |values: &BTreeMap<String, Value>, key: &str| values.get(key).cloned().unwrap_or_default();
    let mut changes: Vec<Change> = keys
        .into_iter()
        .map(|key| Change { key: key.clone(), before: value(&before, key), now: value(&now, key) })
        .filter(|change| change.before != change.now)
        .collect();
    changes.sort_by_key(|change| follows(&change.key));
    changes
}

/// Whether a value follows from others, so that it is no cause of a change by itself.
pub fn follows(key: &str) -> bool {
    FOLLOWING.contains(&key)
}

/// Every value that enters the plan hash, by dotted key.
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
