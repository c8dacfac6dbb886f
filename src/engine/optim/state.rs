//! The optimizer's state by name, as checkpoints hold it: `exp_avg.…` and `exp_avg_sq.…` of AdamW's parameters,
//! `momentum_buffer.…` and `second_momentum_buffer.…` of Muon's, and `step`, the number of steps taken, as one i64.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::OptimError;
use nanochat_plan::parameters::{Entry, Group, ParameterLayout};

/// Name of the state tensor that counts steps.
pub const STEP: &str = "step";

/// State that fits a model.
#[derive(Debug)]
pub struct Moments<'a> {
    /// First and second moment of every parameter, in the order of the layout.
    pub moments: Vec<[&'a Tensor; 2]>,
    /// Steps taken.
    pub steps: u64,
}

/// Names of the two state tensors of a parameter.
pub fn moment_names(entry: &Entry) -> [String; 2] {
    let kinds = match entry.group {
        Group::Muon => ["momentum_buffer", "second_momentum_buffer"],
        _ => ["exp_avg", "exp_avg_sq"],
    };
    let name = entry.parameter.name();
    kinds.map(|kind| format!("{kind}.{name}"))
}

/// The state among named tensors, or everything that is wrong with it.
pub fn moments_of<'a>(
    layout: &ParameterLayout,
    tensors: &'a BTreeMap<String, Tensor>,
) -> Result<Moments<'a>, OptimError> {
    let mut problems = Vec::new();
    let (mut moments, mut known) = (Vec::new(), vec![STEP.to_string()]);
    let mut entries: Vec<(String, &Entry)> =
        layout.entries().iter().map(|entry| (entry.parameter.name(), entry)).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (_, entry) in &entries {
        let names = moment_names(entry);
        let taken = names.iter().zip([entry.dims(), entry.second_dims()]);
        problems.extend(taken.filter_map(|(name, dims)| fitting(tensors, name, &dims).err()));
        known.extend(names);
    }
    let steps = steps_of(tensors).map_err(|problem| problems.push(problem)).unwrap_or_default();
    let unknown = tensors.keys().filter(|name| !known.contains(name));
    problems.extend(unknown.map(|name| format!("{name}: the optimizer has no state of that name")));
    for entry in layout.entries() {
        let names = moment_names(entry);
        if let [Some(first), Some(second)] = names.each_ref().map(|name| tensors.get(name)) {
            moments.push([first, second]);
        }
    }
    if problems.is_empty() { Ok(Moments { moments, steps }) } else { Err(OptimError::State { problems }) }
}

/// Whether there is a float tensor of that name and those dimensions, or what is wrong.
fn fitting(tensors: &BTreeMap<String, Tensor>, name: &str, dims: &[usize]) -> Result<(), String> {
    let tensor = tensors.get(name).ok_or_else(|| format!("{name}: missing"))?;
    if tensor.dims() != dims {
        return Err(format!("{name}: shape {:?}, expected {dims:?}", tensor.dims()));
    }
    if !tensor.dtype().is_float() {
        return Err(format!("{name}: type {}, expected a float type", tensor.dtype().as_str()));
    }
    Ok(())
}

/// The number of steps taken, or what is wrong.
fn steps_of(tensors: &BTreeMap<String, Tensor>) -> Result<u64, String> {
    let tensor = tensors.get(STEP).ok_or_else(|| format!("{STEP}: missing"))?;
    let values = tensor.to_vec1::<i64>().map_err(|error| format!("{STEP}: {error}"))?;
    match values.as_slice() {
        [steps] if *steps >= 0 => Ok(*steps as u64),
        _ => Err(format!("{STEP}: expected one number of at least 0, got {values:?}")),
    }
}
