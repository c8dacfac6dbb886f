//! Starts a run from a checkpoint of the baseline: weights, optimizer state, and the position in the data.

use std::path::Path;

use nanochat_artifacts::{RunFolder, create_folder, write_document};
use nanochat_engine::cache::Secret;
use nanochat_engine::checkpoint::{Checkpoints, RunLock, baseline};
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::model::Gpt;
use nanochat_engine::optim::{GroupState, from_baseline};
use nanochat_engine::train::{self, TrainError, Trainer};
use nanochat_plan::{ModelShape, RunPlan};

use super::inputs::Inputs;
use super::resources::{Resources, open_device};
use super::sink::StoreSink;
use super::{RunError, RunState, state_of};

/// Makes the baseline's checkpoint in `from` the newest checkpoint of a run that has none; returns its step.
///
/// The data continues where the baseline's own run would have: the batches that it trained on are skipped.
///
/// # Errors
/// A run that has started, a checkpoint of another shape or batch or past the plan's end, incomplete state.
pub fn adopt(
    plan: &RunPlan,
    folder: &RunFolder,
    resources: &mut Resources,
    from: &Path,
    step: Option<u64>,
) -> Result<u64, RunError> {
    create_folder(folder.path())?;
    let _lock = RunLock::acquire(folder.path())?;
    let refuse = |reason: String| RunError::Adoption { path: from.display().to_string(), reason };
    if !matches!(state_of(plan, folder), RunState::New | RunState::Failed { .. }) {
        return Err(refuse(format!("the run {} has already started; start over with `run --force`", plan.run_id)));
    }
    let device = open_device(plan)?;
    let loaded = baseline::load(from, step, &device)?;
    let groups = baseline::load_optimizer(from, loaded.step, 0, &device)?;
    let shape: ModelShape =
        serde_json::from_value(loaded.model_config).map_err(|error| refuse(format!("its configuration: {error}")))?;
    if shape != plan.model {
        return Err(refuse(format!("its model is {shape:?}, the plan's {:?}", plan.model)));
    }
    let planned = [
        ("device_batch_size", plan.device_batch_size),
        ("max_seq_len", plan.model.sequence_len as u64),
        ("total_batch_size", plan.total_batch_size),
    ];
    for (name, ours) in planned {
        // With other batches the data would not continue where it was.
        match loaded.meta.get(name).and_then(serde_json::Value::as_u64) {
            Some(theirs) if theirs != ours => {
                return Err(refuse(format!("its {name} is {theirs}, the plan's {ours}")));
            }
            _ => {}
        }
    }
    if loaded.step > plan.num_iterations {
        return Err(refuse(format!("its step is {}, the plan ends at {}", loaded.step, plan.num_iterations)));
    }
    let groups: Vec<GroupState<'_>> =
        groups.iter().map(|group| GroupState { kind: &group.kind, state: &group.state }).collect();
    let state = from_baseline(&shape, &groups).map_err(|error| refuse(error.to_string()))?;
    let corpus = resources.corpus(&plan.data)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let model = Gpt::from_tensors(&shape, &loaded.weights.into_iter().collect(), &device)?;
    let inputs = Inputs::new(plan, &corpus, &tokenizer, None, None)?;
    let engine = engines::open(model, &Setup::of(plan)).map_err(TrainError::from)?;
    let text = tokenizer.to_json()?;
    let mut trainer =
        Trainer::new(train::Inputs { plan, corpus, tokenizer, engine, device: device.clone(), bundle: None })?;
    trainer.adopt(loaded.step, &state)?;
    write_document(&folder.plan(), plan)?;
    let store = Checkpoints::open(&folder.checkpoints())?.sealed_with(Secret::of_this_user());
    trainer.save(&mut StoreSink::new(&store, plan, text, &inputs, device)?)?;
    Ok(loaded.step)
}
