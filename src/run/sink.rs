//! The checkpoint sink of a run: each checkpoint holds the tokenizer and the plan, so that it can be used elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;

use nanochat_artifacts::{Continued, canonical_json};
use nanochat_engine::checkpoint::{CheckpointError, Checkpoints, Content, Loaded, RunLock};
use nanochat_engine::train::{CheckpointSink, Snapshot, TrainError};
use nanochat_plan::{OnDivergence, RunPlan};

use super::RunError;
use super::inputs::{self, Inputs};

/// Name of the file in a checkpoint that says what its run went on from before.
const CONTINUED: &str = "continued.json";

/// What the run of a checkpoint went on from before it was saved.
pub(super) fn continued_before(loaded: &Loaded) -> Result<Vec<Continued>, RunError> {
    let Some(bytes) = loaded.files.get(CONTINUED) else { return Ok(Vec::new()) };
    serde_json::from_slice(bytes).map_err(|error| {
        let reason = format!("{CONTINUED}: {error}");
        CheckpointError::Damaged { path: loaded.path.clone(), reason }.into()
    })
}

/// Writes snapshots as checkpoints, each with the tokenizer and the plan.
pub(super) struct StoreSink<'a> {
    store: &'a Checkpoints,
    device: Device,
    files: BTreeMap<String, Vec<u8>>,
    keep: usize,
    /// The newest scheduled checkpoint must be kept, whatever is saved at stops.
    rolls_back: bool,
    every: u64,
    lock: Option<&'a RunLock>,
}

impl<'a> StoreSink<'a> {
    /// A sink over a run's checkpoint store.
    pub(super) fn new(
        store: &'a Checkpoints,
        plan: &RunPlan,
        tokenizer: String,
        inputs: &Inputs,
        device: Device,
    ) -> Result<Self, RunError> {
        let files = BTreeMap::from([
            ("tokenizer.json".to_string(), tokenizer.into_bytes()),
            ("plan.json".to_string(), canonical_json(Path::new("plan.json"), plan)?.into_bytes()),
            (inputs::FILE.to_string(), canonical_json(Path::new(inputs::FILE), inputs)?.into_bytes()),
        ]);
        let keep = plan.checkpoint.keep.max(1) as usize;
        let rolls_back = plan.on_divergence == OnDivergence::Rollback;
        Ok(Self { store, device, files, keep, rolls_back, every: plan.checkpoint.every, lock: None })
    }

    /// Refuses to save once another process has the run.
    pub(super) fn owned_by(self, lock: &'a RunLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// The same for a run that went on from checkpoints, which the next ones name.
    pub(super) fn continued(mut self, from: &[Continued]) -> Result<Self, RunError> {
        if !from.is_empty() {
            let text = canonical_json(Path::new(CONTINUED), &from)?;
            self.files.insert(CONTINUED.to_string(), text.into_bytes());
        }
        Ok(self)
    }

    /// How many checkpoints to keep, the one of `step` included.
    fn kept(&self, step: u64, scheduled: bool) -> usize {
        if scheduled || !self.rolls_back {
            return self.keep;
        }
        let needed = step.checked_rem(self.every).map_or(0, |beyond| step - beyond);
        let since = self.store.steps().into_iter().filter(|other| (needed..step).contains(other)).count();
        self.keep.max(since + 1)
    }
}

impl CheckpointSink for StoreSink<'_> {
    fn save(&mut self, snapshot: &Snapshot<'_>, scheduled: bool) -> Result<(), TrainError> {
        if let Some(lock) = self.lock {
            lock.require()?;
        }
        let keep = self.kept(snapshot.step, scheduled);
        let content = Content { tensors: &snapshot.tensors, state: &snapshot.state, files: &self.files };
        self.store.save_content(snapshot.step, &content, keep)?;
        Ok(())
    }

    fn load(&mut self, step: u64) -> Result<Snapshot<'static>, TrainError> {
        let loaded = self.store.load(step, &self.device)?;
        Ok(Snapshot::loaded(step, loaded.tensors, loaded.state))
    }
}
