//! The run plan: one fully resolved run, every default filled in.
//!
//! These are documents: they are written to `plan.json`, hashed, diffed and read back, so every field has one meaning
//! and a unit. Nothing here computes; the arithmetic is in [`super::derive`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArmPlan, DeviceKind, Precision};

/// The `schema` entry of every run plan.
pub const RUN_PLAN_SCHEMA: &str = "nanochat.plan/v1";

/// Shape of the transformer, under the baseline's own names (`GPTConfig` in `nanochat/gpt.py`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Context length in tokens (`T`).
    pub sequence_len: usize,
    /// Vocabulary size in tokens, special tokens included, before padding to a multiple of 64.
    pub vocab_size: usize,
    /// Number of transformer layers.
    pub n_layer: usize,
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key/value heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream in channels.
    pub n_embd: usize,
    /// `L` (full context) and `S` (quarter context, rounded up to 128), tiled over the layers; the last is always `L`.
    pub window_pattern: String,
}

/// Parameter counts by group, under the baseline's names (`num_scaling_params`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterCounts {
    /// Token embedding, padded vocabulary included.
    pub wte: u64,
    /// Value embeddings of every second layer.
    pub value_embeds: u64,
    /// Output projection to the padded vocabulary.
    pub lm_head: u64,
    /// All matrices of the layers, value-embedding gates included.
    pub transformer_matrices: u64,
    /// Per-layer scalars, smear gate, smear and backout scalars.
    pub scalars: u64,
    /// Sum of the above.
    pub total: u64,
}

impl ParameterCounts {
    /// The count that the scaling laws use: layer matrices and output projection.
    pub fn scaling(&self) -> u64 {
        self.transformer_matrices + self.lm_head
    }
}

/// The column of parquet shards that holds the documents, unless a spec names another: the baseline's.
pub const TEXT_COLUMN: &str = "text";

/// Where the documents come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataPlan {
    /// A folder of parquet shards; the last by name is validation.
    Parquet {
        /// Folder, as written in the spec.
        path: String,
        /// Column that holds the documents, where it isn't [`TEXT_COLUMN`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
    },
    /// A folder (or one file) of JSON lines with a string field; the last shard is validation.
    Jsonl {
        /// Folder or file, as written in the spec.
        path: String,
        /// Field that holds the document.
        field: String,
    },
    /// A folder (or one file) of plain text, documents parted by blank lines; the last shard is validation.
    Text {
        /// Folder or file, as written in the spec.
        path: String,
    },
    /// The corpus that the baseline trains on: its first shards, and its last one for validation.
    Climbmix {
        /// Folder, as written in the spec, or the baseline's own.
        path: String,
        /// Training shards.
        shards: u64,
    },
    /// The built-in deterministic generator of English-like documents.
    Synthetic {
        /// Seed of the generator.
        seed: u64,
        /// Size of the corpus in bytes, at least; the last document is completed.
        bytes: u64,
    },
}

impl DataPlan {
    /// A folder of parquet shards with the baseline's column.
    pub fn parquet(path: impl Into<String>) -> Self {
        Self::Parquet { path: path.into(), field: None }
    }

    /// Whether the documents lie in parquet shards that the baseline reads as they are.
    pub fn is_parquet(&self) -> bool {
        matches!(self, Self::Parquet { field: None, .. } | Self::Climbmix { .. })
    }

    /// The folder or file, as written in the spec; none of generated data.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Parquet { path, .. }
            | Self::Jsonl { path, .. }
            | Self::Text { path }
            | Self::Climbmix { path, .. } => Some(path),
            Self::Synthetic { .. } => None,
        }
    }
}

/// Where the tokenizer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerPlan {
    /// A stored tokenizer: a folder with `tokenizer.json`, `tokenizer.pkl` or a `.tiktoken` file, or such a file.
    Path(String),
    /// Trained on the training split of the run's data.
    Train {
        /// Vocabulary size, the nine special tokens included.
        vocab_size: usize,
        /// Each document is cut to this many characters.
        max_chars_per_document: u64,
        /// Training stops after this many characters.
        max_chars: u64,
    },
}

/// What decides the optimizer's steps: base values under the baseline's flag names, before scaling by batch size and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerPlan {
    /// Learning rate of token and value embeddings (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub embedding_lr: f64,
    /// Learning rate of the output projection (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub unembedding_lr: f64,
    /// Learning rate of the layer matrices (Muon).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub matrix_lr: f64,
    /// Learning rate of the residual and x0 scalars (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub scalar_lr: f64,
    /// Muon's cautious weight decay, before scaling.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    #[schemars(range(max = 9007199254740991u64))]
    pub warmup_steps: u64,
    /// Share of the steps spent in linear warm-down.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmdown_ratio: f64,
    /// Learning rate at the end, as a share of the peak.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_lr_frac: f64,
}

impl OptimizerPlan {
    /// The baseline's defaults (`scripts/base_train.py`).
    pub const BASELINE: Self = Self {
        embedding_lr: 0.3,
        unembedding_lr: 0.008,
        matrix_lr: 0.02,
        scalar_lr: 0.5,
        weight_decay: 0.28,
        warmup_steps: 40,
        warmdown_ratio: 0.65,
        final_lr_frac: 0.05,
    };
}

/// How long the run is: exactly one measure, as the spec states it. What follows from it is the plan's `num_iterations`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BudgetPlan {
    /// Optimizer steps.
    Iterations(u64),
    /// Training tokens, rounded down to whole steps.
    Tokens(u64),
    /// Training FLOPs, rounded to the nearest whole step.
    Flops(f64),
    /// Training tokens per scaling parameter (layer matrices and output projection), rounded down to whole steps.
    ParamDataRatio(f64),
}

/// The dials from which shape, batch size and weight decay were derived, under the baseline's flag names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScalingPlan {
    /// Width per layer before it is nudged up to a multiple of `head_dim`; shapes the reference model too.
    pub aspect_ratio: u64,
    /// Target channels per head; shapes the reference model too.
    pub head_dim: u64,
    /// Tokens per scaling parameter that batch size and weight decay are scaled from; 12 unless the budget says so.
    pub target_param_data_ratio: f64,
    /// Tokens of the 12-layer reference model at that ratio.
    pub reference_tokens: f64,
}

/// When and on how much the run is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalPlan {
    /// Validation bits per byte every so many steps, and at the end; 0: at the end only.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: u64,
    /// Tokens of the validation split per evaluation, rounded down to whole batches.
    #[schemars(range(min = 1, max = 9007199254740991u64))]
    pub tokens: u64,
    /// The CORE metric; leave it out to go without.
    pub core: Option<CorePlan>,
}

/// The CORE metric. What isn't stated is the baseline's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorePlan {
    /// Every so many steps, and at the end; 0: at the end only.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: u64,
    /// Examples per task; 0: all.
    #[schemars(range(max = 9007199254740991u64))]
    pub max_per_task: u64,
    /// Folder of the evaluation bundle.
    #[schemars(length(min = 1))]
    pub bundle: String,
    /// What follows when an example can't be evaluated.
    #[serde(skip_serializing_if = "OnCoreError::is_stop")]
    pub on_error: OnCoreError,
}

/// What follows when an example of CORE is malformed or can't be posed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCoreError {
    /// The evaluation stops; a run doesn't begin.
    #[default]
    Stop,
    /// The example is reported and left out, and its task is scored on the others.
    Skip,
}

impl OnCoreError {
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

impl Default for CorePlan {
    fn default() -> Self {
        Self {
            every: 2000,
            max_per_task: 500,
            bundle: "~/.cache/nanochat/eval_bundle".to_owned(),
            on_error: OnCoreError::Stop,
        }
    }
}

/// When checkpoints are written, and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPlan {
    /// Every so many steps, and at the end; 0: at the end only.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: u64,
    /// How many of the newest are kept.
    #[schemars(range(min = 1, max = 1000000))]
    pub keep: u64,
}

/// What follows when the loss stops being a number or explodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDivergence {
    /// The run fails; its last good checkpoint stays.
    #[default]
    Stop,
    /// Weights and optimizer go back to the last scheduled checkpoint, the data goes on; at most three times a run.
    Rollback,
}

impl OnDivergence {
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

/// Starting weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InitPlan {
    /// The baseline's distributions, drawn from the run's seed.
    Random,
    /// The very weights that the baseline drew at step 0 with the run's seed.
    Baseline,
    /// The very weights that the checkout of the control arm draws with the run's seed.
    Control,
    /// A safetensors file with the baseline's parameter names.
    Weights(String),
}

/// What the run is expected to cost on its profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Peak memory in GiB.
    pub memory_gib: f64,
    /// Training time in seconds at the profile's stated rate; none when the profile states none.
    pub seconds: Option<f64>,
}

/// One fully resolved run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// `nanochat.plan/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Stable folder name: the matrix cell, the seed, and 8 hex digits of `plan_hash`.
    pub run_id: String,
    /// SHA-256 of what decides the result, 64 hex digits.
    pub plan_hash: String,
    /// Seed of all randomness in the run.
    pub seed: u64,
    /// Which repeat of the same plan this is, 0 the first; repeats share `plan_hash` and differ in `run_id`.
    pub repeat: u64,
    /// The arm that the run belongs to; not written where the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<ArmPlan>,
    /// Values of the matrix axes of this cell, by dotted key; of an arm, its name under `arm`.
    pub axes: BTreeMap<String, serde_json::Value>,
    /// Data source.
    pub data: DataPlan,
    /// Tokenizer source.
    pub tokenizer: TokenizerPlan,
    /// Model shape.
    pub model: ModelShape,
    /// The budget as stated.
    pub budget: BudgetPlan,
    /// What shape, batch size and weight decay were derived from.
    pub scaling: ScalingPlan,
    /// Parameter counts of that shape.
    pub parameters: ParameterCounts,
    /// Training FLOPs per token, forward and backward, as the baseline counts them (`estimate_flops`).
    pub flops_per_token: u64,
    /// Sequences per device and micro-step.
    pub device_batch_size: u64,
    /// Tokens per optimizer step.
    pub total_batch_size: u64,
    /// Micro-steps per optimizer step.
    pub grad_accum_steps: u64,
    /// Optimizer steps.
    pub num_iterations: u64,
    /// Training tokens.
    pub total_tokens: u64,
    /// Training FLOPs; above 2^64 for large runs.
    pub total_flops: u128,
    /// Tokens at the reference data-to-parameter ratio, from which batch size and weight decay are scaled.
    pub target_tokens: u64,
    /// Learning-rate factor for the batch size, √(B / 2^19).
    pub lr_scale: f64,
    /// Muon's weight decay after scaling.
    pub weight_decay: f64,
    /// Optimizer settings before scaling.
    pub optimizer: OptimizerPlan,
    /// Starting weights.
    pub init: InitPlan,
    /// Evaluation settings.
    pub eval: EvalPlan,
    /// Checkpoint settings.
    pub checkpoint: CheckpointPlan,
    /// What follows a divergence; not written where it is `stop`.
    #[serde(default, skip_serializing_if = "OnDivergence::is_stop")]
    pub on_divergence: OnDivergence,
    /// Training stops (resumable, labelled) after this many seconds of wall clock in one start of the program; none: no cap.
    pub wall_clock_seconds: Option<f64>,
    /// Name of the hardware profile.
    pub hardware: String,
    /// Kind of device.
    pub device: DeviceKind,
    /// Number of devices.
    pub device_count: u64,
    /// Arithmetic.
    pub dtype: Precision,
    /// Threads for CPU work; 0: as many as the machine has cores.
    pub threads: u64,
    /// Expected cost.
    pub estimate: Estimate,
}
