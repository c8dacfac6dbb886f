//! What a benchmark leaves: figures of this program on one machine, with where and with what they were measured.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArtifactError, Environment, parse_document};
use nanochat_plan::{ModelShape, Precision};

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
    /// Most memory in use on the device in bytes, by all its users, sampled in each part of a step; not written for a
    /// processor, whose memory is the process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// Seconds a step by phase.
    pub phases: BenchPhases,
    /// The evaluation at the end, unless it was left out.
    pub evaluation: Option<BenchEvaluation>,
    /// Training FLOPs per token, forward and backward, as the plan counts them.
    pub flops_per_token: u64,
    /// FLOPs per token times tokens per second, in GFLOP/s.
    pub achieved_gflops: f64,
    /// The best rate of matrix products in this arithmetic on this machine (this program's own on a processor, candle's on a
    /// GPU), in GFLOP/s, measured
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

impl BenchTrain {
    /// Peak memory of what the steps were computed on: the device's, or a processor's process.
    pub fn peak_memory_bytes(&self) -> u64 {
        self.peak_device_bytes.unwrap_or(self.peak_rss_bytes)
    }
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

/// What `nanochat bench kernels` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchKernels {
    /// `nanochat.bench_kernels/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Hash of the plan whose sizes were taken.
    pub plan_hash: String,
    /// Model shape.
    pub model: ModelShape,
    /// Sequences per micro-step.
    pub device_batch_size: u64,
    /// Arithmetic.
    pub dtype: Precision,
    /// The best rate of this program's own matrix products in this arithmetic on this machine, in GFLOP/s.
    pub gemm_gflops: f64,
    /// Bytes that a copy on all threads reads and writes, in GB/s (10^9 a second).
    pub copy_gbs: f64,
    /// One entry a kernel.
    pub kernels: Vec<BenchKernel>,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// One kernel at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchKernel {
    /// What it computes.
    pub name: String,
    /// The sizes.
    pub shape: String,
    /// Seconds of one call, the shortest of several.
    pub seconds: f64,
    /// The same of its reference implementation in elementary operations, in f32; for a backward pass candle's own. None when left out.
    pub twin_seconds: Option<f64>,
    /// Work done a second: operations of its products, or bytes that it must read and write once.
    pub rate: f64,
    /// `GFLOP/s` or `GB/s`.
    pub unit: String,
    /// The machine's limit in that unit, as measured.
    pub limit: f64,
    /// `rate` over `limit`; above 1 where everything stays in the caches.
    pub share: f64,
}

/// What `nanochat bench tokenizer` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchTokenizer {
    /// `nanochat.bench_tokenizer/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Tokens of the vocabulary that is trained, special tokens included.
    pub vocab_size: u64,
    /// Bytes of text that it is trained on.
    pub train_bytes: u64,
    /// Seconds of each training on all threads, reading the documents included.
    pub train_seconds: Vec<f64>,
    /// Megabytes (10^6) of text a second in training: median.
    pub train_megabytes_per_second: f64,
    /// Bytes of text that are encoded.
    pub encode_bytes: u64,
    /// Tokens that they come to.
    pub encode_tokens: u64,
    /// Seconds of each encoding on one thread.
    pub encode_seconds: Vec<f64>,
    /// Megabytes (10^6) of text a second in encoding on one thread: median.
    pub encode_megabytes_per_second: f64,
    /// SHA-256 of the tokenizer that encodes.
    pub tokenizer_sha256: String,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// What `nanochat bench data` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchData {
    /// `nanochat.bench_data/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Sequences a batch.
    pub device_batch_size: u64,
    /// Tokens a sequence.
    pub sequence_len: u64,
    /// Seconds to open the data.
    pub open_seconds: f64,
    /// Seconds to load or train the tokenizer.
    pub tokenizer_seconds: f64,
    /// Seconds until the first batch.
    pub first_batch_seconds: f64,
    /// Batches after the first.
    pub batches: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// Tokens read, tokenised and packed a second.
    pub tokens_per_second: f64,
    /// Passes over the training split that were begun.
    pub epochs: u64,
    /// SHA-256 of the first batch.
    pub first_batch_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// What `nanochat bench infer` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchInfer {
    /// `nanochat.bench_infer/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Hash of the plan whose model was taken.
    pub plan_hash: String,
    /// Model shape.
    pub model: ModelShape,
    /// Number of parameters.
    pub parameters: u64,
    /// What the weights of matrix products were kept in; activations and the cache are f32.
    pub dtype: Precision,
    /// How often each measurement was repeated; medians count.
    pub repeats: u64,
    /// Tokens of the long prompt.
    pub prompt_tokens: u64,
    /// Seconds from the request with that prompt to its first token, chosen greedily.
    pub first_token_seconds: f64,
    /// Seconds of the prompt alone.
    pub prefill_seconds: f64,
    /// Tokens of the prompt over these.
    pub prefill_tokens_per_second: f64,
    /// Forward FLOPs of the prompt a second, as plans count them, in GFLOP/s.
    pub prefill_gflops: f64,
    /// The same over `gemm_gflops`.
    pub prefill_flop_share: f64,
    /// Tokens decoded by each sample.
    pub new_tokens: u64,
    /// Tokens of the prompt that they follow.
    pub decode_prompt_tokens: u64,
    /// Decoding by the number of samples side by side.
    pub batches: Vec<BenchDecoding>,
    /// The best rate of this program's own matrix products in f32 on this machine, in GFLOP/s, measured after the work.
    pub gemm_gflops: f64,
    /// Bytes that all threads read a second of a buffer of 64 MiB, in GB/s (10^9 a second).
    pub read_gbs: f64,
    /// The first sample's greedy tokens: equal where the arithmetic is.
    pub first_ids: Vec<u32>,
    /// Peak resident memory of the process in bytes.
    pub peak_rss_bytes: u64,
    /// Where and with what it was measured.
    pub environment: Environment,
}

/// Decoding of some samples side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchDecoding {
    /// Samples.
    pub rows: u64,
    /// Seconds from one token of a sample to its next, choosing it greedily included: median.
    pub step_seconds: f64,
    /// Tokens a second over all samples.
    pub tokens_per_second: f64,
    /// Bytes of weights and cache that a step must read, at the mean context.
    pub step_bytes: u64,
    /// These a second, in GB/s.
    pub achieved_gbs: f64,
    /// The same over `read_gbs`; above 1 where they stay in nearer caches.
    pub bandwidth_share: f64,
    /// Forward FLOPs a second, as plans count them, in GFLOP/s.
    pub achieved_gflops: f64,
    /// The same over `gemm_gflops`.
    pub flop_share: f64,
    /// Bytes that the samples' key/value cache takes at most.
    pub cache_bytes: u64,
}

/// A benchmark of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum BenchDocument {
    /// Of training.
    Train(Box<BenchTrain>),
    /// Of kernels.
    Kernels(Box<BenchKernels>),
    /// Of a tokenizer.
    Tokenizer(Box<BenchTokenizer>),
    /// Of the data path.
    Data(Box<BenchData>),
    /// Of inference.
    Infer(Box<BenchInfer>),
}

impl BenchDocument {
    /// Parses a benchmark that was read from `path` (which only serves error messages).
    ///
    /// # Errors
    /// A document of another kind, or a malformed one.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ArtifactError> {
        match parse_document::<BenchKernels>(path, text) {
            Err(ArtifactError::WrongSchema { .. }) => {}
            parsed => return parsed.map(|bench| Self::Kernels(Box::new(bench))),
        }
        match parse_document::<BenchTokenizer>(path, text) {
            Err(ArtifactError::WrongSchema { .. }) => {}
            parsed => return parsed.map(|bench| Self::Tokenizer(Box::new(bench))),
        }
        match parse_document::<BenchData>(path, text) {
            Err(ArtifactError::WrongSchema { .. }) => {}
            parsed => return parsed.map(|bench| Self::Data(Box::new(bench))),
        }
        match parse_document::<BenchInfer>(path, text) {
            Err(ArtifactError::WrongSchema { .. }) => {}
            parsed => return parsed.map(|bench| Self::Infer(Box::new(bench))),
        }
        parse_document::<BenchTrain>(path, text).map(|bench| Self::Train(Box::new(bench)))
    }

    /// What was measured.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Kernels(_) => "kernels",
            Self::Tokenizer(_) => "tokenizer",
            Self::Data(_) => "data",
            Self::Infer(_) => "infer",
        }
    }

    /// Where and with what.
    pub fn environment(&self) -> &Environment {
        match self {
            Self::Train(bench) => &bench.environment,
            Self::Kernels(bench) => &bench.environment,
            Self::Tokenizer(bench) => &bench.environment,
            Self::Data(bench) => &bench.environment,
            Self::Infer(bench) => &bench.environment,
        }
    }

    /// Hash of the plan.
    pub fn plan_hash(&self) -> &str {
        match self {
            Self::Train(bench) => &bench.plan_hash,
            Self::Kernels(bench) => &bench.plan_hash,
            Self::Tokenizer(bench) => &bench.plan_hash,
            Self::Data(bench) => &bench.plan_hash,
            Self::Infer(bench) => &bench.plan_hash,
        }
    }
}
