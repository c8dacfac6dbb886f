//! The step over arenas, by the processor's kernels: in f32 throughout, or with activations that are kept in bf16.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::{Engine, Group, Setup, model_of};
use crate::checkpoint::StoredTensor;
use crate::data::Batch;
use crate::model::{Gpt, Gradients, ModelError, Part, compute_dtype, load_angles, load_weights};
use crate::optim::{Moments, OptimError, STEP, StepSettings, moment_names, moments_of};
use nanochat_kernels::Stored;
use nanochat_plan::activations::{Pass, Slot, Storage};
use nanochat_plan::parameters::Entry;
use nanochat_plan::{ModelShape, Precision};
use nanochat_step::{Arena, Cpu, Network, Optimizer, Region};

/// Weights, gradients and moments in f32 in one allocation, activations as `S` in another; no step adds to either.
#[derive(Debug)]
pub struct KernelEngine<S: Stored> {
    training: Network,
    /// Shares the weights and, in turn, the memory of activations.
    evaluation: Network,
    optimizer: Optimizer,
    cpu: Cpu<S>,
    precision: Precision,
    steps: u64,
}

impl<S: Stored<Element = f32>> KernelEngine<S> {
    /// An engine with a copy of a model's weights, and an optimizer that has taken no step.
    pub fn new(model: &Gpt, setup: &Setup) -> Result<Self, OptimError> {
        let shape = model.shape();
        let [training, evaluation] =
            [Pass::Training, Pass::Evaluation].map(|pass| Network::new(shape, setup.batch, pass, setup.micro_steps));
        let optimizer = Optimizer::new(training.parameters(), shape.n_embd, setup.rates);
        debug_assert!(
            [Storage::Working, Storage::Full].into_iter().all(|storage| {
                evaluation.activations().elements(storage) <= training.activations().elements(storage)
            })
        );
        let arenas: Vec<_> = training.arenas().into_iter().chain(training.moments()).collect();
        let mut cpu = Cpu::new(&arenas, compute_dtype(setup.precision));
        load_weights(&mut cpu, &training, model.parameters())?;
        // The angles lie first in both layouts.
        load_angles(&mut cpu, &training)?;
        Ok(Self { training, evaluation, optimizer, cpu, precision: setup.precision, steps: 0 })
    }

    /// Bytes of all arenas: all that a step works on but what threads and products keep for themselves.
    pub fn bytes(&self) -> usize {
        self.cpu.bytes()
    }

    /// What a region of each parameter holds, by name.
    fn named(&self, name: impl Fn(&Entry) -> String, dims: impl Fn(&Entry) -> Vec<usize>, arena: Arena) -> Group<'_> {
        let entries = self.training.parameters().entries().iter();
        entries
            .map(|entry| {
                let span = if arena == Arena::Second { entry.second } else { entry.span };
                let elements = self.cpu.read(Region::new(arena, span));
                (name(entry), StoredTensor::Elements { dims: dims(entry), elements })
            })
            .collect()
    }
}

impl<S: Stored<Element = f32>> Engine for KernelEngine<S> {
    fn shape(&self) -> &ModelShape {
        self.training.shape()
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn zero_gradients(&mut self) -> Result<(), OptimError> {
        self.training.zero_gradients(&mut self.cpu);
        Ok(())
    }

    fn micro_step(
        &mut self,
        batch: &Batch,
        number: usize,
        scale: f64,
        observe: &mut dyn FnMut(Part),
    ) -> Result<(), OptimError> {
        let (network, cpu) = (&self.training, &mut self.cpu);
        let counted = batch.counted();
        if counted == 0 {
            return Err(ModelError::NothingToPredict.into());
        }
        observe(Part::Forward);
        network.load(cpu, batch.micro_step(number), scale / counted as f64);
        network.forward(cpu);
        observe(Part::Head);
        network.head(cpu);
        observe(Part::Backward);
        network.backward(cpu);
        Ok(())
    }

    fn mean_losses(&mut self) -> Result<Vec<f32>, OptimError> {
        Ok(self.cpu.read(self.training.mean_losses()).to_vec())
    }

    fn optimizer_step(&mut self, at: &StepSettings) -> Result<(), OptimError> {
        self.steps += 1;
        self.optimizer.step(&mut self.cpu, at, self.steps);
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), OptimError> {
        Ok(())
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>, OptimError> {
        self.evaluation.micro_step(&mut self.cpu, batch.micro_step(0), 0.0);
        Ok(self.cpu.read(self.evaluation.slot(Slot::Losses)).to_vec())
    }

    fn model(&self) -> Result<Gpt, OptimError> {
        model_of(self.shape(), &self.weights()?, self.precision, &Device::Cpu)
    }

    fn weights(&self) -> Result<Group<'_>, OptimError> {
        Ok(self.named(|entry| entry.parameter.name(), Entry::dims, Arena::Weights))
    }

    fn optimizer_state(&self) -> Result<Group<'_>, OptimError> {
        let [first, second] = [0, 1].map(|index| move |entry: &Entry| moment_names(entry)[index].clone());
        let mut state = self.named(first, Entry::dims, Arena::First);
        state.extend(self.named(second, Entry::second_dims, Arena::Second));
        state.insert(STEP.into(), StoredTensor::Tensor(Tensor::new(&[self.steps as i64], &Device::Cpu)?));
        Ok(state)
    }

    fn gradients(&self) -> Result<Group<'_>, OptimError> {
        Ok(self.named(|entry| entry.parameter.name(), Entry::dims, Arena::Gradients))
    }

    fn load_weights(&mut self, model: Gpt) -> Result<(), OptimError> {
        Ok(load_weights(&mut self.cpu, &self.training, model.parameters())?)
    }

    fn load_optimizer_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let Moments { moments, steps } = moments_of(self.training.parameters(), state)?;
        for (entry, [first, second]) in self.training.parameters().entries().iter().zip(moments) {
            let regions = [Region::new(Arena::First, entry.span), Region::new(Arena::Second, entry.second)];
            for (region, tensor) in regions.into_iter().zip([first, second]) {
                fill(&mut self.cpu, region, tensor)?;
            }
        }
        self.steps = steps;
        Ok(())
    }

    fn load_gradients(&mut self, gradients: &Gradients) -> Result<(), OptimError> {
        for entry in self.training.parameters().entries() {
            let gradient = gradients.get(&entry.parameter.name())?;
            fill(&mut self.cpu, self.training.gradient(entry.parameter), gradient)?;
        }
        Ok(())
    }
}

/// Copies a tensor of as many elements into a region.
fn fill(cpu: &mut Cpu<impl Stored<Element = f32>>, region: Region, tensor: &Tensor) -> Result<(), OptimError> {
    let elements = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    cpu.write(region).copy_from_slice(&elements);
    Ok(())
}
