//! Two benchmarks of one kind side by side: what became faster or smaller, and by how much.
//!
//! Training is judged as an experiment's speed is, on the interval of a bootstrap over the steps inside both processes,
//! which doesn't see the noise between processes. Everything else is a single figure a side, shown without a verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::statistics::{self, rounded};
use super::{CONFIDENCE, speed};
use nanochat_artifacts::{BenchDocument, BenchTrain, Environment, Verdict};

/// Two benchmarks, compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchComparison {
    /// `nanochat.bench_comparison/v1`.
    pub schema: String,
    /// What was measured: `train`, `kernels`, `tokenizer` or `data`.
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

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
    Neither,
}

/// A figure of one side.
struct Figure {
    name: String,
    unit: &'static str,
    better: Better,
    value: Option<f64>,
}

/// Compares two documents; none when they are of different kinds.
pub fn compare_benches(before: (&str, &BenchDocument), after: (&str, &BenchDocument)) -> Option<BenchComparison> {
    let ((before_name, before), (after_name, after)) = (before, after);
    if before.kind() != after.kind() {
        return None;
    }
    let (mut old, mut new) = (figures(before), figures(after));
    let mut compared: Vec<ComparedFigure> = Vec::new();
    for later in new.drain(..) {
        let place = old.iter().position(|earlier| earlier.name == later.name);
        let earlier = place.map(|place| old.remove(place).value);
        compared.push(together(earlier.flatten(), later));
    }
    compared.extend(old.into_iter().map(|gone| {
        let before = gone.value;
        ComparedFigure { after: None, gain: None, ..together(before, gone) }
    }));
    let (verdict, reason, interval) = judge(before, after);
    Some(BenchComparison {
        schema: "nanochat.bench_comparison/v1".to_string(),
        kind: before.kind().to_string(),
        before: before_name.to_string(),
        after: after_name.to_string(),
        verdict,
        reason,
        interval,
        differences: differences(before, after),
        figures: compared,
    })
}

fn together(before: Option<f64>, later: Figure) -> ComparedFigure {
    let gain = before.zip(later.value).and_then(|(before, after)| match later.better {
        Better::Higher => Some(after / before),
        Better::Lower => Some(before / after),
        Better::Neither => None,
    });
    ComparedFigure {
        name: later.name,
        unit: later.unit.to_string(),
        before,
        after: later.value,
        gain: gain.filter(|gain| gain.is_finite()).map(rounded),
    }
}

fn figures(document: &BenchDocument) -> Vec<Figure> {
    use Better::{Higher, Lower, Neither};
    let one = |name: &str, unit: &'static str, better: Better, value: f64| Figure {
        name: name.to_string(),
        unit,
        better,
        value: Some(value),
    };
    match document {
        BenchDocument::Train(bench) => {
            let phases = &bench.phases;
            let mut figures = vec![
                one("tokens a second", "tok/s", Higher, bench.tokens_per_second),
                one("a step: data", "s", Lower, phases.data),
                one("a step: forward", "s", Lower, phases.forward),
                one("a step: head and loss", "s", Lower, phases.head),
                one("a step: backward", "s", Lower, phases.backward),
                one("a step: optimizer", "s", Lower, phases.optimizer),
                one("first step after", "s", Lower, bench.first_step_after_seconds),
                one("peak memory", "MiB", Lower, bench.peak_memory_bytes() as f64 / f64::from(1 << 20)),
                one("achieved", "GFLOP/s", Higher, bench.achieved_gflops),
                one("matrix products reach", "GFLOP/s", Neither, bench.gemm_gflops),
                one("share of that (MFU)", "", Higher, bench.mfu),
                one("loss of the last step", "nats", Neither, bench.train_loss),
            ];
            if let Some(evaluation) = &bench.evaluation {
                figures.push(one("an evaluation", "s", Lower, evaluation.seconds));
            }
            figures
        }
        BenchDocument::Kernels(bench) => {
            let kernel = |kernel: &nanochat_artifacts::BenchKernel| {
                one(&format!("{} ({})", kernel.name, kernel.shape), "s", Lower, kernel.seconds)
            };
            bench.kernels.iter().map(kernel).collect()
        }
        BenchDocument::Tokenizer(bench) => vec![
            one("training", "MB/s", Higher, bench.train_megabytes_per_second),
            one("encoding on one thread", "MB/s", Higher, bench.encode_megabytes_per_second),
        ],
        BenchDocument::Data(bench) => vec![
            one("tokens packed a second", "tok/s", Higher, bench.tokens_per_second),
            one("opening the data", "s", Lower, bench.open_seconds),
            one("tokenizer", "s", Lower, bench.tokenizer_seconds),
            one("first batch", "s", Lower, bench.first_batch_seconds),
        ],
        BenchDocument::Infer(bench) => {
            let mut figures = vec![
                one("first token", "s", Lower, bench.first_token_seconds),
                one("prefill", "tok/s", Higher, bench.prefill_tokens_per_second),
                one("peak memory", "MiB", Lower, bench.peak_rss_bytes as f64 / f64::from(1 << 20)),
            ];
            for batch in &bench.batches {
                let name = format!("decoding, {} beside each other", batch.rows);
                figures.push(one(&name, "tok/s", Higher, batch.tokens_per_second));
            }
            figures
        }
    }
}

fn judge(before: &BenchDocument, after: &BenchDocument) -> (Verdict, String, Option<(f64, f64)>) {
    let (BenchDocument::Train(old), BenchDocument::Train(new)) = (before, after) else {
        return (Verdict::Missing, "single figures carry no verdict".to_string(), None);
    };
    if old.environment.machine_id != new.environment.machine_id {
        let reason = "the two sides ran on different machines: a throughput recorded elsewhere is context";
        return (Verdict::NotComparable, reason.to_string(), None);
    }
    if old.model != new.model {
        return (Verdict::NotComparable, "the two sides trained different shapes".to_string(), None);
    }
    let per_token = |bench: &BenchTrain| {
        let steady = bench.step_seconds.get(bench.warmup_steps as usize..).unwrap_or_default();
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

fn differences(before: &BenchDocument, after: &BenchDocument) -> Vec<String> {
    let mut found = Vec::new();
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            found.push(format!("{what}: {old} → {new}"));
        }
    };
    let digits = |hash: &str| hash.get(..12).unwrap_or(hash).to_string();
    let code = |environment: &Environment| {
        let commit = environment.code_commit.as_deref().map_or("unknown".to_string(), digits);
        if environment.code_clean == Some(false) { format!("{commit} with changes") } else { commit }
    };
    let (old, new) = (before.environment(), after.environment());
    changed("code", code(old), code(new));
    changed("machine", digits(&old.machine_id), digits(&new.machine_id));
    changed("threads", old.threads.to_string(), new.threads.to_string());
    changed("plan", digits(before.plan_hash()), digits(after.plan_hash()));
    if let (BenchDocument::Train(old), BenchDocument::Train(new)) = (before, after) {
        changed("arithmetic", format!("{:?}", old.dtype).to_lowercase(), format!("{:?}", new.dtype).to_lowercase());
        changed("steps", old.steps.to_string(), new.steps.to_string());
        let batch = |bench: &BenchTrain| bench.first_batch_sha256.as_deref().map_or("unknown".to_string(), digits);
        changed("first batch", batch(old), batch(new));
        changed("loss trace", digits(&old.loss_trace_sha256), digits(&new.loss_trace_sha256));
    }
    found
}
