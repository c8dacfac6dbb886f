//! Records a failure before the first step like one in training, so that `plan` and reports show it.

use std::collections::BTreeMap;

use nanochat_artifacts::{
    RunFolder, RunStatus, Summary, create_folder, file_sha256, loss_trace_sha256, read_document, write_document,
    write_evals, write_steps,
};
use nanochat_engine::checkpoint::{CheckpointError, Checkpoints};
use nanochat_engine::device::memory;
use nanochat_plan::RunPlan;

use super::{RunError, environment, with_help};

/// Whether the run's folder is another process's.
pub fn is_anothers(error: &RunError) -> bool {
    matches!(error, RunError::Checkpoint(CheckpointError::Locked { .. } | CheckpointError::Lost { .. }))
}

/// Writes plan, environment, empty tables and a summary with the reason, unless the folder belongs to another process,
/// has a checkpoint to continue from, or already holds this failure.
///
/// # Errors
/// A document can't be written.
pub fn record(plan: &RunPlan, folder: &RunFolder, error: &RunError, hardware_matches: bool) -> Result<(), RunError> {
    let resumable = Checkpoints::open(&folder.checkpoints()).is_ok_and(|store| !store.steps().is_empty());
    let reason = with_help(error);
    let recorded = read_document::<Summary>(&folder.summary())
        .is_ok_and(|summary| summary.plan_hash == plan.plan_hash && summary.reason.as_deref() == Some(reason.as_str()));
    if resumable || recorded || is_anothers(error) {
        return Ok(());
    }
    create_folder(folder.path())?;
    write_document(&folder.plan(), plan)?;
    write_steps(&folder.steps(), &[])?;
    write_evals(&folder.evals(), &[])?;
    write_document(&folder.environment(), &environment(plan, hardware_matches))?;
    let hashes = [("steps.parquet", folder.steps()), ("evals.parquet", folder.evals())]
        .into_iter()
        .map(|(name, path)| Ok((name.to_string(), file_sha256(&path)?)))
        .collect::<Result<BTreeMap<_, _>, RunError>>()?;
    let summary = Summary {
        schema: "nanochat.summary/v1".to_string(),
        run_id: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        status: RunStatus::Failed,
        reason: Some(reason),
        steps: 0,
        tokens: 0,
        final_val_bpb: None,
        min_val_bpb: None,
        core_metric: None,
        train_loss: None,
        tokens_per_second: None,
        training_seconds: 0.0,
        elapsed_seconds: 0.0,
        startup_seconds: None,
        peak_rss_bytes: memory::peak_resident_bytes(),
        peak_device_bytes: None,
        weights_sha256: None,
        initial_weights_sha256: None,
        loss_trace_sha256: Some(loss_trace_sha256(&[])),
        data_sha256: String::new(),
        tokenizer_sha256: String::new(),
        bundle_sha256: None,
        first_batch_sha256: None,
        files_sha256: hashes,
        rollbacks: Vec::new(),
        adopted_steps: 0,
        continued_from: Vec::new(),
        arm: None,
    };
    Ok(write_document(&folder.summary(), &summary)?)
}
