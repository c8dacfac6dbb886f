//! What an export leaves: where the model comes from, which files it became, and how they were held against it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use nanochat_plan::ModelShape;

/// `export.json`: what an exported folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// `nanochat.export/v1`.
    pub schema: String,
    /// What the folder is for.
    pub layout: ExportLayout,
    /// Type that the weights' matrices are stored in; the few scalars are always f32.
    pub weights: ExportType,
    /// Model shape.
    pub model: ModelShape,
    /// Number of parameters.
    pub parameters: u64,
    /// Where the model comes from.
    pub source: ExportSource,
    /// What is known of its quality; none where the source has no finished run around it.
    pub figures: Option<ExportFigures>,
    /// Every other file by its path in the folder.
    pub files: BTreeMap<String, ExportFile>,
    /// How the files were held against the source.
    pub checks: Vec<ExportCheck>,
    /// What the export leaves out or was not held against.
    pub remarks: Vec<String>,
    /// Version of this program.
    pub program_version: String,
    /// Full commit of this program's source, when it was built from a checkout.
    pub program_commit: Option<String>,
}

/// What an exported folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportLayout {
    /// Weights as safetensors, with Hugging Face's descriptions beside them.
    Safetensors,
    /// ONNX graphs, with and without key/value cache.
    Onnx,
    /// A base folder of karpathy/nanochat.
    Baseline,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl ExportType {
    /// As the command line and the files' descriptions write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// PyTorch's name of it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// Where an exported model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportSource {
    /// `run` of this program, or a checkpoint of the `baseline`.
    pub program: String,
    /// Name of the experiment.
    pub experiment: Option<String>,
    /// Run id.
    pub run_id: Option<String>,
    /// Hash of the run's plan.
    pub plan_hash: Option<String>,
    /// The run's seed.
    pub seed: Option<u64>,
    /// The step after which the checkpoint was saved.
    pub step: u64,
    /// Full commit of the program that trained it.
    pub code_commit: Option<String>,
    /// Whether that checkout had no changes.
    pub code_clean: Option<bool>,
    /// SHA-256 of the documents, in order, both splits.
    pub data_sha256: Option<String>,
    /// SHA-256 of the tokenizer's ranks and special tokens.
    pub tokenizer_sha256: String,
    /// SHA-256 of the weights in f32, by name.
    pub weights_sha256: String,
}

/// What is known of an exported model's quality, from the documents around its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportFigures {
    /// Tokens trained on.
    pub tokens: u64,
    /// Validation bits per byte of these weights.
    pub val_bpb: Option<f64>,
    /// CORE metric of these weights.
    pub core_metric: Option<f64>,
    /// Verdicts of the experiment's scorecard, over all its runs: quality, speed, reproducibility.
    pub verdicts: BTreeMap<String, ExportVerdict>,
}

/// A verdict as a scorecard has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// The sentence that explains it.
    pub reason: String,
}

/// An exported file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportFile {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// One comparison of exported files with the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportCheck {
    /// The file.
    pub file: String,
    /// What was compared with what, and by which means.
    pub quantity: String,
    /// Numbers compared.
    pub numbers: u64,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// The most that it may be; none where the difference is told and not judged.
    pub bound: Option<f64>,
}
