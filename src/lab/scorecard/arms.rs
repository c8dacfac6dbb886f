//! The two arms of a quality comparison: which runs count, and for how many.
//!
//! A seed counts once. The unmodified baseline fixes its seed and has no flag for it, so recordings under several seeds
//! count apart only with evidence that the seed took effect: their first losses differ. Otherwise the arm is one run.

use std::collections::BTreeMap;

use nanochat_artifacts::{ArmFigure, BaselineRun, RunDocuments};

use super::Metric;
use super::statistics::{self, rounded};

/// One value a seed, in seed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Arm {
    /// Seed and value.
    pub values: Vec<(u64, f64)>,
    /// What has to be said about how runs were counted.
    pub note: Option<String>,
}

impl Arm {
    /// The values alone.
    pub fn figures(&self) -> Vec<f64> {
        self.values.iter().map(|(_, value)| *value).collect()
    }

    /// The mean for the document, over so many seeds.
    pub fn figure(&self) -> ArmFigure {
        ArmFigure { figure: statistics::mean(&self.figures()).map(rounded), runs: self.values.len() as u64 }
    }

    /// The arm with another remark.
    pub fn with_note(mut self, note: Option<String>) -> Self {
        self.note = match (self.note, note) {
            (Some(first), Some(second)) => Some(format!("{first}; {second}")),
            (first, second) => first.or(second),
        };
        self
    }

    /// Value pairs, ours first, when both arms have exactly the same seeds.
    pub fn paired_with(&self, other: &Arm) -> Option<Vec<(f64, f64)>> {
        let seeds = |arm: &Arm| arm.values.iter().map(|(seed, _)| *seed).collect::<Vec<_>>();
        (seeds(self) == seeds(other)).then(|| self.figures().into_iter().zip(other.figures()).collect())
    }
}

/// The candidate's arm: each seed's first finished run.
pub(super) fn candidate(runs: &[&RunDocuments], metric: Metric) -> Arm {
    let mut values = BTreeMap::new();
    let mut ordered: Vec<_> = runs.to_vec();
    ordered.sort_by_key(|run| (run.plan.seed, run.plan.repeat));
    for run in ordered {
        if let Some(value) = run.finished().and_then(|summary| summary.quality(metric)) {
            values.entry(run.plan.seed).or_insert(value);
        }
    }
    Arm { values: values.into_iter().collect(), note: None }
}

/// The baseline's arm: runs under one seed are averaged; seeds without evidence of having taken effect collapse into one.
pub(super) fn baseline(runs: &[&BaselineRun], metric: Metric) -> Arm {
    let mut by_seed: BTreeMap<u64, (Vec<f64>, &[f64])> = BTreeMap::new();
    for run in runs {
        if let Some(value) = run.quality(metric) {
            by_seed.entry(run.seed).or_insert_with(|| (Vec::new(), first_losses(run))).0.push(value);
        }
    }
    let average = |values: &[f64]| statistics::mean(values).unwrap_or(f64::NAN);
    if by_seed.len() > 1 && !seeds_took_effect(by_seed.values().map(|(_, losses)| *losses)) {
        let all: Vec<f64> = by_seed.values().flat_map(|(values, _)| values.iter().copied()).collect();
        let seed = by_seed.keys().next().copied().unwrap_or_default();
        let note = format!(
            "the baseline's {} runs count as one: their first losses don't show that the seed took effect",
            all.len()
        );
        return Arm { values: vec![(seed, average(&all))], note: Some(note) };
    }
    Arm { values: by_seed.into_iter().map(|(seed, (values, _))| (seed, average(&values))).collect(), note: None }
}

fn first_losses(run: &BaselineRun) -> &[f64] {
    run.losses.get(..10).unwrap_or(&run.losses)
}

/// Whether every pair of seeds differs in its first losses.
fn seeds_took_effect<'a>(traces: impl Iterator<Item = &'a [f64]>) -> bool {
    let traces: Vec<_> = traces.collect();
    let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(x, y)| x != y);
    traces.iter().enumerate().all(|(i, a)| traces.iter().skip(i + 1).all(|b| differ(a, b)))
}
