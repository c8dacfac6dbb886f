//! The document of a benchmark: figures of this program on one machine, with where and how they were measured.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArtifactError, Environment, parse_document};
use nanochat_plan::{ModelShape, Precision};

/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;

/// What `nanochat bench` measured on a plan, without a trace in the experiment's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// `nanochat.bench/v1`.
    pub schema: String,
    /// What was measured.
    pub measured: Measured,
    /// Name of the experiment.
    pub experiment: String,
    /// The run whose plan was followed.
    pub run_id: String,
    /// Hash of that plan.
    pub plan_hash: String,
    /// Model shape.
    pub model: ModelShape,
    /// Number of parameters.
    pub parameters: u64,
    /// Training FLOPs per token, forward and backward, as the plan counts them.
    pub flops_per_token: u64,
    /// Compute dtype; of inference, what the weights of matrix products are kept in.
    pub dtype: Precision,
    /// Sequences per micro-step.
    pub device_batch_size: u64,
    /// Micro-steps per step.
    pub grad_accum_steps: u64,
    /// Tokens per step.
    pub total_batch_size: u64,
    /// How often the work was measured: steps of training, batches of the data path. None where a time budget decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// How many of the first repeats don't count.
    pub warmup: u64,
    /// Training: tokens per second, optimizer included, median over the steady steps. Data path: tokens packed per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Training: seconds of each step, warm-up included, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_seconds: Vec<f64>,
    /// Training: seconds from the start of the process until the first forward pass began, its batch ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_step_after_seconds: Option<f64>,
    /// Training: what these seconds were spent on. `program` is the program itself with reading and planning the spec, `model`
    /// the starting weights, gradients and optimizer state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub startup: BTreeMap<String, f64>,
    /// Training: seconds per step by phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<BenchPhases>,
    /// Training: the evaluation at the end, unless it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<BenchEvaluation>,
    /// Peak resident memory of the process in bytes, evaluation included.
    pub peak_rss_bytes: u64,
    /// Most memory in use on the device in bytes, by all its users, sampled in each part of a step; not written for a
    /// processor, whose memory is the process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// All other figures.
    pub figures: Vec<BenchFigure>,
    /// Training: SHA-256 of every step's loss as little-endian f64: equal when the arithmetic is the same to the bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_trace_sha256: Option<String>,
    /// SHA-256 of the first micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_batch_sha256: Option<String>,
    /// SHA-256 of the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// Inference: the first sample's greedy tokens, equal where the arithmetic is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_ids: Vec<u32>,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// What a benchmark measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// A plan's first training steps.
    Train,
    /// The model at inference.
    Infer,
    /// Every kernel at the sizes of a micro-step.
    Kernels,
    /// Training of the tokenizer, and encoding.
    Tokenizer,
    /// The data path.
    Data,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Infer => "infer",
            Self::Kernels => "kernels",
            Self::Tokenizer => "tokenizer",
            Self::Data => "data",
        })
    }
}

/// In which direction a figure improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Neither: context, not a result.
    Neither,
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchFigure {
    /// What it is, with the sizes it was measured at: figures of the same name are compared.
    pub name: String,
    /// Its unit; empty for a ratio.
    pub unit: String,
    /// In which direction it improves.
    pub better: Better,
    /// The value.
    pub value: f64,
    /// The same of the reference implementation in f32; for a backward pass, of candle's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// Seconds of each repeat, where the figure is a median.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
    /// What it comes to as a share of the machine's limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<BenchRate>,
}

impl BenchFigure {
    /// A figure with nothing but its value.
    pub fn new(name: impl Into<String>, unit: &str, better: Better, value: f64) -> Self {
        let (seconds, rates) = (Vec::new(), Vec::new());
        Self { name: name.into(), unit: unit.to_string(), better, value, reference: None, seconds, rates }
    }
}

/// Work per second, and the machine's limit of it as measured in the same process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchRate {
    /// Operations of the products, or bytes that must be read and written once, per second.
    pub value: f64,
    /// `GFLOP/s` or `GB/s` (10^9 per second).
    pub unit: String,
    /// The machine's limit in that unit.
    pub limit: f64,
    /// `value` over `limit`; above 1 where everything stays in the caches.
    pub share: f64,
}

impl BenchRate {
    /// A rate and its limit.
    pub fn new(value: f64, unit: &str, limit: f64) -> Self {
        Self { value, unit: unit.to_string(), limit, share: value / limit }
    }
}

/// Seconds per step by phase: means over the steady steps, so that all but `evaluation` add up to a mean step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchPhases {
    /// Waiting for batches.
    pub data: f64,
    /// The model's forward pass up to the head.
    pub forward: f64,
    /// The head, the loss, and the gradients of both: one pass over the logits, which the engine doesn't split into
    /// forward and backward. 0 where the engine counts them with the other two.
    pub head: f64,
    /// The model's backward pass from the head down.
    pub backward: f64,
    /// Clearing gradients and the optimizer's step.
    pub optimizer: f64,
    /// What evaluations come to when spread over the plan's steps; none when the evaluation was left out.
    pub evaluation: Option<f64>,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchEvaluation {
    /// Tokens of the validation split.
    pub tokens: u64,
    /// Seconds, preparing the batches included.
    pub seconds: f64,
    /// Bits per byte after the benchmark's few steps.
    pub val_bpb: Option<f64>,
}

impl Bench {
    /// Parses a benchmark that was read from `path` (which only serves error messages).
    ///
    /// # Errors
    /// A document of another kind or of an earlier version, or a malformed one.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ArtifactError> {
        match parse_document(path, text) {
            Err(ArtifactError::WrongSchema { path, found: Some(found), .. }) if Self::is_retired(&found) => {
                Err(ArtifactError::Retired { path, found })
            }
            parsed => parsed,
        }
    }

    /// Whether a `schema` entry is one of the five that benchmarks had, one for each thing measured.
    pub fn is_retired(schema: &str) -> bool {
        let kind = schema.strip_prefix("nanochat.bench_").and_then(|rest| rest.strip_suffix("/v1"));
        kind.is_some_and(|kind| ["train", "infer", "kernels", "tokenizer", "data"].contains(&kind))
    }

    /// Every figure that two benchmarks are compared by, those with a key of their own included.
    pub fn all_figures(&self) -> Vec<BenchFigure> {
        use Better::{Higher, Lower};
        let seconds = |name: &str, value: f64| BenchFigure::new(name, "s", Lower, value);
        let mut figures = Vec::new();
        figures.extend(self.tokens_per_second.map(|rate| BenchFigure::new("tokens a second", "tok/s", Higher, rate)));
        if let Some(phases) = &self.phases {
            figures.extend([
                seconds("a step: data", phases.data),
                seconds("a step: forward", phases.forward),
                seconds("a step: head and loss", phases.head),
                seconds("a step: backward", phases.backward),
                seconds("a step: optimizer", phases.optimizer),
            ]);
        }
        figures.extend(self.first_step_after_seconds.map(|value| seconds("first step after", value)));
        // A processor computes in the process's own memory.
        let memory = self.peak_device_bytes.unwrap_or(self.peak_rss_bytes) as f64 / MIB;
        figures.push(BenchFigure::new("peak memory", "MiB", Lower, memory));
        figures.extend(self.figures.iter().cloned());
        figures.extend(self.evaluation.as_ref().map(|one| seconds("an evaluation", one.seconds)));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_an_earlier_version_are_refused_by_that_name() {
        for kind in ["train", "infer", "kernels", "tokenizer", "data"] {
            let text = format!(r#"{{"schema": "nanochat.bench_{kind}/v1"}}"#);
            let error = Bench::parse(Path::new("old.json"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("an earlier version") && error.contains(kind), "{error}");
        }
        let error = Bench::parse(Path::new("other.json"), br#"{"schema": "nanochat.plan/v1"}"#).unwrap_err();
        assert!(matches!(error, ArtifactError::WrongSchema { .. }));
    }
}
