//! What the baseline resumes pretraining from beside the weights: optimizer state, place in the data, the loop's figures.

use std::path::Path;

use candle_core::Device;
use serde_json::{Value, json};

use super::ExportError;
use nanochat_artifacts::StepRow;
use nanochat_engine::checkpoint::baseline::load_optimizer;
use nanochat_engine::checkpoint::{Checkpoints, Loaded, tensors_sha256};
use nanochat_engine::optim::{GroupState, LearningRates, SavedGroup, Schedule, Setting, from_baseline, to_baseline};
use nanochat_engine::trained::Trained;
use nanochat_formats::torch::{TorchValue, write_torch_file};
use nanochat_plan::RunPlan;

/// Decay of the loss that the baseline shows.
const LOSS_DECAY: f64 = 0.9;
/// Steps whose seconds the baseline leaves out of its training time.
const UNCOUNTED_STEPS: u64 = 10;

/// A run's whole state, if the model was opened from one of our own checkpoints.
pub(super) fn state_of(trained: &Trained) -> Result<Option<Loaded>, ExportError> {
    let folder = trained.path.parent().filter(|_| trained.plan.is_some());
    folder.map(|folder| Ok(Checkpoints::open(folder)?.load(trained.step, &Device::Cpu)?)).transpose()
}

/// Writes `optim_<step>_rank0.pt`, and holds what is read back from it against the source, bit by bit.
pub(super) fn write_optimizer(plan: &RunPlan, loaded: &Loaded, folder: &Path) -> Result<(), ExportError> {
    let state = loaded
        .tensors
        .get("optimizer")
        .ok_or_else(|| ExportError::Weights { reason: "the checkpoint has no optimizer state".into() })?;
    let settings = Schedule::of(plan).at(loaded.step.saturating_sub(1));
    let groups = to_baseline(&plan.model, state, &LearningRates::of(plan), &settings)?;
    let value = saved(groups, loaded.step);
    write_torch_file(&folder.join(format!("optim_{:06}_rank0.pt", loaded.step)), &value)?;
    let back = load_optimizer(folder, loaded.step, 0, &Device::Cpu)?;
    let back: Vec<GroupState<'_>> =
        back.iter().map(|group| GroupState { kind: &group.kind, state: &group.state }).collect();
    if tensors_sha256(&from_baseline(&plan.model, &back)?)? != tensors_sha256(state)? {
        return Err(ExportError::Weights { reason: "the optimizer state reads back as another one".into() });
    }
    Ok(())
}

/// `{"state": {place: {name: tensor}}, "param_groups": [{…, "params": [place]}]}`, as PyTorch's optimizers have it.
fn saved(groups: Vec<SavedGroup>, step: u64) -> TorchValue {
    let text = |name: &str| TorchValue::Text(name.to_string());
    let (mut states, mut described, mut place) = (Vec::new(), Vec::new(), 0i64);
    for group in groups {
        let mut entries = vec![(text("kind"), text(group.kind))];
        entries.extend(group.settings.into_iter().map(|(name, setting)| {
            let value = match setting {
                Setting::Number(number) => TorchValue::Float(number),
                Setting::Whole(number) => TorchValue::Int(number),
                Setting::Pair(pair) => TorchValue::List(pair.map(TorchValue::Float).into()),
            };
            (text(name), value)
        }));
        let places = place..place + group.state.len() as i64;
        entries.push((text("params"), TorchValue::List(places.clone().map(TorchValue::Int).collect())));
        described.push(TorchValue::Dict(entries));
        for (place, tensors) in places.clone().zip(group.state).filter(|(_, tensors)| !tensors.is_empty()) {
            let mut own: Vec<_> =
                tensors.into_iter().map(|(name, tensor)| (text(name), TorchValue::Tensor(tensor))).collect();
            if group.kind == "adamw" {
                own.push((text("step"), TorchValue::Int(step as i64)));
            }
            states.push((TorchValue::Int(place), TorchValue::Dict(own)));
        }
        place = places.end;
    }
    TorchValue::Dict(vec![
        (text("state"), TorchValue::Dict(states)),
        (text("param_groups"), TorchValue::List(described)),
    ])
}

/// Where the baseline's loader goes on: behind the row group that was read last. None where the data is no parquet.
pub(super) fn place_in_data(plan: &RunPlan, loaded: &Loaded) -> Option<Value> {
    if !plan.data.is_parquet() {
        return None;
    }
    let number = |key: &str| loaded.state.pointer(&format!("/loader/{key}"))?.as_u64();
    let (shard, group, document) = (number("shard")?, number("group")?, number("document")?);
    // Ours names the next document, the baseline the group that it came from last; none says the shard's beginning.
    let last = if document > 0 { Some(group) } else { group.checked_sub(1) };
    Some(json!({ "pq_idx": shard, "rg_idx": last, "epoch": number("epoch")? }))
}

/// The loop's own figures.
pub(super) fn loop_state(loaded: &Loaded, val_bpb: Option<f64>) -> Value {
    let rows = |key: &str| loaded.state.pointer(&format!("/history/{key}")).and_then(Value::as_array);
    let evals = rows("evals").into_iter().flatten().filter_map(|row| row.get("val_bpb")?.as_f64());
    // The baseline compares with it: without any evaluation everything is less.
    let least = evals.chain(val_bpb).fold(f64::MAX, f64::min);
    let steps: Vec<StepRow> =
        rows("steps").into_iter().flatten().filter_map(|row| serde_json::from_value(row.clone()).ok()).collect();
    let smooth = steps.iter().fold(0.0, |smooth, row| LOSS_DECAY * smooth + (1.0 - LOSS_DECAY) * row.loss);
    let seconds: f64 = steps.iter().filter(|row| row.step > UNCOUNTED_STEPS).map(|row| row.seconds).sum();
    json!({ "min_val_bpb": least, "smooth_train_loss": smooth, "total_training_time": seconds })
}
