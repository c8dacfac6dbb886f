//! What a benchmark leaves: figures of this program on one machine, with where and with what they were measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Environment;
use crate::plan::{ModelShape, Precision};

/// What `nanochat bench train` measured: a plan's first steps, without a trace in the experiment's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchTrain {
    /// `nanochat.bench_train/v1`.
    pub schema: String,
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
    /// Arithmetic.
    pub dtype: Precision,
    /// Sequences per micro-step.
    pub device_batch_size: u64,
    /// Micro-steps per step.
    pub grad_accum_steps: u64,
    /// Tokens per step.
    pub total_batch_size: u64,
    /// Steps that were made.
    pub steps: u64,
    /// How many of the first don't count as steady.
    pub warmup_steps: u64,
    /// Tokens per second, optimizer included: median over the steady steps.
    pub tokens_per_second: f64,
    /// Seconds of each step, warm-up included, in order.
    pub step_seconds: Vec<f64>,
    /// Seconds from the start of the process until the first forward pass began, its batch ready.
    pub first_step_after_seconds: f64,
    /// What these seconds went to.
    pub startup: BenchStartup,
    /// Peak resident memory of the process in bytes, evaluation included.
    pub peak_rss_bytes: u64,
    /// Seconds a step by phase.
    pub phases: BenchPhases,
    /// The evaluation at the end, unless it was left out.
    pub evaluation: Option<BenchEvaluation>,
    /// Training FLOPs per token, forward and backward, as the plan counts them.
    pub flops_per_token: u64,
    /// FLOPs per token times tokens per second, in GFLOP/s.
    pub achieved_gflops: f64,
    /// The best rate of this program's own matrix products in this arithmetic on this machine, in GFLOP/s, measured
    /// after the steps.
    pub gemm_gflops: f64,
    /// `achieved_gflops` over `gemm_gflops`: the share of the machine that training uses.
    pub mfu: f64,
    /// Loss of the last step, nats per token.
    pub train_loss: f64,
    /// SHA-256 of every step's loss as little-endian f64: equal when the arithmetic is the same to the bit.
    pub loss_trace_sha256: String,
    /// SHA-256 of the first micro-batch.
    pub first_batch_sha256: Option<String>,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// Seconds from the start of a process to its first forward pass, by what they went to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchStartup {
    /// The program itself, reading and planning the spec, looking at the machine.
    pub program: f64,
    /// Opening the data.
    pub data: f64,
    /// Loading or training the tokenizer.
    pub tokenizer: f64,
    /// Starting weights, gradients, optimizer state.
    pub model: f64,
    /// The first batch.
    pub first_batch: f64,
}

/// Seconds a step by phase: means over the steady steps, so that all but `evaluation` add up to a mean step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchPhases {
    /// Waiting for batches.
    pub data: f64,
    /// The model's forward pass up to the head.
    pub forward: f64,
    /// The head, the loss, and the gradients of both: one pass over the logits, which the engine doesn't part into
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
