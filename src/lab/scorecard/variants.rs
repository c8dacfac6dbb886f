//! The baseline's variants: the ways to run it that its own switches allow, such as another precision. A comparison is
//! against the fastest of them.

use super::statistics;
use nanochat_artifacts::{BaselineRun, RunStatus};
use nanochat_plan::Precision;

/// Recorded runs under the same switches.
#[derive(Debug, Clone)]
pub(super) struct Variant<'b> {
    /// Such as `bf16-threads2`; the precision alone where the recording says no more.
    pub name: String,
    /// Arithmetic.
    pub dtype: Precision,
    /// Its runs, in recorded order.
    pub runs: Vec<&'b BaselineRun>,
}

/// Runs by variant, in order of appearance.
pub(super) fn grouped<'b>(runs: &[&'b BaselineRun]) -> Vec<Variant<'b>> {
    let mut variants: Vec<Variant<'b>> = Vec::new();
    for &run in runs {
        let name = name(run);
        match variants.iter_mut().find(|variant| variant.name == name && variant.dtype == run.dtype) {
            Some(variant) => variant.runs.push(run),
            None => variants.push(Variant { name: name.to_string(), dtype: run.dtype, runs: vec![run] }),
        }
    }
    variants
}

/// What a run's variant is called.
pub(super) fn name(run: &BaselineRun) -> &str {
    let named = run.provenance.as_ref().and_then(|provenance| provenance.variant.as_deref());
    named.unwrap_or_else(|| run.dtype.word())
}

/// Names of the variants of which no run is finished.
pub(super) fn without_result(all: &[BaselineRun]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for run in all {
        let finished = |other: &BaselineRun| other.status == RunStatus::Finished && name(other) == name(run);
        if !names.contains(&name(run)) && !all.iter().any(finished) {
            names.push(name(run));
        }
    }
    names
}

/// Geometric mean of the throughputs of runs; none where there is none.
pub(super) fn mean_throughput(runs: &[&BaselineRun]) -> Option<f64> {
    let logs: Vec<f64> = runs.iter().filter_map(|run| run.tokens_per_second).map(f64::ln).collect();
    statistics::mean(&logs).map(f64::exp)
}
