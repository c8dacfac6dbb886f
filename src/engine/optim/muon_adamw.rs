//! The optimizer over a whole model by elementary operations: the kernels' reference implementation, and what other devices take.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::state::{Moments, STEP, moment_names, moments_of};
use super::{LearningRates, OptimError, StepSettings, adamw, muon};
use crate::model::{Gpt, Gradients, ModelError};
use nanochat_plan::parameters::{Group, ParameterLayout};
use nanochat_step::{ADAMW_GROUPS, Optimizer};

/// AdamW and Muon over all parameters of one model, with their state.
#[derive(Debug)]
pub struct MuonAdamW {
    layout: ParameterLayout,
    optimizer: Optimizer,
    /// First and second moment of every parameter, in the order of the layout.
    state: Vec<[Tensor; 2]>,
    steps: u64,
    device: Device,
}

impl MuonAdamW {
    /// A fresh optimizer for a model, its state all zero.
    pub fn new(model: &Gpt, rates: &LearningRates) -> Result<Self, OptimError> {
        let layout = ParameterLayout::new(model.shape());
        let zeros = |dims: Vec<usize>| Tensor::zeros(dims, DType::F32, model.device());
        let state = layout.entries().iter().map(|entry| Ok([zeros(entry.dims())?, zeros(entry.second_dims())?]));
        let state = state.collect::<Result<_, OptimError>>()?;
        let optimizer = Optimizer::new(&layout, model.shape().n_embd, *rates);
        Ok(Self { layout, optimizer, state, steps: 0, device: model.device().clone() })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Changes the model's parameters by one step along `gradients`.
    pub fn step(&mut self, model: &mut Gpt, gradients: &Gradients, at: &StepSettings) -> Result<(), OptimError> {
        self.steps += 1;
        let precision = model.precision();
        let coefficients = self.optimizer.coefficients(at, self.steps);
        for (entry, state) in self.layout.entries().iter().zip(&mut self.state) {
            let name = entry.parameter.name();
            let gradient = gradients.get(&name)?;
            let missing = || ModelError::Missing { name: name.clone() };
            let parameter = model.parameters_mut().get_mut(&name).ok_or_else(missing)?;
            let group = match entry.group {
                Group::Muon => self.optimizer.muon_group(entry.rows, entry.columns),
                group => ADAMW_GROUPS.iter().position(|other| *other == group),
            };
            let group = group.ok_or_else(missing)?;
            (*parameter, *state) = match entry.group {
                Group::Muon => {
                    muon::step(parameter, gradient, state, &muon::coefficients(&coefficients, group, precision))?
                }
                _ => adamw::step(parameter, gradient, state, &coefficients.adamw[group])?,
            };
        }
        Ok(())
    }

    /// All state by name, as [`moments_of`] takes it.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, OptimError> {
        let mut named = BTreeMap::from([(STEP.to_string(), Tensor::new(&[self.steps as i64], &Device::Cpu)?)]);
        for (entry, state) in self.layout.entries().iter().zip(&self.state) {
            named.extend(moment_names(entry).into_iter().zip(state.iter().cloned()));
        }
        Ok(named)
    }

    /// Takes over state of the same form as [`MuonAdamW::state`] gives, copied; or lists everything that is wrong with it,
    /// and stays as it was.
    pub fn load_state(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let Moments { moments, steps } = moments_of(&self.layout, tensors)?;
        let copied = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_device(&self.device)?.copy();
        let loaded = moments.into_iter().map(|[first, second]| Ok([copied(first)?, copied(second)?]));
        self.state = loaded.collect::<Result<_, OptimError>>()?;
        self.steps = steps;
        Ok(())
    }
}
