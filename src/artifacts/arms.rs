//! What is recorded of arms: how they differ, and what shows that a checkout did what its run says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use nanochat_plan::ArmEngine;

/// `results/<experiment>/arms.json`: the arms of an experiment and what differs between their commits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmsRecord {
    /// `nanochat.arms/v1`.
    pub schema: String,
    /// Name of the arm that the others are compared with.
    pub control: String,
    /// Every arm, the control first.
    pub arms: Vec<ArmRecord>,
}

impl ArmsRecord {
    /// The arm of a name.
    pub fn arm(&self, name: &str) -> Option<&ArmRecord> {
        self.arms.iter().find(|arm| arm.name == name)
    }
}

/// One arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmRecord {
    /// Its name.
    pub name: String,
    /// Who carries it out.
    pub engine: ArmEngine,
    /// Full commit of the checkout.
    pub commit: Option<String>,
    /// Flags that the arm adds.
    pub flags: BTreeMap<String, String>,
    /// What differs from the control's commit; none for the control, the same commit, and this program.
    pub diff: Option<CommitDiff>,
    /// Why there is no diff though the commits differ.
    pub no_diff_because: Option<String>,
}

/// What differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitDiff {
    /// The control's commit.
    pub against: String,
    /// Changed files, in order of path.
    pub files: Vec<ChangedFile>,
    /// The diff itself, in git's form.
    pub text: String,
    /// The text was cut, since it was too long.
    pub is_cut: bool,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedFile {
    /// Its path in the repository.
    pub path: String,
    /// Lines added; none for a binary file.
    pub added: Option<u64>,
    /// Lines removed; none for a binary file.
    pub removed: Option<u64>,
}

/// What shows that the run of an arm did what it says, part of `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmEvidence {
    /// Flags given to the training script.
    pub flags: Vec<String>,
    /// How often the script asked for its fixed seed and was given the run's.
    pub seed_requests: u64,
    /// The first losses as the script prints them, which differ where the seed took effect.
    pub first_losses: Vec<f64>,
    /// How attention is computed, as the script says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<String>,
    /// The checkout's own loader and tokenizer give this program's first micro-batches.
    pub batches_agree: bool,
    /// What differs from this program's data, tokenizer and evaluation, each as a phrase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// SHA-256 of the checkout's first validation micro-batch.
    pub first_validation_batch_sha256: String,
    /// What the checkout's evaluation says of a model that is made up for the purpose, in bits per byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_probe: Option<f64>,
    /// SHA-256 of the script's output.
    pub log_sha256: String,
    /// Warnings in the output, and what was passed over in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The last lines of the output, of a run that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// Compiled kernels were there from an earlier run.
    pub warm_compile_cache: bool,
    /// Every device, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceUse>,
}

/// One of several devices in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceUse {
    /// Its number.
    pub device: u64,
    /// Most memory in use in bytes, by all its users.
    pub peak_memory_bytes: u64,
    /// Mean utilisation in percent, as the driver says, from the first step on.
    pub mean_utilisation: f64,
}

/// The block that a run was part of: one run of each arm, back to back in one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunBlock {
    /// When the session began, UTC, RFC 3339; runs of one session have the same.
    pub session: String,
    /// Number of the block in the session, from 1.
    pub number: u64,
    /// Place of the run in the block, from 1.
    pub place: u64,
}
