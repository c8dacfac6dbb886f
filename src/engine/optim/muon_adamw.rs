//! The optimizer over a whole model.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::on_cpu::{Benches, Step};
use super::rules::{Rule, rules};
use super::{LearningRates, OptimError, StepSettings, adamw, muon};
use crate::model::{Gpt, Gradients, ModelError};

/// Name of the state tensor that counts steps.
const STEP: &str = "step";

/// AdamW and Muon over all parameters of one model, with their state.
#[derive(Debug)]
pub struct MuonAdamW {
    rules: Vec<(String, Rule)>,
    /// Two tensors a parameter: moments, or momentum and second moment.
    state: BTreeMap<String, [Tensor; 2]>,
    steps: u64,
    device: Device,
    /// What the CPU's kernels work in.
    scratch: Benches,
}

impl MuonAdamW {
    /// A fresh optimizer for a model, its state all zero.
    pub fn new(model: &Gpt, rates: &LearningRates) -> Result<Self, OptimError> {
        let rules = rules(model.shape(), rates);
        let shapes = Gpt::parameter_shapes(model.shape());
        let mut state = BTreeMap::new();
        for (name, rule) in &rules {
            let dims = shapes.get(name).cloned().unwrap_or_default();
            let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, model.device());
            let second = match rule {
                Rule::AdamW(_) => zeros(&dims)?,
                Rule::Muon { rows, columns, .. } => zeros(&muon::second_moment_dims(*rows, *columns))?,
            };
            state.insert(name.clone(), [zeros(&dims)?, second]);
        }
        Ok(Self { rules, state, steps: 0, device: model.device().clone(), scratch: Benches::default() })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Changes the model's parameters by one step along `gradients`; on the CPU in place.
    pub fn step(&mut self, model: &mut Gpt, gradients: &Gradients, at: &StepSettings) -> Result<(), OptimError> {
        self.steps += 1;
        let on_cpu = Step { rules: &self.rules, model, gradients, state: &self.state, steps: self.steps, at };
        if on_cpu.serves() {
            return on_cpu.take(&mut self.scratch);
        }
        let precision = model.precision();
        for (name, rule) in &self.rules {
            let gradient = gradients.get(name)?;
            let missing = || ModelError::Missing { name: name.clone() };
            let parameter = model.parameters_mut().get_mut(name).ok_or_else(missing)?;
            let state = self.state.get_mut(name).ok_or_else(missing)?;
            (*parameter, *state) = match rule {
                Rule::AdamW(rule) => {
                    let by = adamw::coefficients(rule, at.lr_multiplier, self.steps);
                    adamw::step(parameter, gradient, state, &by)?
                }
                Rule::Muon { learning_rate, .. } => {
                    muon::step(parameter, gradient, state, &muon::coefficients(*learning_rate, at, precision))?
                }
            };
        }
        Ok(())
    }

    /// All state by name: `exp_avg.…` and `exp_avg_sq.…` of AdamW's parameters, `momentum_buffer.…` and
    /// `second_momentum_buffer.…` of Muon's, and `step`, the number of steps taken, as one i64. The
    /// tensors share the optimizer's memory: the next step changes them.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, OptimError> {
        let mut named = BTreeMap::new();
        for (name, rule) in &self.rules {
            if let Some(state) = self.state.get(name) {
                named.extend(state_names(name, rule).into_iter().zip(state.iter().cloned()));
            }
        }
        named.insert(STEP.to_string(), Tensor::new(&[self.steps as i64], &Device::Cpu)?);
        Ok(named)
    }

    /// Takes over state of the same form as [`MuonAdamW::state`] gives, copied; or lists everything that is wrong with it,
    /// and stays as it was.
    pub fn load_state(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let mut problems = Vec::new();
        let mut loaded = BTreeMap::new();
        let mut known = vec![STEP.to_string()];
        for (name, rule) in &self.rules {
            let Some(current) = self.state.get(name) else { continue };
            let names = state_names(name, rule);
            let taken = names.iter().zip(current).map(|(name, current)| fitting(tensors, name, current, &self.device));
            match taken.collect::<Result<Vec<Tensor>, String>>() {
                Ok(pair) => {
                    if let Ok(pair) = <[Tensor; 2]>::try_from(pair) {
                        loaded.insert(name.clone(), pair);
                    }
                }
                Err(problem) => problems.push(problem),
            }
            known.extend(names);
        }
        let steps = steps_of(tensors).map_err(|problem| problems.push(problem)).unwrap_or_default();
        let unknown = tensors.keys().filter(|name| !known.contains(name));
        problems.extend(unknown.map(|name| format!("{name}: the optimizer has no state of that name")));
        if !problems.is_empty() {
            return Err(OptimError::State { problems });
        }
        self.state = loaded;
        self.steps = steps;
        Ok(())
    }
}

/// Names of the two state tensors of a parameter.
fn state_names(name: &str, rule: &Rule) -> [String; 2] {
    let kinds = match rule {
        Rule::AdamW(_) => ["exp_avg", "exp_avg_sq"],
        Rule::Muon { .. } => ["momentum_buffer", "second_momentum_buffer"],
    };
    kinds.map(|kind| format!("{kind}.{name}"))
}

/// A copy of the tensor of that name if it has the shape of `current`, or what is wrong.
fn fitting(
    tensors: &BTreeMap<String, Tensor>,
    name: &str,
    current: &Tensor,
    device: &Device,
) -> Result<Tensor, String> {
    let tensor = tensors.get(name).ok_or_else(|| format!("{name}: missing"))?;
    if tensor.dims() != current.dims() {
        return Err(format!("{name}: shape {:?}, expected {:?}", tensor.dims(), current.dims()));
    }
    let copied =
        tensor.to_dtype(DType::F32).and_then(|tensor| tensor.to_device(device)).and_then(|tensor| tensor.copy());
    copied.map_err(|error| format!("{name}: {error}"))
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
