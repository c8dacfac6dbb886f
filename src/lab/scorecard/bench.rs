//! Two benchmarks of the same thing side by side: which figures became better, and by how much.
//!
//! Training is judged as an experiment's speed is, on the interval of a bootstrap over the steps inside both processes,
//! which doesn't see the noise between processes. Every other figure is a single value per side, shown without a verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::statistics::{self, rounded};
use super::{CONFIDENCE, speed};
use nanochat_artifacts::{Bench, BenchFigure, Better, Environment, Measured, Verdict};

/// Two benchmarks, compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchComparison {
    /// `nanochat.bench_comparison/v1`.
    pub schema: String,
    /// What was measured: `train`, `infer`, `kernels`, `tokenizer` or `data`.
    pub kind: String,
    /// What the earlier side is called.
    pub before: String,
    /// What the later side is called.
    pub after: String,
    /// Whether training is as fast as before at least, within the minimum effect.
    pub verdict: Verdict,
    /// The sentence that explains the verdict.
    pub reason: String,
    /// 95% interval of the ratio of tokens per second, after over before.
    pub interval: Option<(f64, f64)>,
    /// What else differs between the two sides.
    pub differences: Vec<String>,
    /// One entry a figure.
    pub figures: Vec<ComparedFigure>,
}

/// One figure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedFigure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The earlier figure.
    pub before: Option<f64>,
    /// The later figure.
    pub after: Option<f64>,
    /// How many times better the later figure is; below 1: worse.
    pub gain: Option<f64>,
}

/// Compares two documents; none when they measured different things.
pub fn compare_benches(before: (&str, &Bench), after: (&str, &Bench)) -> Option<BenchComparison> {
    let ((before_name, before), (after_name, after)) = (before, after);
    if before.measured != after.measured {
        return None;
    }
    let (verdict, reason, interval) = judge(before, after);
    Some(BenchComparison {
        schema: "nanochat.bench_comparison/v1".to_string(),
        kind: before.measured.to_string(),
        before: before_name.to_string(),
        after: after_name.to_string(),
        verdict,
        reason,
        interval,
        differences: differences(before, after),
        figures: compared(before.all_figures(), after.all_figures()),
    })
}

/// The later side's figures with the earlier ones of the same name, then those that only the earlier side has.
fn compared(mut before: Vec<BenchFigure>, after: Vec<BenchFigure>) -> Vec<ComparedFigure> {
    let mut figures = Vec::new();
    for later in after {
        let earlier = before.iter().position(|earlier| earlier.name == later.name).map(|place| before.remove(place));
        let gain = earlier.as_ref().and_then(|earlier| match later.better {
            Better::Higher => Some(later.value / earlier.value),
            Better::Lower => Some(earlier.value / later.value),
            Better::Neither => None,
        });
        figures.push(ComparedFigure {
            name: later.name,
            unit: later.unit,
            before: earlier.map(|earlier| earlier.value),
            after: Some(later.value),
            gain: gain.filter(|gain| gain.is_finite()).map(rounded),
        });
    }
    let gone = |BenchFigure { name, unit, value, .. }| ComparedFigure {
        name,
        unit,
        before: Some(value),
        after: None,
        gain: None,
    };
    figures.extend(before.into_iter().map(gone));
    figures
}

fn judge(old: &Bench, new: &Bench) -> (Verdict, String, Option<(f64, f64)>) {
    if old.measured != Measured::Train {
        return (Verdict::Missing, "single figures carry no verdict".to_string(), None);
    }
    if old.environment.machine_id != new.environment.machine_id {
        let reason = "the two sides ran on different machines: a throughput recorded elsewhere is context";
        return (Verdict::NotComparable, reason.to_string(), None);
    }
    if old.model != new.model {
        return (Verdict::NotComparable, "the two sides trained different shapes".to_string(), None);
    }
    let per_token = |bench: &Bench| {
        let steady = bench.step_seconds.get(bench.warmup as usize..).unwrap_or_default();
        vec![steady.iter().map(|seconds| seconds / bench.total_batch_size as f64).collect::<Vec<_>>()]
    };
    let estimate =
        statistics::bootstrap_speed_ratio(&per_token(new), &per_token(old), speed::DRAWS, CONFIDENCE, speed::SEED);
    let Some(estimate) = estimate.filter(|estimate| estimate.value.is_finite()) else {
        return (Verdict::Missing, "a side has no steady steps".to_string(), None);
    };
    let bound = 1.0 - speed::MINIMUM_EFFECT;
    let (verdict, relation) = match () {
        () if estimate.low >= bound => (Verdict::Pass, "at or above"),
        () if estimate.high < bound => (Verdict::Fail, "below"),
        () => (Verdict::Inconclusive, "across"),
    };
    let reason = format!(
        "the ratio {:.4} (bootstrap over the steps inside the processes, blind to noise between them) has the 95% interval \
         [{:.4}, {:.4}], {relation} {bound:.4} (as fast as before, less the minimum effect of {}%)",
        estimate.value,
        estimate.low,
        estimate.high,
        speed::MINIMUM_EFFECT * 100.0
    );
    (verdict, reason, Some((rounded(estimate.low), rounded(estimate.high))))
}

fn differences(before: &Bench, after: &Bench) -> Vec<String> {
    let digits = |hash: &str| hash.get(..12).unwrap_or(hash).to_string();
    let optional = |hash: &Option<String>| hash.as_deref().map_or("unknown".to_string(), digits);
    let code = |environment: &Environment| {
        let commit = optional(&environment.code_commit);
        if environment.code_clean == Some(false) { format!("{commit} with changes") } else { commit }
    };
    let circumstances = |bench: &Bench| {
        [
            ("code", code(&bench.environment)),
            ("machine", digits(&bench.environment.machine_id)),
            ("threads", bench.environment.threads.to_string()),
            ("plan", digits(&bench.plan_hash)),
            ("arithmetic", format!("{:?}", bench.dtype).to_lowercase()),
            ("steps", bench.step_seconds.len().to_string()),
            ("first batch", optional(&bench.first_batch_sha256)),
            ("loss trace", optional(&bench.loss_trace_sha256)),
        ]
    };
    let both = circumstances(before).into_iter().zip(circumstances(after));
    let changed = both.filter(|((_, old), (_, new))| old != new);
    changed.map(|((what, old), (_, new))| format!("{what}: {old} → {new}")).collect()
}
