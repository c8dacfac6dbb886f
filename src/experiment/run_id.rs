//! Run ids: readable, stable, and folder names on every system.

use serde_json::Value;

use nanochat_plan::{ARM_AXIS, RunPlan};

use crate::Cell;

/// Longest label in characters, depth and axes together.
const MAX_LABEL: usize = 100;

/// `d12-matrix_lr0.03-seed42-1a2b3c4d`, a repeat as `…-seed42-repeat1-1a2b3c4d`.
pub fn run_id(cell: &Cell, plan: &RunPlan, repeat: u64) -> String {
    let RunPlan { seed, plan_hash, .. } = plan;
    let mut label = format!("d{}", plan.model.n_layer);
    let named = cell.order.iter().filter(|key| !matches!(key.as_str(), "model.depth" | "model.n_layer"));
    let parts: Vec<String> =
        named.filter_map(|key| Some(format!("-{}", part(key, cell.axes.get(key)?, cell)))).collect();
    // Whole axes only: half a value would be another one. Ids are told apart by the plan's hash in any case.
    let fitting = parts.iter().scan(label.len(), |length, part| {
        *length += part.len();
        Some(*length)
    });
    let fitting = fitting.take_while(|length| *length <= MAX_LABEL).count();
    label.extend(parts[..fitting].iter().map(String::as_str));
    if fitting < parts.len() {
        label.push_str(&format!("-and-{}-more", parts.len() - fitting));
    }
    let repeat = if repeat == 0 { String::new() } else { format!("-repeat{repeat}") };
    format!("{label}-seed{seed}{repeat}-{}", plan_hash.get(..8).unwrap_or(plan_hash))
}

/// A key's last step and its value; as much of the key as tells it from the cell's other keys.
fn part(key: &str, value: &Value, cell: &Cell) -> String {
    if key == ARM_AXIS {
        return safe(value.as_str().unwrap_or_default());
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    let ambiguous = cell.order.iter().any(|other| other != key && other.rsplit('.').next() == Some(last));
    let name = if ambiguous { key } else { last };
    format!("{}{}", safe(name), safe(&brief(value)))
}

fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => format!("-{}", text.trim_end_matches('/').rsplit('/').next().unwrap_or(text)),
        Value::Object(object) => {
            object.iter().map(|(key, value)| format!("-{key}{}", brief(value))).collect::<Vec<_>>().concat()
        }
        other => other.to_string(),
    }
}

/// Only what every file system takes.
fn safe(text: &str) -> String {
    // The sign of 1e+18 would turn into that of 1e-18.
    let text = text.replace('+', "");
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    text.chars().map(keep).collect()
}
