//! The experiment spec as the user writes it. Everything is optional here, since a layer may state any part of it; what
//! must be there in the end, the experiment demands. These types are the JSON schema's source.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use super::hardware_document::*;
use super::schema_parts as parts;

/// `schema` entry of a spec.
pub const SPEC_SCHEMA: &str = "nanochat.experiment/v1";

/// What an experiment trains, on what, for how long, and by which rules it is judged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
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
    pub description: Option<String>,
    /// Specs that this one builds on, as paths relative to this file; later ones win, this file wins over all.
    #[schemars(schema_with = "parts::extends")]
    pub extends: Option<Vec<String>>,
    /// The other arm: karpathy/nanochat at a pinned commit.
    pub baseline: Option<BaselineSpec>,
    /// The one seed; or `seeds`.
    #[schemars(range(max = 9007199254740991u64), example = 42)]
    pub seed: Option<u64>,
    /// Seeds, one run of every cell for each; or `seed`.
    #[schemars(schema_with = "parts::seeds")]
    pub seeds: Option<Vec<u64>>,
    /// Name of a profile in `experiments/hardware/`, or an inline profile.
    #[schemars(schema_with = "parts::hardware")]
    pub hardware: Option<HardwareSpec>,
    /// Where the documents come from.
    pub data: Option<DataSpec>,
    /// Where the tokenizer comes from: a stored one, or one trained on the training split.
    pub tokenizer: Option<TokenizerSpec>,
    /// Shape of the model. `depth` is the one dial; every derived value can be set by hand.
    pub model: Option<ModelSpec>,
    /// How long to train: exactly one of the four measures; `wall_clock` may cap any of them.
    pub budget: Option<BudgetSpec>,
    /// Learning rates, weight decay, batch and schedule; the baseline's defaults.
    pub optimizer: Option<OptimizerSpec>,
    /// Starting weights: `random`, `baseline` (drawn by the baseline at step 0), or `{ weights: FILE }`.
    #[schemars(schema_with = "parts::init")]
    pub init: Option<InitSpec>,
    /// When and on how much to evaluate.
    pub eval: Option<EvalSpec>,
    /// When to write checkpoints, and how many to keep.
    pub checkpoint: Option<CheckpointSpec>,
    /// What follows when the loss stops being a number or explodes.
    pub on_divergence: Option<OnDivergence>,
    /// When the candidate counts as no worse than the baseline.
    pub quality: Option<QualitySpec>,
    /// When the candidate counts as fast enough.
    pub speed: Option<SpeedSpec>,
    /// What repeated runs must equal.
    pub reproducibility: Option<ReproducibilitySpec>,
    /// Version of the rules by which verdicts are reached.
    pub ruleset: Option<Ruleset>,
    /// Variations: product of the axes, zip, exclude, include, then the seeds.
    pub matrix: Option<MatrixSpec>,
}

/// The baseline arm.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineSpec {
    /// Full commit of karpathy/nanochat, 40 hexadecimal digits; a branch or a short hash can move and is refused.
    #[schemars(regex(pattern = r"^[0-9a-f]{40}$"), example = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd")]
    pub commit: Option<String>,
    /// Recorded baseline result, relative to the project folder; without it, verdicts against the baseline are `missing`.
    #[schemars(extend("x-nullable" = true), example = "results/baselines/92d63d4e8bb4/d20.json")]
    pub results: Option<String>,
    /// The control: the cell of this experiment's own matrix that the other cells are held against in place of a recorded
    /// baseline, by the values of its axes.
    #[schemars(extend("x-nullable" = true, "minProperties" = 1))]
    pub cell: Option<std::collections::BTreeMap<String, Value>>,
    /// Ways to run the baseline by its own switches; speed is compared against the fastest. By default the profile's.
    pub variants: Option<Vec<VariantSpec>>,
}

/// One way to run the baseline, without changing what it computes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantSpec {
    /// Arithmetic (its `NANOCHAT_DTYPE`); the profile's by default.
    pub dtype: Option<Dtype>,
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
    /// A folder (or one file) of JSON lines; the last shard is validation.
    Jsonl,
    /// A folder (or one file) of plain text, documents parted by blank lines; the last shard is validation.
    Text,
    /// The built-in deterministic generator of English-like documents.
    Synthetic,
}

/// Where the documents come from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Kind of source.
    pub source: Option<DataSource>,
    /// Folder or file, relative to the project folder (where the program is started); `~` is the home folder.
    #[schemars(length(min = 1), example = "~/.cache/nanochat/base_data_climbmix")]
    pub path: Option<String>,
    /// `jsonl`: the field that holds the document.
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
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Number of layers, and the one dial: width, heads, batch size and scaling follow from it.
    #[schemars(range(min = 1, max = 1000), example = 20)]
    pub depth: Option<u64>,
    /// Width per layer in channels, before it is nudged up to a multiple of `head_dim`.
    #[schemars(range(min = 1, max = 8192))]
    pub aspect_ratio: Option<u64>,
    /// Channels per attention head.
    #[schemars(range(min = 2, max = 8192))]
    pub head_dim: Option<u64>,
    /// Context length in tokens.
    #[schemars(range(min = 1, max = 16777216))]
    pub sequence_len: Option<u64>,
    /// Attention windows, tiled over the layers: `L` full context, `S` a quarter of it; the last layer is always `L`.
    #[schemars(regex(pattern = r"^[SLsl]{1,1000}$"))]
    pub window_pattern: Option<String>,
    /// Width in channels, set by hand. The aspect ratio then follows from it.
    #[schemars(range(min = 24, max = 131072))]
    pub n_embd: Option<u64>,
    /// Query heads, set by hand. The head dimension then follows from it.
    #[schemars(range(min = 1, max = 8192))]
    pub n_head: Option<u64>,
    /// Key/value heads, set by hand; must divide `n_head`. As many as query heads otherwise.
    #[schemars(range(min = 1, max = 8192))]
    pub n_kv_head: Option<u64>,
    /// Layers, set by hand; the same thing as `depth`.
    #[schemars(range(min = 1, max = 1000))]
    pub n_layer: Option<u64>,
    /// Vocabulary in tokens, set by hand; must be the tokenizer's.
    #[schemars(range(min = 1, max = 16777216))]
    pub vocab_size: Option<u64>,
}

/// How long to train: exactly one of the first four.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
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
    /// Training stops, resumable, after this much time: seconds, or text such as `90m` or `2h30m`.
    #[schemars(schema_with = "parts::duration")]
    pub wall_clock: Option<f64>,
}

/// Optimizer settings, before scaling by batch size and width.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Tokens per optimizer step, set by hand; follows from the training horizon otherwise.
    #[schemars(range(min = 1, max = 1099511627776u64), example = 524288)]
    pub total_batch_size: Option<u64>,
    /// Learning rate of token and value embeddings (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub embedding_lr: Option<f64>,
    /// Learning rate of the output projection (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub unembedding_lr: Option<f64>,
    /// Learning rate of the layer matrices (Muon).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub matrix_lr: Option<f64>,
    /// Learning rate of the residual and x0 scalars (AdamW).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub scalar_lr: Option<f64>,
    /// Muon's cautious weight decay, before scaling.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: Option<f64>,
    /// Steps of linear warm-up.
    #[schemars(range(max = 9007199254740991u64))]
    pub warmup_steps: Option<u64>,
    /// Share of the steps spent in linear warm-down.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmdown_ratio: Option<f64>,
    /// Learning rate at the end, as a share of the peak.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_lr_frac: Option<f64>,
}

/// Starting weights; the short forms are read as one of these.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitSpec {
    /// `random` or `baseline`.
    pub kind: Option<InitKind>,
    /// A safetensors file with the baseline's parameter names.
    pub weights: Option<String>,
}

/// Starting weights that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitKind {
    /// The baseline's distributions, drawn from the run's seed by this program.
    Random,
    /// The very weights that the baseline drew at step 0 with the run's seed.
    Baseline,
}

/// When and on how much to evaluate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// Validation bits per byte every so many steps, and at the end; 0: at the end only.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: Option<u64>,
    /// Tokens of the validation split per evaluation, rounded down to whole batches.
    #[schemars(range(min = 1, max = 9007199254740991u64))]
    pub tokens: Option<u64>,
    /// The CORE metric; leave it out to go without.
    #[schemars(extend("x-nullable" = true))]
    pub core: Option<CoreSpec>,
    /// How far evaluations may drift in the course of a run; without it nothing is judged.
    #[schemars(extend("x-nullable" = true))]
    pub drift: Option<DriftSpec>,
}

/// Bounds on how much more evaluations may cost as a run goes on; one that is left out doesn't bind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftSpec {
    /// Growth of resident memory from the second evaluation to the last.
    #[schemars(range(min = 0.0, max = 1000000000.0))]
    pub max_rss_growth: Option<f64>,
    /// Growth of the time that an evaluation takes, the last third against the first, as a share.
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub max_slowdown: Option<f64>,
}

/// The CORE metric.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoreSpec {
    /// Every so many steps, and at the end; 0: at the end only. The baseline's is 2000, which is the default.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: Option<u64>,
    /// Examples per task; 0: all. The baseline's is 500, which is the default.
    #[schemars(range(max = 9007199254740991u64))]
    pub max_per_task: Option<u64>,
    /// Folder of the evaluation bundle; `~/.cache/nanochat/eval_bundle` by default.
    #[schemars(length(min = 1))]
    pub bundle: Option<String>,
}

/// Checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Every so many steps, and at the end; 0: at the end only.
    #[schemars(range(max = 9007199254740991u64))]
    pub every: Option<u64>,
    /// How many of the newest are kept.
    #[schemars(range(min = 1, max = 1000000))]
    pub keep: Option<u64>,
}

/// What follows when the loss stops being a number or explodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDivergence {
    /// The run fails; its last good checkpoint stays.
    Stop,
    /// Weights and optimizer go back to the last scheduled checkpoint, the data goes on; at most three times a run.
    Rollback,
}

/// Quality metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityMetric {
    /// Validation bits per byte; less is better.
    ValBpb,
    /// The CORE metric; more is better.
    CoreMetric,
}

/// When the candidate counts as no worse.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualitySpec {
    /// What is judged.
    pub metric: Option<QualityMetric>,
    /// How much worse the candidate may be.
    pub tolerance: Option<ToleranceSpec>,
}

/// Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToleranceSpec {
    /// As a share of the baseline's figure.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.002)]
    pub relative: Option<f64>,
    /// In the metric's own unit.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub absolute: Option<f64>,
}

/// Speed metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeedMetric {
    /// Training tokens a second, optimizer included, median after warm-up.
    TokensPerSecond,
}

/// When the candidate counts as fast enough.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedSpec {
    /// What is judged.
    pub metric: Option<SpeedMetric>,
    /// Candidate over baseline, at least.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub min_ratio: Option<f64>,
}

/// Levels of reproducibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Same seed, machine and build: same loss trace and weights, bit for bit.
    Bitwise,
    /// Another machine or thread count: final bits per byte within a stated bound.
    Numeric,
    /// Other seeds: within the noise between seeds.
    Statistical,
}

/// What repeated runs must equal.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReproducibilitySpec {
    /// Extra runs of the first seed of each cell; 0: none.
    #[schemars(range(max = 100))]
    pub repeats: Option<u64>,
    /// What they must equal.
    pub require: Option<Require>,
}

/// Versions of the judging rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ruleset {
    /// The first.
    V1,
}

/// Variations of the spec, by dotted keys such as `model.depth`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatrixSpec {
    /// Dotted key to its values; every combination is a cell, the first key varying slowest.
    pub axes: Option<BTreeMap<String, Vec<Value>>>,
    /// Groups of keys walked in step, each crossed with the axes; the lists of a group are equally long.
    pub zip: Option<Vec<BTreeMap<String, Vec<Value>>>>,
    /// Cells to leave out: those that have all of an entry's values. An entry that matches none is an error.
    pub exclude: Option<Vec<BTreeMap<String, Value>>>,
    /// Cells to add. One that is there already is an error.
    pub include: Option<Vec<BTreeMap<String, Value>>>,
}
