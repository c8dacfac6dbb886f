//! The documents that a run and an experiment leave behind. Each names its schema and validates against
//! `schemas/<kind>.schema.json`, which is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use nanochat_plan::{QualityMetric, ReproducibilityLevel, SpeedMetric};

use super::arms::{ArmEvidence, RunBlock};
use super::claims::{QualityClaim, SpeedClaim};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All iterations done and evaluated.
    Finished,
    /// Stopped by a signal or a wall-clock cap; can be resumed.
    Interrupted,
    /// Stopped by an error.
    Failed,
}

/// `summary.json`: what came out of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// `nanochat.summary/v1`.
    pub schema: String,
    /// Run id.
    pub run_id: String,
    /// Hash of the plan that was carried out.
    pub plan_hash: String,
    /// How the run ended.
    pub status: RunStatus,
    /// Why it failed or stopped, when it did.
    pub reason: Option<String>,
    /// Optimizer steps done.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Validation bits per byte at the last evaluation.
    pub final_val_bpb: Option<f64>,
    /// Lowest validation bits per byte of the run.
    pub min_val_bpb: Option<f64>,
    /// CORE metric at the last evaluation, where asked for.
    pub core_metric: Option<f64>,
    /// Training loss in nats per token, mean over the micro-steps of the last step.
    pub train_loss: Option<f64>,
    /// Tokens per second: median over the steps after warm-up, optimizer included.
    pub tokens_per_second: Option<f64>,
    /// Seconds spent in steps, the first ten left out, as the baseline counts.
    pub training_seconds: f64,
    /// Seconds from start to end, evaluation and checkpoints included, over all sessions.
    pub elapsed_seconds: f64,
    /// Seconds from taking the run up to the end of its first step: reading data, tokenizer and weights, unless an earlier
    /// run of the same session had them in memory, and the first evaluation. None for a run that was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<f64>,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: u64,
    /// Most memory in use on the device in bytes, by all its users, sampled in each part of a step; not written for a
    /// processor, whose memory is the process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// SHA-256 of the final weights.
    pub weights_sha256: Option<String>,
    /// SHA-256 of the weights before the first step; not there in summaries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights_sha256: Option<String>,
    /// SHA-256 of the loss trace: every step's loss as little-endian f64.
    pub loss_trace_sha256: Option<String>,
    /// SHA-256 of the documents, in order, both splits; empty for a run that failed before they were read.
    pub data_sha256: String,
    /// SHA-256 of the tokenizer's ranks and special tokens; empty as above.
    pub tokenizer_sha256: String,
    /// SHA-256 of the evaluation's tasks; not written where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_sha256: Option<String>,
    /// SHA-256 of the first micro-batch: inputs, then targets, as little-endian i32.
    pub first_batch_sha256: Option<String>,
    /// SHA-256 of `steps.parquet` and `evals.parquet` by file name.
    pub files_sha256: BTreeMap<String, String>,
    /// Divergences that the run went back from, in order; not written where there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,
    /// Steps at the start that the baseline took, in a run that goes on from a checkpoint of its; not written where none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub adopted_steps: u64,
    /// Checkpoints of its own that the run went on from, in order; not written where it was made in one go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continued_from: Vec<Continued>,
    /// What shows that another program did what the run says; not written for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<ArmEvidence>,
}

impl Summary {
    /// The figure of a quality metric.
    pub fn quality(&self, metric: QualityMetric) -> Option<f64> {
        match metric {
            QualityMetric::ValBpb => self.final_val_bpb,
            QualityMetric::MinValBpb => self.min_val_bpb,
            QualityMetric::CoreMetric => self.core_metric,
        }
    }

    /// Peak memory of what the run computed on: the device's, or a processor's process.
    pub fn peak_memory_bytes(&self) -> u64 {
        self.peak_device_bytes.unwrap_or(self.peak_rss_bytes)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A checkpoint that a run went on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Continued {
    /// Steps done at the checkpoint.
    pub step: u64,
    /// SHA-256 of the checkpoint's manifest, which holds those of all its files.
    pub manifest_sha256: String,
    /// It was not written by the user who went on from it, on the same machine, but trusted by `--trust-checkpoints`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_elsewhere: bool,
}

/// A divergence after which a run went back to a checkpoint and on with other data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The step in which it was seen.
    pub from_step: u64,
    /// Steps done at the checkpoint.
    pub to_step: u64,
    /// What was seen.
    pub reason: String,
    /// Tokens between the two, which the run has not been trained on in the end.
    pub skipped_tokens: u64,
}

/// `environment.json`: where and with what a run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// `nanochat.environment/v1`.
    pub schema: String,
    /// Version of this program.
    pub program_version: String,
    /// Full commit of this program's source, when it was built from a checkout.
    pub code_commit: Option<String>,
    /// Whether that checkout had no changes.
    pub code_clean: Option<bool>,
    /// SHA-256 over the sources of the crates that decide results; not there in documents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deciding_code_sha256: Option<String>,
    /// SHA-256 of the running executable: the same build gives the same bits.
    pub binary_sha256: String,
    /// Operating system and its version.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Processor model.
    pub cpu: String,
    /// Family, model and stepping of the processor; none where the system doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_stepping: Option<String>,
    /// Processor features that the kernels use.
    pub cpu_features: Vec<String>,
    /// Cores available to the process.
    pub cores: u64,
    /// Threads used.
    pub threads: u64,
    /// Memory in bytes, the control group's limit where there is one.
    pub memory_bytes: u64,
    /// GPU models, if any are used.
    pub gpus: Vec<String>,
    /// Digest that is equal for runs on the same kind of machine: processor, cores, memory, GPUs.
    pub machine_id: String,
    /// Versions of the libraries that decide the result.
    pub libraries: BTreeMap<String, String>,
    /// When the run was finished, UTC, RFC 3339.
    pub finished_at: String,
    /// False when the machine was not what the profile says and the user allowed that.
    pub hardware_matches_profile: bool,
    /// The block that the run was part of; not written where there are no arms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<RunBlock>,
}

/// One row of `steps.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Step number, from 0.
    pub step: u64,
    /// Tokens trained on after this step.
    pub tokens: u64,
    /// Mean training loss of the step's micro-steps, nats per token.
    pub loss: f64,
    /// Learning-rate multiplier.
    pub lr_multiplier: f64,
    /// Muon's momentum.
    pub muon_momentum: f64,
    /// Muon's weight decay.
    pub muon_weight_decay: f64,
    /// Seconds for the step, optimizer included.
    pub seconds: f64,
    /// Resident memory after the step in bytes.
    pub rss_bytes: u64,
}

/// One row of `evals.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRow {
    /// Step before which the evaluation ran (the number of steps done).
    pub step: u64,
    /// Tokens trained on by then.
    pub tokens: u64,
    /// Validation bits per byte.
    pub val_bpb: Option<f64>,
    /// CORE metric.
    pub core_metric: Option<f64>,
    /// Seconds of training so far (steps only).
    pub training_seconds: f64,
    /// Seconds that the evaluation took.
    pub eval_seconds: f64,
    /// Resident memory after the evaluation in bytes; not there in tables of earlier versions.
    #[serde(default)]
    pub rss_bytes: Option<u64>,
}

/// A recorded result of the baseline: `results/baselines/<commit, 12 digits>/<name>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineResult {
    /// `nanochat.baseline/v1`.
    pub schema: String,
    /// Full commit of karpathy/nanochat.
    pub commit: String,
    /// Name of the recording.
    pub name: String,
    /// One entry a run.
    pub runs: Vec<BaselineRun>,
}

/// One recorded run of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineRun {
    /// Seed; the unmodified baseline always uses 42.
    pub seed: u64,
    /// How the run ended.
    pub status: RunStatus,
    /// Why it failed, when it did.
    pub reason: Option<String>,
    /// Flags given to the baseline's training script.
    pub flags: Vec<String>,
    /// Model shape.
    pub model: nanochat_plan::ModelShape,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Tokens per optimizer step.
    pub total_batch_size: u64,
    /// Validation bits per byte at the end.
    pub final_val_bpb: Option<f64>,
    /// Lowest validation bits per byte.
    pub min_val_bpb: Option<f64>,
    /// CORE metric at the end, where it was evaluated.
    pub core_metric: Option<f64>,
    /// Evaluations, step and bits per byte.
    pub evals: Vec<(u64, f64)>,
    /// Smoothed training loss by step, as the log prints it.
    pub losses: Vec<f64>,
    /// Median tokens per second after warm-up.
    pub tokens_per_second: Option<f64>,
    /// Seconds of each step.
    pub step_seconds: Vec<f64>,
    /// Seconds spent in steps after the first ten.
    pub training_seconds: Option<f64>,
    /// Seconds of wall clock.
    pub elapsed_seconds: Option<f64>,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// SHA-256 of the documents, when known.
    pub data_sha256: Option<String>,
    /// SHA-256 of the tokenizer, when known.
    pub tokenizer_sha256: Option<String>,
    /// SHA-256 of the first micro-batch, when known.
    pub first_batch_sha256: Option<String>,
    /// Arithmetic.
    pub dtype: nanochat_plan::Precision,
    /// Digest of the machine, as in `environment.json`.
    pub machine_id: Option<String>,
    /// Versions: torch, Python, and so on.
    pub versions: BTreeMap<String, String>,
    /// What was measured from outside; none for a run that was read from its files.
    #[serde(default)]
    pub measured: Option<BaselineMeasurement>,
    /// Where the recording comes from and under which conditions it was made.
    #[serde(default)]
    pub provenance: Option<BaselineProvenance>,
}

impl BaselineRun {
    /// The figure of a quality metric.
    pub fn quality(&self, metric: QualityMetric) -> Option<f64> {
        match metric {
            QualityMetric::ValBpb => self.final_val_bpb,
            QualityMetric::MinValBpb => self.min_val_bpb,
            QualityMetric::CoreMetric => self.core_metric,
        }
    }
}

/// What this program measured of a baseline process that it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineMeasurement {
    /// Seconds from the start of the process to the end of its first step: imports, compilation, first evaluation.
    pub startup_seconds: Option<f64>,
    /// Seconds from the start of the process at which each entry of `evals` was printed.
    pub eval_printed_seconds: Vec<f64>,
    /// Seconds from the start of the process at which each training step was printed.
    pub step_printed_seconds: Vec<f64>,
    /// Processor seconds, user and system, of the process and of those that it waited for.
    pub cpu_seconds: Option<f64>,
    /// Largest sum of resident memory over the process and all its descendants in bytes; pages that they share count
    /// for each of them, so this is an upper bound, while `peak_rss_bytes` is the training process alone.
    pub peak_tree_rss_bytes: Option<u64>,
    /// Whether compiled kernels were there from an earlier run.
    pub warm_compile_cache: bool,
}

/// Where a recording of the baseline comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineProvenance {
    /// `run` when this program started the process, `import` when it read a finished run's files.
    pub source: String,
    /// Hash of the plan that the flags were derived from.
    pub plan_hash: Option<String>,
    /// Which of the spec's variants this is, such as `bf16` or `f32-threads2`.
    pub variant: Option<String>,
    /// Threads of the process.
    pub threads: Option<u64>,
    /// Environment variables that were set for the process; folders by what they are, not where.
    pub environment: BTreeMap<String, String>,
    /// The block that the run belongs to, when both arms ran in turn.
    pub block: Option<BaselineBlock>,
    /// SHA-256 of the first validation micro-batch, built by the baseline's own loader.
    pub first_validation_batch_sha256: Option<String>,
    /// Whether the baseline's own loader and our own gave the same first micro-batches, training and validation.
    pub batches_agree: Option<bool>,
    /// SHA-256 of the final weights, computed as for our own runs.
    pub weights_sha256: Option<String>,
    /// SHA-256 of the log as it was printed.
    pub log_sha256: String,
    /// Warnings in the log, and what was passed over in it.
    pub warnings: Vec<String>,
    /// Processor model.
    pub cpu: Option<String>,
    /// Cores available.
    pub cores: Option<u64>,
    /// GPU models.
    pub gpus: Vec<String>,
    /// Version of this program.
    pub program_version: String,
    /// When the run ended, UTC, RFC 3339.
    pub finished_at: Option<String>,
}

/// One of the alternating runs of both arms on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineBlock {
    /// Number of the block, from 1.
    pub number: u64,
    /// Whether the baseline ran first in it.
    pub baseline_first: bool,
    /// Run id of the candidate's run in the same block.
    pub candidate_run: Option<String>,
    /// The block as the runs of arms name it; not written in recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_arms: Option<RunBlock>,
}

/// `results/<experiment>/experiment.json`: what the scorecard needs to know of the spec, so that it can be recomputed
/// from the results alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentRecord {
    /// `nanochat.experiment_record/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Full commit of the pinned baseline.
    pub baseline_commit: String,
    /// Path of the recorded baseline result, relative to the project.
    pub baseline_results: Option<String>,
    /// Axes of the cell that the others are held against in place of a recorded baseline; not written where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<BTreeMap<String, serde_json::Value>>,
    /// Quality rule.
    pub quality: QualityRule,
    /// Speed rule.
    pub speed: SpeedRule,
    /// Reproducibility rule.
    pub reproducibility: ReproducibilityRule,
    /// How far evaluations may drift; not written where the spec doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftRule>,
    /// Version of the rules.
    pub ruleset: String,
    /// The spec that made it, relative to the project; not written where it lay elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Run ids planned, in order, each once.
    #[serde(deserialize_with = "distinct")]
    #[schemars(extend("uniqueItems" = true))]
    pub runs: Vec<String>,
}

/// What is claimed of quality, and within which tolerance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityRule {
    /// What is claimed, from rules v2 on; not written under v1, which judges `no_worse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<QualityClaim>,
    /// What is judged.
    pub metric: QualityMetric,
    /// Allowed difference as a share of the baseline's figure; or absolute, exactly one of the two.
    pub relative: Option<f64>,
    /// Allowed difference in the metric's unit.
    pub absolute: Option<f64>,
}

/// Bounds on how much more evaluations may cost as a run goes on; one that is left out doesn't bind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftRule {
    /// Growth of resident memory in MiB, from the second evaluation to the last.
    #[schemars(range(min = 0.0, max = 1000000000.0))]
    pub max_rss_growth: Option<f64>,
    /// Growth of the time that an evaluation takes, the last third against the first, as a share.
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub max_slowdown: Option<f64>,
}

/// When the candidate counts as fast enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedRule {
    /// What is claimed, from rules v2 on: `faster`, `no_slower` or `off`, the default there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<SpeedClaim>,
    /// What is judged.
    pub metric: SpeedMetric,
    /// Candidate over baseline, at least.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub min_ratio: f64,
}

/// What repeated runs must equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReproducibilityRule {
    /// Extra runs of the first seed of each cell; 0: none.
    #[schemars(range(max = 100))]
    pub repeats: u64,
    /// What they must equal.
    pub require: ReproducibilityLevel,
}

/// A run counts once, however often it is named: the same one twice would be a repeat that never ran.
fn distinct<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let runs = Vec::<String>::deserialize(deserializer)?;
    let mut seen = std::collections::BTreeSet::new();
    match runs.iter().find(|run| !seen.insert(run.as_str())) {
        Some(twice) => Err(serde::de::Error::custom(format!("the run `{}` is named twice", twice.escape_debug()))),
        None => Ok(runs),
    }
}
