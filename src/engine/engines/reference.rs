//! Candle's elementary operations and its `backward`: on any device, and what the kernels are held against.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{Engine, Group, Setup};
use crate::checkpoint::StoredTensor;
use crate::data::Batch;
use crate::model::{Gpt, Gradients, Part, on_device};
use crate::optim::{MuonAdamW, OptimError, StepSettings};
use nanochat_plan::ModelShape;

/// A model with its gradients and its optimizer, as tensors.
#[derive(Debug)]
pub struct ReferenceEngine {
    model: Gpt,
    gradients: Gradients,
    optimizer: MuonAdamW,
    losses: Vec<f32>,
}

impl ReferenceEngine {
    /// An engine over a model, and an optimizer that has taken no step.
    pub fn new(model: Gpt, setup: &Setup) -> Result<Self, OptimError> {
        let optimizer = MuonAdamW::new(&model, &setup.rates)?;
        let gradients = Gradients::zeros(model.parameters())?;
        Ok(Self { model, gradients, optimizer, losses: Vec::new() })
    }
}

impl Engine for ReferenceEngine {
    fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    fn zero_gradients(&mut self) -> Result<(), OptimError> {
        self.losses.clear();
        Ok(self.gradients.reset()?)
    }

    fn micro_step(
        &mut self,
        batch: &Batch,
        number: usize,
        scale: f64,
        observe: &mut dyn FnMut(Part),
    ) -> Result<(), OptimError> {
        let (ids, targets) = on_device(batch.size(), batch.micro_step(number), self.model.device())?;
        let loss = self.model.accumulate_gradients_observed(&ids, &targets, scale, &mut self.gradients, observe)?;
        self.losses.push(loss);
        Ok(())
    }

    fn mean_losses(&mut self) -> Result<Vec<f32>, OptimError> {
        Ok(self.losses.clone())
    }

    fn optimizer_step(&mut self, at: &StepSettings) -> Result<(), OptimError> {
        self.optimizer.step(&mut self.model, &self.gradients, at)
    }

    fn synchronize(&mut self) -> Result<(), OptimError> {
        Ok(self.model.device().synchronize()?)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>, OptimError> {
        Ok(self.model.losses_of(batch.size(), batch.micro_step(0))?)
    }

    fn model(&self) -> Result<Gpt, OptimError> {
        Ok(self.model.clone())
    }

    fn weights(&self) -> Result<Group<'_>, OptimError> {
        Ok(named(self.model.parameters()))
    }

    fn optimizer_state(&self) -> Result<Group<'_>, OptimError> {
        Ok(named(&self.optimizer.state()?))
    }

    fn gradients(&self) -> Result<Group<'_>, OptimError> {
        Ok(named(self.gradients.tensors()))
    }

    fn load_weights(&mut self, mut model: Gpt) -> Result<(), OptimError> {
        model.set_precision(self.model.precision());
        model.set_backend(self.model.backend());
        self.model = model;
        Ok(())
    }

    fn load_optimizer_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        self.optimizer.load_state(state)
    }

    fn load_gradients(&mut self, gradients: &Gradients) -> Result<(), OptimError> {
        self.gradients = gradients.clone();
        Ok(())
    }
}

/// Tensors as they are stored: they share their memory.
fn named(tensors: &BTreeMap<String, Tensor>) -> Group<'static> {
    tensors.iter().map(|(name, tensor)| (name.clone(), StoredTensor::Tensor(tensor.clone()))).collect()
}
