//! Reads the checkpoints that karpathy/nanochat writes with `torch.save`: `model_<step>.pt`, `optim_<step>_rank<r>.pt`,
//! `meta_<step>.json` and `token_bytes.pt`; and writes such files, which it loads.
//!
//! Old checkpoints are mended as the baseline's own loader (`nanochat/checkpoint_manager.py`) mends them: the prefix
//! `_orig_mod.` goes, bf16 becomes f32, a missing `window_pattern` is `L`, missing `resid_lambdas` are ones, missing
//! `x0_lambdas` are zeros.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use nanochat_artifacts::files;
use nanochat_formats::torch::{TorchValue, read_torch_file, write_torch_file};

use super::CheckpointError;

/// Largest `meta_<step>.json` that is read, in bytes.
const MAX_META_BYTES: u64 = 16 << 20;

/// Weights and description of a baseline checkpoint.
#[derive(Debug)]
pub struct BaselineCheckpoint {
    /// The step after which it was saved.
    pub step: u64,
    /// Weights by the baseline's parameter names, bf16 widened to f32.
    pub weights: BTreeMap<String, Tensor>,
    /// The baseline's `GPTConfig` as JSON: `sequence_len`, `vocab_size`, `n_layer`, `n_head`, `n_kv_head`, `n_embd`,
    /// `window_pattern`.
    pub model_config: serde_json::Value,
    /// All of `meta_<step>.json`.
    pub meta: serde_json::Value,
    /// What was mended, in words.
    pub mended: Vec<String>,
}

/// One group of the baseline's optimizer, in the order of its `param_groups`.
#[derive(Debug)]
pub struct BaselineGroup {
    /// `adamw` or `muon`.
    pub kind: String,
    /// Numeric settings of the group: `lr`, `initial_lr`, `weight_decay`, …
    pub settings: BTreeMap<String, f64>,
    /// State of each parameter of the group, in the optimizer's order: tensors and, as scalars, step counts. Muon keeps
    /// the stacked state of the whole group at its first parameter.
    pub state: Vec<BTreeMap<String, Tensor>>,
}

/// Steps of the `model_<step>.pt` files in a folder, ascending.
pub fn steps(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("model_")?.strip_suffix(".pt")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    steps
}

/// Loads the weights of one step, or of the newest.
pub fn load(folder: &Path, step: Option<u64>, device: &Device) -> Result<BaselineCheckpoint, CheckpointError> {
    let available = steps(folder);
    let wanted = step.or(available.last().copied());
    let Some(step) = wanted.filter(|step| available.contains(step)) else {
        return Err(CheckpointError::NoSuchStep { folder: folder.into(), step: step.unwrap_or_default(), available });
    };
    let (meta, model_config, mut mended) = load_meta(&folder.join(format!("meta_{step:06}.json")))?;
    let path = folder.join(format!("model_{step:06}.pt"));
    let mut weights = BTreeMap::new();
    let foreign = |reason: String| foreign(&path, "weights", reason);
    let tensors = read_torch_file(&path, device)?.into_tensors();
    for (name, tensor) in tensors.ok_or_else(|| foreign("it holds something other than named tensors".into()))? {
        let name = name.strip_prefix("_orig_mod.").unwrap_or(&name).to_string();
        let tensor = if tensor.dtype() == DType::BF16 { tensor.to_dtype(DType::F32) } else { Ok(tensor) };
        weights.insert(name.clone(), tensor.map_err(|error| CheckpointError::tensor(&name, error))?);
    }
    add_missing_scalars(&mut weights, &model_config, device, &mut mended).map_err(foreign)?;
    Ok(BaselineCheckpoint { step, weights, model_config, meta, mended })
}

/// Loads the optimizer state of one step as one process of the baseline saved it.
pub fn load_optimizer(
    folder: &Path,
    step: u64,
    rank: u64,
    device: &Device,
) -> Result<Vec<BaselineGroup>, CheckpointError> {
    let path = folder.join(format!("optim_{step:06}_rank{rank}.pt"));
    let value = read_torch_file(&path, device)?;
    optimizer_groups(value, device).map_err(|reason| foreign(&path, "optimizer state", reason))
}

/// Reads `token_bytes.pt`: the length in bytes of each token, 0 for special tokens.
pub fn load_token_bytes(path: &Path) -> Result<Vec<u32>, CheckpointError> {
    let foreign = |reason: String| foreign(path, "token lengths", reason);
    let TorchValue::Tensor(tensor) = read_torch_file(path, &Device::Cpu)? else {
        return Err(foreign("it holds something other than one tensor".into()));
    };
    let lengths =
        tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::I64)).and_then(|flat| flat.to_vec1::<i64>());
    let lengths = lengths.map_err(|error| foreign(error.to_string()))?;
    lengths.into_iter().map(|length| u32::try_from(length).map_err(|error| foreign(error.to_string()))).collect()
}

/// Writes `model_<step>.pt` and `meta_<step>.json` into a folder; neither may exist yet. `meta` must hold the step and the
/// `model_config`.
///
/// # Errors
/// A file that exists or can't be written.
pub fn save(
    folder: &Path,
    step: u64,
    weights: &BTreeMap<String, Tensor>,
    meta: &serde_json::Value,
) -> Result<(), CheckpointError> {
    let entries =
        weights.iter().map(|(name, tensor)| (TorchValue::Text(name.clone()), TorchValue::Tensor(tensor.clone())));
    write_torch_file(&folder.join(format!("model_{step:06}.pt")), &TorchValue::Dict(entries.collect()))?;
    let path = folder.join(format!("meta_{step:06}.json"));
    let text = serde_json::to_string_pretty(meta).map_err(|error| foreign(&path, "description", error.to_string()))?;
    write_new(&path, text.as_bytes())
}

/// Writes a new `token_bytes.pt`, as [`load_token_bytes`] reads it.
///
/// # Errors
/// A file that exists or can't be written, a length beyond 32 bits.
pub fn save_token_bytes(path: &Path, lengths: &[u32]) -> Result<(), CheckpointError> {
    let lengths: Vec<i32> = lengths
        .iter()
        .map(|length| i32::try_from(*length).map_err(|error| CheckpointError::tensor("token_bytes", error)))
        .collect::<Result<_, _>>()?;
    let tensor = Tensor::new(lengths, &Device::Cpu).map_err(|error| CheckpointError::tensor("token_bytes", error))?;
    Ok(write_torch_file(path, &TorchValue::Tensor(tensor))?)
}

/// Writes a new file and syncs it.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let created = File::options().write(true).create_new(true).open(path);
    let written = created.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(CheckpointError::io("write", path))
}

fn foreign(path: &Path, kind: &'static str, reason: String) -> CheckpointError {
    CheckpointError::Foreign { path: PathBuf::from(path), kind, reason }
}

/// The description, its model configuration with a window pattern, and what had to be mended.
fn load_meta(path: &Path) -> Result<(serde_json::Value, serde_json::Value, Vec<String>), CheckpointError> {
    let foreign = |reason: String| foreign(path, "description", reason);
    let bytes = files::read_named(path, MAX_META_BYTES).map_err(CheckpointError::io("read", path))?;
    let meta: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    let config = meta.get("model_config").and_then(serde_json::Value::as_object);
    let mut config = config.ok_or_else(|| foreign("it has no `model_config`".into()))?.clone();
    let mut mended = Vec::new();
    if !config.contains_key("window_pattern") {
        config.insert("window_pattern".into(), "L".into());
        mended.push("the missing `window_pattern` is `L`".into());
    }
    Ok((meta, config.into(), mended))
}

/// Adds the per-layer scalars that older models don't have.
fn add_missing_scalars(
    weights: &mut BTreeMap<String, Tensor>,
    model_config: &serde_json::Value,
    device: &Device,
    mended: &mut Vec<String>,
) -> Result<(), String> {
    for (name, value) in [("resid_lambdas", 1f32), ("x0_lambdas", 0f32)] {
        if weights.contains_key(name) {
            continue;
        }
        let layers = model_config.get("n_layer").and_then(serde_json::Value::as_u64);
        let layers = layers.filter(|layers| *layers <= 1 << 16).ok_or("`n_layer` is missing or absurd")? as usize;
        let filled = Tensor::full(value, layers, device).map_err(|error| error.to_string())?;
        weights.insert(name.into(), filled);
        mended.push(format!("the missing `{name}` are {value}"));
    }
    Ok(())
}

/// Sorts the optimizer's two dictionaries into groups.
fn optimizer_groups(value: TorchValue, device: &Device) -> Result<Vec<BaselineGroup>, String> {
    let mut top = value.into_named().ok_or("it is no dictionary")?;
    let Some(TorchValue::List(groups)) = top.remove("param_groups") else {
        return Err("it has no list `param_groups`".into());
    };
    let Some(TorchValue::Dict(states)) = top.remove("state") else {
        return Err("it has no dictionary `state`".into());
    };
    let mut by_index = BTreeMap::new();
    for (key, state) in states {
        let TorchValue::Int(index) = key else { return Err("a key of `state` is no number".into()) };
        let mut tensors = BTreeMap::new();
        for (name, value) in state.into_named().ok_or("a parameter's state is no dictionary")? {
            if let Some(tensor) = value.into_tensor(device).map_err(|error| error.to_string())? {
                tensors.insert(name, tensor);
            }
        }
        by_index.insert(index, tensors);
    }
    groups.into_iter().map(|group| optimizer_group(group, &mut by_index)).collect()
}

fn optimizer_group(
    group: TorchValue,
    states: &mut BTreeMap<i64, BTreeMap<String, Tensor>>,
) -> Result<BaselineGroup, String> {
    let mut group = group.into_named().ok_or("a parameter group is no dictionary")?;
    let Some(TorchValue::Text(kind)) = group.remove("kind") else {
        return Err("a parameter group has no `kind`".into());
    };
    let Some(TorchValue::List(params)) = group.remove("params") else {
        return Err("a parameter group has no list `params`".into());
    };
    let state = params.iter().map(|index| match index {
        TorchValue::Int(index) => Ok(states.remove(index).unwrap_or_default()),
        _ => Err("a parameter group names a parameter by something other than a number".to_string()),
    });
    let state = state.collect::<Result<_, _>>()?;
    let settings = group.into_iter().filter_map(|(name, value)| Some((name, value.as_number()?))).collect();
    Ok(BaselineGroup { kind, settings, state })
}
