//! The arms of a spec: who carries each out, with what, what shows that its seeds took effect, and what its commit changes.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::Sources;
use nanochat_artifacts::{ArmRecord, ChangedFile, RunDocuments};
use nanochat_plan::ArmEngine;

/// One arm.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NamedArm {
    /// Its name.
    pub name: String,
    /// Whether the others are compared with it.
    pub is_control: bool,
    /// Who carries it out, in words.
    pub engine: &'static str,
    /// Full commit of the checkout.
    pub commit: Option<String>,
    /// Flags that the arm adds.
    pub flags: Vec<String>,
    /// Versions of what its runs rest on; one entry where all agree.
    pub versions: Vec<String>,
    /// How attention is computed, as the script says.
    pub attention: Vec<String>,
    /// Number of seeds with a finished run.
    pub seeds: usize,
    /// Number of different initial weights among them.
    pub initial_weights: usize,
    /// Whether each seed's initial weights are the control's; none where they aren't known.
    pub starts_as_control: Option<bool>,
    /// How the checkout's loader, tokenizer and evaluation compare with this program's.
    pub matching: Vec<String>,
    /// Every device's memory and utilisation, where there are several.
    pub devices: Vec<String>,
    /// Runs that failed: their reasons and the last lines of their output.
    pub failures: Vec<ArmFailure>,
    /// What its commit changes; none for the control, the same commit, and this program.
    pub diff: Option<DiffView>,
    /// Why there is no diff though the commits differ.
    pub no_diff_because: Option<String>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmFailure {
    /// The run.
    pub run: String,
    /// Why.
    pub reason: String,
    /// The last lines of its output.
    pub lines: Vec<String>,
}

/// What a commit changes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DiffView {
    /// The files.
    pub files: Vec<ChangedFile>,
    /// The diff, line by line.
    pub lines: Vec<String>,
    /// The end was left out.
    pub is_cut: bool,
}

/// The arms of an experiment; empty where its spec names none.
pub(super) fn named_arms(sources: &Sources) -> Vec<NamedArm> {
    let Some(record) = &sources.documents.arms else { return Vec::new() };
    let runs_of = |name: &str| -> Vec<&RunDocuments> {
        let of_arm = |run: &&RunDocuments| run.plan.arm.as_ref().is_some_and(|arm| arm.name == name);
        sources.documents.runs.iter().filter(of_arm).collect()
    };
    let control = runs_of(&record.control);
    record.arms.iter().map(|arm| view(arm, arm.name == record.control, &runs_of(&arm.name), &control)).collect()
}

fn view(arm: &ArmRecord, is_control: bool, runs: &[&RunDocuments], control: &[&RunDocuments]) -> NamedArm {
    let finished: Vec<_> = runs.iter().filter_map(|run| Some((*run, run.finished()?))).collect();
    let evidence = || finished.iter().filter_map(|(_, summary)| summary.arm.as_ref());
    let distinct = |found: Vec<String>| found.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let seeds: BTreeSet<u64> = finished.iter().map(|(run, _)| run.plan.seed).collect();
    let weights: BTreeSet<&String> =
        finished.iter().filter_map(|(_, summary)| summary.initial_weights_sha256.as_ref()).collect();
    let matching = evidence().flat_map(|arm| match arm.batches_agree {
        true => vec!["first batches, tokenizer and vocabulary equal".to_string()],
        false => arm.differences.clone(),
    });
    let devices = evidence().flat_map(|arm| &arm.devices).map(|device| {
        let gib = device.peak_memory_bytes as f64 / f64::from(1 << 30);
        format!("{}: {gib:.1} GiB, {:.0}%", device.device, device.mean_utilisation)
    });
    NamedArm {
        name: arm.name.clone(),
        is_control,
        engine: match arm.engine {
            ArmEngine::Native => "this program",
            ArmEngine::Karpathy => "karpathy/nanochat",
        },
        commit: arm.commit.clone(),
        flags: arm.flags.iter().map(|(name, value)| format!("--{name}={value}")).collect(),
        versions: distinct(runs.iter().filter_map(|run| versions(run)).collect()),
        attention: distinct(evidence().filter_map(|arm| arm.attention.clone()).collect()),
        seeds: seeds.len(),
        initial_weights: weights.len(),
        starts_as_control: if is_control { None } else { starts_as(runs, control) },
        matching: distinct(matching.collect()),
        devices: devices.collect(),
        failures: runs.iter().filter_map(|run| failure(run)).collect(),
        diff: arm.diff.as_ref().map(|diff| DiffView {
            files: diff.files.clone(),
            lines: diff.text.lines().map(str::to_string).collect(),
            is_cut: diff.is_cut,
        }),
        no_diff_because: arm.no_diff_because.clone(),
    }
}

/// `cuda 12.8, python 3.11.7, torch 2.9.1`.
fn versions(run: &RunDocuments) -> Option<String> {
    let libraries = &run.environment.as_ref()?.libraries;
    let wanted = ["torch", "cuda", "python", "candle-core"];
    let found = wanted.iter().filter_map(|name| Some(format!("{name} {}", libraries.get(*name)?)));
    Some(found.collect::<Vec<_>>().join(", "))
}

/// Whether every seed that both arms finished has the same initial weights.
fn starts_as(runs: &[&RunDocuments], control: &[&RunDocuments]) -> Option<bool> {
    let weights = |run: &RunDocuments| run.finished().and_then(|summary| summary.initial_weights_sha256.clone());
    let same_place = |a: &RunDocuments, b: &RunDocuments| {
        let others = |run: &RunDocuments| {
            run.plan
                .axes
                .iter()
                .filter(|(key, _)| *key != nanochat_plan::ARM_AXIS)
                .map(|(key, value)| (key.clone(), value.to_string()))
                .collect::<Vec<_>>()
        };
        a.plan.seed == b.plan.seed && others(a) == others(b)
    };
    let pairs = runs.iter().filter_map(|run| {
        let other = control.iter().find(|other| same_place(run, other))?;
        Some(weights(run)? == weights(other)?)
    });
    pairs.reduce(|all, one| all && one)
}

fn failure(run: &RunDocuments) -> Option<ArmFailure> {
    let summary = run.summary.as_ref()?;
    run.unfinished_because()?;
    Some(ArmFailure {
        run: run.plan.run_id.clone(),
        reason: summary.reason.clone().unwrap_or_default(),
        lines: summary.arm.as_ref().map(|arm| arm.last_lines.clone()).unwrap_or_default(),
    })
}
