//! The weights that the baseline starts from, so that both arms can start from the same (`init: baseline`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::arm::{Variant, variables};
use super::base_folder::BaseFolder;
use super::python::{Python, Script, device_type};
use super::{BaselineError, Checkout};
use nanochat_artifacts::{ResultsRoot, files, write_atomic};
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_formats::torch::read_torch_file;
use nanochat_plan::RunPlan;

/// Writes the weights of every plan that starts from them to where `nanochat run` looks for them; files that exist
/// stay as they are. Returns the files.
///
/// # Errors
/// As [`initial_weights`], or a file can't be written.
pub fn write_initial_weights(
    plans: &[RunPlan],
    place: (&Checkout, &Python, &BaseFolder),
    root: &ResultsRoot,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<PathBuf>, BaselineError> {
    let mut paths = Vec::new();
    for plan in plans {
        let path = root.baseline_weights(&place.0.commit, plan)?;
        if paths.contains(&path) {
            continue;
        }
        if !path.is_file() {
            let weights = initial_weights(plan, Variant::of(plan), place, stop)?;
            let bytes = safetensors::serialize(&weights, None)
                .map_err(|error| BaselineError::Unreadable { path: path.clone(), reason: error.to_string() })?;
            write_atomic(&path, &bytes)?;
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The answer of `initial_weights.py`.
#[derive(Deserialize)]
struct Answer {
    tensors: usize,
}

/// Weights by the baseline's parameter names, in f32, as its training script has them before the first step: its own
/// code builds and initialises the model. Drawn with the plan's seed, which is the script's own only when it is
/// [`super::BASELINE_SEED`]. In bf16 the baseline rounds its embeddings.
///
/// # Errors
/// The baseline's own code fails on this shape, its file can't be read, or the user asked to stop.
pub fn initial_weights(
    plan: &RunPlan,
    variant: Variant,
    (checkout, python, base): (&Checkout, &Python, &BaseFolder),
    stop: &dyn Fn() -> bool,
) -> Result<BTreeMap<String, Tensor>, BaselineError> {
    let path = base.path().join("initial_weights.pt");
    let unreadable = |reason: String| BaselineError::Unreadable { path: path.clone(), reason };
    let config = serde_json::to_string(&plan.model).map_err(|error| unreadable(error.to_string()))?;
    let script = Script {
        text: include_str!("scripts/initial_weights.py"),
        name: "initial-weights",
        task: "drawing its initial weights",
        arguments: &[
            device_type(plan.device).to_string(),
            plan.seed.to_string(),
            config,
            path.to_string_lossy().into_owned(),
        ],
    };
    let answer: Answer = python.ask(checkout, &script, &variables(base, variant), stop)?;
    let tensors = read_torch_file(&path, &Device::Cpu).map_err(CheckpointError::from)?.into_tensors();
    let tensors = tensors.ok_or_else(|| unreadable("it holds something other than named tensors".into()))?;
    let widened = |tensor: Tensor| tensor.to_dtype(DType::F32).map_err(|error| unreadable(error.to_string()));
    let weights = tensors.into_iter().map(|(name, tensor)| Ok((name, widened(tensor)?)));
    let weights = weights.collect::<Result<BTreeMap<_, _>, BaselineError>>()?;
    if weights.len() != answer.tensors {
        return Err(unreadable(format!("it holds {} tensors, {} were written", weights.len(), answer.tensors)));
    }
    files::remove(&path).map_err(BaselineError::io("remove", &path))?;
    Ok(weights)
}
