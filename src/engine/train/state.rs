//! What a checkpoint holds, and what a run remembers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::StoredTensor;
use crate::data::LoaderState;
use crate::engines::Group;
use nanochat_artifacts::{EvalRow, Rollback, StepRow};

/// Named groups of tensors, which the engine may still hold, and one JSON state: what the checkpoint room stores.
pub struct Snapshot<'a> {
    /// Steps done.
    pub step: u64,
    /// `model` and `optimizer`, by parameter name.
    pub tensors: BTreeMap<String, Group<'a>>,
    /// Everything else, a serialised [`TrainState`].
    pub state: serde_json::Value,
}

/// Everything beside tensors that the next step depends on, and the history so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainState {
    /// Hash of the plan that this state belongs to.
    pub plan_hash: String,
    /// Position of the data stream, with its whole buffer.
    pub loader: LoaderState,
    /// Rows so far.
    pub history: History,
}

/// What a run remembers: one row a step and an evaluation, and time spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// One row a step.
    pub steps: Vec<StepRow>,
    /// One row an evaluation.
    pub evals: Vec<EvalRow>,
    /// Seconds of wall clock over all sessions.
    pub elapsed_seconds: f64,
    /// Highest resident memory seen, in bytes, over all sessions.
    pub peak_rss_bytes: u64,
    /// Most memory seen in use on a GPU, in bytes.
    #[serde(default)]
    pub peak_device_bytes: Option<u64>,
    /// SHA-256 of the first micro-batch.
    pub first_batch_sha256: Option<String>,
    /// Evaluations that failed: step and reason.
    pub failed_evals: Vec<(u64, String)>,
    /// Divergences that the run went back from.
    #[serde(default)]
    pub rollbacks: Vec<Rollback>,
    /// Steps at the start that the baseline took.
    #[serde(default)]
    pub adopted_steps: u64,
}

impl History {
    /// Whether the model was evaluated after `step` steps.
    pub fn evaluated(&self, step: u64) -> bool {
        self.evals.iter().any(|row| row.step == step)
    }

    /// Lowest validation bits per byte so far.
    pub fn min_val_bpb(&self) -> Option<f64> {
        self.evals.iter().filter_map(|row| row.val_bpb).min_by(f64::total_cmp)
    }

    /// Validation bits per byte at the last evaluation.
    pub fn final_val_bpb(&self) -> Option<f64> {
        self.evals.iter().rev().find_map(|row| row.val_bpb)
    }

    /// CORE metric at the last evaluation.
    pub fn core_metric(&self) -> Option<f64> {
        self.evals.iter().rev().find_map(|row| row.core_metric)
    }
}

impl Snapshot<'static> {
    /// What a checkpoint gave back.
    pub fn loaded(
        step: u64,
        tensors: BTreeMap<String, BTreeMap<String, candle_core::Tensor>>,
        state: serde_json::Value,
    ) -> Self {
        let stored = |group: BTreeMap<String, candle_core::Tensor>| {
            group.into_iter().map(|(name, tensor)| (name, StoredTensor::Tensor(tensor))).collect()
        };
        Self { step, tensors: tensors.into_iter().map(|(name, group)| (name, stored(group))).collect(), state }
    }
}
