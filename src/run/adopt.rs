//! A checkpoint of the baseline's as the beginning of a run of ours: weights, optimizer state, and the place in the data.

use std::path::Path;

use nanochat_artifacts::{RunFolder, create_folder, write_document};
use nanochat_engine::checkpoint::{Checkpoints, RunLock, baseline};
use nanochat_engine::model::Gpt;
use nanochat_engine::optim::{GroupState, from_baseline};
use nanochat_engine::train::{Inputs, Trainer};
use nanochat_plan::{ModelShape, RunPlan};

use super::resources::{Resources, open_device};
use super::sink::StoreKeeper;
use super::{RunError, RunState, state_of};

/// Makes the baseline's checkpoint in `from` the newest checkpoint of a run that has none; the step that the run goes on from.
///
/// The data goes on where the baseline's own unbroken run would have: as many batches as it took are passed over here.
///
/// # Errors
/// A run that has begun, a checkpoint of another shape or batch or past the plan's end, state that isn't whole.
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
        return Err(refuse(format!("the run {} has begun already; start over with `run --force`", plan.run_id)));
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
        // Other batches would come in another order: the data would not go on where it was.
        match loaded.meta.get(name).and_then(serde_json::Value::as_u64) {
            Some(theirs) if theirs != ours => {
                return Err(refuse(format!("its {name} is {theirs}, the plan's {ours}")));
            }
            _ => {}
        }
    }
    if loaded.step > plan.num_iterations {
        return Err(refuse(format!("it is of step {}, the plan ends at {}", loaded.step, plan.num_iterations)));
    }
    let groups: Vec<GroupState<'_>> =
        groups.iter().map(|group| GroupState { kind: &group.kind, state: &group.state }).collect();
    let state = from_baseline(&shape, &groups).map_err(|error| refuse(error.to_string()))?;
    let corpus = resources.corpus(&plan.data)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let model = Gpt::from_tensors(&shape, &loaded.weights.into_iter().collect(), &device)?;
    let text = tokenizer.to_json()?;
    let mut trainer = Trainer::new(Inputs { plan, corpus, tokenizer, model, device: device.clone(), bundle: None })?;
    trainer.adopt(loaded.step, &state)?;
    write_document(&folder.plan(), plan)?;
    let store = Checkpoints::open(&folder.checkpoints())?;
    trainer.save(&mut StoreKeeper::new(&store, plan, text, device)?)?;
    Ok(loaded.step)
}
