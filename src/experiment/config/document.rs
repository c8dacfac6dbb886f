//! The experiment spec as the user writes it, with the plans' own types where a section holds the same values. A layer may
//! state any part of it, so the schema demands nothing; what has a built-in default is always there once the layers are
//! merged, and the rest is optional here. These types are the JSON schema's source.
//!
//! `serde(flatten)` costs no message: specs are checked against the schema before serde reads them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use nanochat_artifacts::{DriftRule, QualityClaim, ReproducibilityRule, SpeedRule};
use nanochat_plan::{
    ArmEngine, CheckpointPlan, EvalPlan, InitPlan, OnDivergence, OptimizerPlan, Precision, QualityMetric,
};

pub use super::hardware_document::*;
use super::schema_parts as parts;

/// `schema` entry of a spec.
pub const SPEC_SCHEMA: &str = "nanochat.experiment/v1";

/// What an experiment trains, on what, for how long, and by which rules it is judged.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Experiment spec", rename = "Experiment")]
pub struct SpecDocument {
    /// Kind and version of this document: `nanochat.experiment/v1`.
    #[schemars(schema_with = "parts::spec_schema_id")]
    pub schema: Option<String>,
    /// Name of the experiment, and of its folder under `results/`. Not inherited through `extends`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), example = "d20-matched")]
    pub name: Option<String>,
    /// What the experiment is about; printed in its reports.
    pub description: String,
    /// Specs that this one builds on, as paths relative to this file; later ones win, this file wins over all.
    #[schemars(schema_with = "parts::extends")]
    pub extends: Option<Vec<String>>,
    /// The other arm: karpathy/nanochat at a pinned commit.
    pub baseline: BaselineSpec,
    /// The sides of the comparison, by name, each with every cell of the matrix and every seed; instead of `baseline`.
    #[schemars(extend("minProperties" = 2, "maxProperties" = 16))]
    pub arms: Option<BTreeMap<String, ArmSpec>>,
    /// Name of the arm that the others are compared with.
    #[schemars(length(min = 1), example = &"control")]
    pub control: Option<String>,
    /// The one seed; or `seeds`.
    #[schemars(range(max = 9007199254740991u64), example = 42)]
    pub seed: Option<u64>,
    /// Seeds, one run of every cell for each; or `seed`.
    #[schemars(schema_with = "parts::seeds")]
    pub seeds: Option<Vec<u64>>,
    /// Name of a profile in `experiments/hardware/`, or an inline profile.
    #[schemars(schema_with = "parts::hardware")]
    pub hardware: Option<Value>,
    /// Where the documents come from.
    pub data: Option<DataSpec>,
    /// Where the tokenizer comes from: a stored one, or one trained on the training split.
    pub tokenizer: Option<TokenizerSpec>,
    /// Shape of the model. `depth` is the one dial; every derived value can be set by hand.
    pub model: ModelSpec,
    /// How long to train: exactly one of the four measures; `wall_clock` may cap any of them.
    pub budget: Option<BudgetSpec>,
    /// Learning rates, weight decay, batch and schedule; the baseline's defaults.
    pub optimizer: OptimizerSpec,
    /// Starting weights: `random`, `baseline` (drawn by the baseline at step 0), `control` (drawn by the control arm's
    /// checkout), or `{ weights: FILE }`.
    #[schemars(schema_with = "parts::init")]
    pub init: InitPlan,
    /// When and on how much to evaluate.
    pub eval: EvalSpec,
    /// When to write checkpoints, and how many to keep.
    pub checkpoint: CheckpointPlan,
    /// What follows when the loss stops being a number or explodes.
    #[serde(default)]
    pub on_divergence: OnDivergence,
    /// What is claimed of quality, and when the candidate counts as no worse than the control.
    pub quality: QualitySpec,
    /// When the candidate counts as fast enough.
    pub speed: SpeedRule,
    /// What repeated runs must equal.
    pub reproducibility: ReproducibilityRule,
    /// Version of the rules by which verdicts are reached.
    pub ruleset: Ruleset,
    /// Variations: product of the axes, zip, exclude, include, then the seeds.
    pub matrix: Option<MatrixSpec>,
}

/// The baseline arm.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineSpec {
    /// Full commit of karpathy/nanochat, 40 hexadecimal digits; a branch or a short hash can move and is refused.
    #[schemars(regex(pattern = r"^[0-9a-f]{40}$"), example = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd")]
    pub commit: String,
    /// Recorded baseline result, relative to the project folder; without it, verdicts against the baseline are `missing`.
    #[schemars(example = "results/baselines/92d63d4e8bb4/d20.json")]
    pub results: Option<String>,
    /// The control: the cell of this experiment's own matrix that the other cells are held against in place of a recorded
    /// baseline, by the values of its axes.
    #[schemars(extend("minProperties" = 1))]
    pub cell: Option<BTreeMap<String, Value>>,
    /// Ways to run the baseline by its own switches; speed is compared against the fastest. By default the profile's.
    #[serde(default)]
    pub variants: Vec<VariantSpec>,
}

/// One side of a comparison: who carries out the same budget.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// `native` (this program) or `karpathy` (an unmodified checkout of karpathy/nanochat or a fork of it).
    pub engine: Option<ArmEngine>,
    /// `karpathy`: full commit, 40 hexadecimal digits; a branch or a short hash can move and is refused.
    #[schemars(regex(pattern = r"^[0-9a-f]{40}$"), example = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd")]
    pub commit: Option<String>,
    /// `karpathy`: folder of the checkout, relative to the project folder and outside of it; else `--checkout NAME=FOLDER`.
    #[schemars(length(min = 1), example = "../my-nanochat")]
    pub checkout: Option<String>,
    /// `karpathy`: flags of its training script by name, added to those of the spec; not those that set budget, shape,
    /// data or evaluation.
    #[schemars(schema_with = "parts::flags")]
    pub flags: Option<BTreeMap<String, Value>>,
}

/// One way to run the baseline, without changing what it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantSpec {
    /// Arithmetic (its `NANOCHAT_DTYPE`); the profile's by default.
    pub dtype: Option<Precision>,
    /// Threads; the profile's by default.
    #[schemars(range(min = 1, max = 4096))]
    pub threads: Option<u64>,
}

/// Kinds of data source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataSource {
    /// A folder of parquet shards with a column `text`; the last by name is validation.
    Parquet,
    /// A folder (or one file) of JSON lines, also compressed (`.jsonl.gz`, `.jsonl.zst`); the last shard is validation.
    Jsonl,
    /// A folder (or one file) of plain text, documents parted by blank lines; the last shard is validation.
    Text,
    /// The corpus that the baseline trains on, as `nanochat data download climbmix` brings it.
    Climbmix,
    /// The built-in deterministic generator of English-like documents.
    Synthetic,
}

/// Where the documents come from.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Kind of source.
    pub source: Option<DataSource>,
    /// Folder or file, relative to the project folder (where the program is started); `~` is the home folder. `climbmix`:
    /// the baseline's folder, `~/.cache/nanochat/base_data_climbmix`, unless stated.
    #[schemars(length(min = 1), example = "~/.cache/nanochat/base_data_climbmix")]
    pub path: Option<String>,
    /// `climbmix`: training shards, the first of them all, about 100 MB each; 170 unless stated. The validation shard is one more.
    #[schemars(range(min = 1, max = 6542), example = 170)]
    pub shards: Option<u64>,
    /// `jsonl`: the field that holds the document; `parquet`: the column. `text` unless stated.
    #[schemars(length(min = 1))]
    pub field: Option<String>,
    /// `synthetic`: seed of the generator.
    #[schemars(range(max = 9007199254740991u64))]
    pub seed: Option<u64>,
    /// `synthetic`: size of the corpus in bytes.
    #[schemars(range(min = 1000, max = 1000000000000u64), example = 2000000)]
    pub bytes: Option<u64>,
}

/// Where the tokenizer comes from: exactly one of `path` and `train`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSpec {
    /// A stored tokenizer: `tokenizer.json`, `tokenizer.pkl` or a `.tiktoken` file, or a folder that holds one.
    #[schemars(length(min = 1), example = "~/.cache/nanochat/tokenizer")]
    pub path: Option<String>,
    /// Vocabulary of the stored tokenizer in tokens, special tokens included; stated, it lets a machine without the file plan.
    #[schemars(range(min = 265, max = 16777216), example = 32768)]
    pub vocab_size: Option<u64>,
    /// Train one on the training split of the data.
    pub train: Option<TokenizerTrainSpec>,
}

/// A tokenizer to train.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerTrainSpec {
    /// Vocabulary size in tokens: 256 bytes, the merges, and nine special tokens.
    #[schemars(range(min = 265, max = 16777216), example = 32768)]
    pub vocab_size: Option<u64>,
    /// Each document is cut to this many characters.
    #[schemars(range(min = 1, max = 9007199254740991u64))]
    pub max_chars_per_document: Option<u64>,
    /// Training stops after this many characters.
    #[schemars(range(min = 1, max = 9007199254740991u64))]
    pub max_chars: Option<u64>,
}

/// Shape of the model.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Number of layers, and the one dial: width, heads, batch size and scaling follow from it.
    #[schemars(range(min = 1, max = 1000), example = 20)]
    pub depth: Option<usize>,
    /// Width per layer in channels, before it is nudged up to a multiple of `head_dim`.
    #[schemars(range(min = 1, max = 8192))]
    pub aspect_ratio: usize,
    /// Channels per attention head.
    #[schemars(range(min = 2, max = 8192))]
    pub head_dim: usize,
    /// Context length in tokens.
    #[schemars(range(min = 1, max = 16777216))]
    pub sequence_len: usize,
    /// Attention windows, tiled over the layers: `L` full context, `S` a quarter of it; the last layer is always `L`.
    #[schemars(regex(pattern = r"^[SLsl]{1,1000}$"))]
    pub window_pattern: String,
    /// Width in channels, set by hand. The aspect ratio then follows from it.
    #[schemars(range(min = 24, max = 131072))]
    pub n_embd: Option<usize>,
    /// Query heads, set by hand. The head dimension then follows from it.
    #[schemars(range(min = 1, max = 8192))]
    pub n_head: Option<usize>,
    /// Key/value heads, set by hand; must divide `n_head`. As many as query heads otherwise.
    #[schemars(range(min = 1, max = 8192))]
    pub n_kv_head: Option<usize>,
    /// Layers, set by hand; the same thing as `depth`.
    #[schemars(range(min = 1, max = 1000))]
    pub n_layer: Option<usize>,
    /// Vocabulary in tokens, set by hand; must be the tokenizer's.
    #[schemars(range(min = 1, max = 16777216))]
    pub vocab_size: Option<usize>,
}

/// How long to train: exactly one of the first four.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Optimizer steps.
    #[schemars(range(min = 1, max = 9007199254740991u64), example = 60)]
    pub iterations: Option<u64>,
    /// Training tokens, rounded down to whole steps.
    #[schemars(range(min = 1, max = 9007199254740991u64), example = 1000000000)]
    pub tokens: Option<u64>,
    /// Training FLOPs, rounded to the nearest whole step.
    #[schemars(range(min = 1.0, max = 1e40), example = 1e18)]
    pub flops: Option<f64>,
    /// Training tokens per parameter of layer matrices and output projection; the baseline's default is 12.
    #[schemars(range(min = 0.000001, max = 1e9), example = 12)]
    pub param_data_ratio: Option<f64>,
    /// Training stops, resumable, after this much time in one start of the program: seconds, text such as `90m` or `2h30m`, or `{ limit, refuse }`.
    #[schemars(schema_with = "parts::wall_clock")]
    pub wall_clock: Option<WallClockSpec>,
}

/// A cap on the time that training takes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WallClockSpec {
    /// Seconds.
    pub limit: Option<f64>,
    /// Refuse a run that is estimated to take longer, in the place of stopping it.
    pub refuse: Option<bool>,
}

/// Optimizer settings, before scaling by batch size and width.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Tokens per optimizer step, set by hand; follows from the training horizon otherwise.
    #[schemars(range(min = 1, max = 1099511627776u64), example = 524288)]
    pub total_batch_size: Option<u64>,
    /// The rest.
    #[serde(flatten)]
    pub plan: OptimizerPlan,
}

/// When and on how much to evaluate.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// The rest.
    #[serde(flatten)]
    pub plan: EvalPlan,
    /// How far evaluations may drift in the course of a run; without it nothing is judged.
    pub drift: Option<DriftRule>,
}

/// What is claimed of quality, and when the candidate counts as no worse.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualitySpec {
    /// What is claimed, under `ruleset: v2`, which needs it: `better`, `no_worse` (within the tolerance) or `off`.
    pub claim: Option<QualityClaim>,
    /// What is judged.
    pub metric: QualityMetric,
    /// How much worse the candidate may be; the claim `better` leaves it no room and doesn't use it.
    pub tolerance: ToleranceSpec,
}

/// Exactly one of the two.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToleranceSpec {
    /// As a share of the baseline's figure.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.002)]
    pub relative: Option<f64>,
    /// In the metric's own unit.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub absolute: Option<f64>,
}

/// Versions of the judging rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ruleset {
    /// The first: no worse than the baseline, no slower.
    V1,
    /// Claims, and verdicts that rest on intervals over seeds.
    V2,
}

/// Variations of the spec, by dotted keys such as `model.depth`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatrixSpec {
    /// Dotted key to its values; every combination is a cell, the first key varying slowest. After the name of an arm, the
    /// key varies in that arm alone: `native.optimizer.matrix_lr`.
    pub axes: Option<BTreeMap<String, Vec<Value>>>,
    /// Groups of keys walked in step, each crossed with the axes; the lists of a group are equally long.
    pub zip: Option<Vec<BTreeMap<String, Vec<Value>>>>,
    /// Cells to leave out: those that have all of an entry's values. An entry that matches none is an error.
    pub exclude: Option<Vec<BTreeMap<String, Value>>>,
    /// Cells to add. One that is there already is an error.
    pub include: Option<Vec<BTreeMap<String, Value>>>,
}
