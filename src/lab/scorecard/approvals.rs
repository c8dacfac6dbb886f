//! What a change must not decide by itself: the rules that it is judged by, the inputs, and what there is to judge.
//!
//! The earlier side's rules judge a comparison. Whatever the later side says otherwise is named first, and keeps the gate from
//! being green until a person has approved it: then the later side's rules hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cells::label;
use super::compare::flatten;
use nanochat_artifacts::{ArtifactError, ExperimentRecord, RunDocuments, Snapshot, Summary, Tree, bytes_sha256};

/// By what a comparison is judged.
#[derive(Debug, Clone, Default)]
pub struct Judging {
    /// The rules of experiments as the earlier side's specs state them; those of its records where there is no spec.
    pub rules: BTreeMap<String, ExperimentRecord>,
    /// Experiments whose spec is on the earlier side alone.
    pub removed_specs: Vec<String>,
    /// A person has approved the changes of rules and inputs: the later side's rules hold.
    pub approved: bool,
}

/// A change that a person must approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The experiment; none for what several share.
    pub experiment: Option<String>,
    /// What changed: the dotted key of a rule, or an input in words.
    pub what: String,
    /// What the earlier side says.
    pub before: String,
    /// What the later side says.
    pub after: String,
}

impl std::fmt::Display for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.experiment.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        write!(f, "{place}{} {} → {}", self.what, self.before, self.after)
    }
}

/// What nothing is called on a side that lacks something.
const NOTHING: &str = "nothing";

/// Both sides of a comparison.
pub(super) struct Both<'a> {
    pub before: (&'a Tree, &'a BTreeMap<String, Snapshot>),
    pub after: (&'a Tree, &'a BTreeMap<String, Snapshot>),
    pub judging: &'a Judging,
}

impl Both<'_> {
    /// Everything that a person must approve, experiment by experiment.
    pub fn approvals(&self) -> Result<Vec<Approval>, ArtifactError> {
        let mut found = self.shared_files()?;
        for (name, earlier) in self.before.1 {
            let one = |what: &str, before: &str, after: &str| Approval {
                experiment: Some(name.clone()),
                what: what.to_string(),
                before: before.to_string(),
                after: after.to_string(),
            };
            let Some(later) = self.after.1.get(name) else {
                found.push(one("the results", "recorded", "removed"));
                continue;
            };
            if self.judging.removed_specs.contains(name) {
                found.push(one("the spec", "there", "removed"));
            }
            let rules = self.judging.rules.get(name).unwrap_or(&earlier.record);
            found.extend(rule_changes(rules, &later.record).into_iter().map(|(key, a, b)| one(&key, &a, &b)));
            found.extend(run_changes(earlier, later).into_iter().map(|(what, a, b)| one(&what, &a, &b)));
        }
        Ok(found)
    }

    /// Recordings and noise that verdicts rest on, which several experiments may share.
    fn shared_files(&self) -> Result<Vec<Approval>, ArtifactError> {
        let mut paths: BTreeSet<String> = BTreeSet::from(["experiments/noise.json".to_string()]);
        for (name, snapshot) in self.before.1 {
            paths.extend(snapshot.record.baseline_results.clone());
            paths.insert(format!("results/{name}/noise.json"));
        }
        let goes_down = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let mut found = Vec::new();
        for path in paths.into_iter().filter(|path| goes_down(path)) {
            let digest = |tree: &Tree| {
                let read = tree.file(&path)?;
                let short = |bytes: Vec<u8>| bytes_sha256(&bytes).get(..12).unwrap_or_default().to_string();
                Ok::<_, ArtifactError>(read.map(short))
            };
            // What the earlier side lacks can have decided nothing there.
            let Some(before) = digest(self.before.0)? else { continue };
            let after = digest(self.after.0)?.unwrap_or_else(|| NOTHING.to_string());
            if before != after {
                found.push(Approval { experiment: None, what: format!("the file {path}"), before, after });
            }
        }
        Ok(found)
    }
}

/// Rules that differ, by dotted key.
fn rule_changes(before: &ExperimentRecord, after: &ExperimentRecord) -> Vec<(String, String, String)> {
    let rules = |record: &ExperimentRecord| {
        let mut flat = BTreeMap::new();
        let rules = json!({
            "ruleset": record.ruleset, "quality": record.quality, "speed": record.speed, "drift": record.drift,
            "reproducibility": record.reproducibility, "control": record.control,
            "baseline.commit": record.baseline_commit, "baseline.results": record.baseline_results,
        });
        flatten("", &rules, &mut flat);
        flat.retain(|_, value| value != "null");
        flat
    };
    differing(&rules(before), &rules(after))
}

fn differing(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let word = |side: &BTreeMap<String, String>, key: &String| {
        side.get(key).map_or_else(|| NOTHING.to_string(), |value| value.trim_matches('"').to_string())
    };
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed.map(|key| (key.clone(), word(before, key), word(after, key))).collect()
}

/// Cells and seeds that are no longer there, and inputs that are others.
fn run_changes(before: &Snapshot, after: &Snapshot) -> Vec<(String, String, String)> {
    let seeds = |snapshot: &Snapshot| {
        let mut cells: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for run in &snapshot.runs {
            cells.entry(label(run)).or_default().insert(run.plan.seed);
        }
        cells
    };
    let words = |seeds: &BTreeSet<u64>| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let (old, new) = (seeds(before), seeds(after));
    let mut found = Vec::new();
    for (cell, seeds) in &old {
        match new.get(cell) {
            None => found.push((format!("the cell {cell}"), "recorded".to_string(), "removed".to_string())),
            Some(others) if others != seeds => found.push((format!("seeds of {cell}"), words(seeds), words(others))),
            Some(_) => {}
        }
    }
    found.extend(input_changes(before, after));
    found
}

/// Digests of inputs that are others in a run of the same cell, seed and repeat; each once.
fn input_changes(before: &Snapshot, after: &Snapshot) -> Vec<(String, String, String)> {
    let inputs = |summary: &Summary| {
        [
            ("data", Some(&summary.data_sha256)),
            ("tokenizer", Some(&summary.tokenizer_sha256)),
            ("evaluation tasks", summary.bundle_sha256.as_ref()),
        ]
        .map(|(what, digest)| (what, digest.cloned().unwrap_or_default()))
    };
    let short = |digest: &str| match digest.get(..12) {
        Some(start) => start.to_string(),
        None => NOTHING.to_string(),
    };
    let mut found: Vec<(String, String, String)> = Vec::new();
    for run in &after.runs {
        let is_same = |other: &&RunDocuments| {
            label(other) == label(run) && (other.plan.seed, other.plan.repeat) == (run.plan.seed, run.plan.repeat)
        };
        let other = before.runs.iter().find(is_same).and_then(RunDocuments::finished);
        let (Some(old), Some(new)) = (other, run.finished()) else { continue };
        for ((what, a), (_, b)) in inputs(old).into_iter().zip(inputs(new)) {
            let change = (format!("the {what} (SHA-256)"), short(&a), short(&b));
            if a != b && !found.contains(&change) {
                found.push(change);
            }
        }
    }
    found
}
