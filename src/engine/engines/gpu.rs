//! The step on a GPU: arenas in its memory, the passes recorded once and replayed, one read a step.

use std::collections::BTreeMap;

use candle_core::{DType, Device as CandleDevice, Tensor};

use super::{Engine, Group, Setup, model_of};
use crate::checkpoint::StoredTensor;
use crate::data::Batch;
use crate::model::{Gpt, Gradients, ModelError, Parameters, Part};
use crate::ops::reference::rotary_table;
use crate::optim::{Moments, OptimError, STEP, StepSettings, moment_names, moments_of};
use nanochat_gpu::{Device, Dtype, GpuOps, Graph};
use nanochat_plan::activations::{Chunks, Pass, Slot};
use nanochat_plan::parameters::Entry;
use nanochat_plan::shape::head_dim;
use nanochat_plan::{ModelShape, Precision};
use nanochat_step::{Arena, Network, Optimizer, Region};

/// A sequence of commands that is the same every time: given one by one at first, so that whatever a device prepares on first
/// use is there, then recorded, then replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sequence {
    #[default]
    New,
    Prepared,
    Recorded(Graph),
}

/// Weights, gradients, moments and activations in a GPU's memory, to which no step adds.
#[derive(Debug)]
pub struct GpuEngine<D> {
    training: Network,
    /// Shares the weights and the memory of activations.
    evaluation: Network,
    optimizer: Optimizer,
    ops: GpuOps<D>,
    precision: Precision,
    steps: u64,
    passes: Sequence,
    update: Sequence,
    evaluations: Sequence,
    /// Where copies of the model are put.
    copies: CandleDevice,
}

impl<D: Device> GpuEngine<D> {
    /// An engine on a device with a copy of a model's weights, and an optimizer that has taken no step.
    pub fn new(device: D, model: &Gpt, setup: &Setup) -> Result<Self, OptimError> {
        let shape = model.shape();
        let [training, evaluation] = [Pass::Training, Pass::Evaluation]
            .map(|pass| Network::with_chunks(shape, setup.batch, pass, setup.micro_steps, Chunks::GPU));
        let optimizer = Optimizer::new(training.parameters(), shape.n_embd, setup.rates);
        let storage = match setup.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        };
        let mut ops = GpuOps::new(device, &training, setup.micro_steps, storage)?;
        ops.load_optimizer(&optimizer)?;
        let mut engine = Self {
            training,
            evaluation,
            optimizer,
            ops,
            precision: setup.precision,
            steps: 0,
            passes: Sequence::New,
            update: Sequence::New,
            evaluations: Sequence::New,
            copies: model.device().clone(),
        };
        engine.write_weights(model.parameters())?;
        engine.write_angles()?;
        Ok(engine)
    }

    fn write_weights(&mut self, parameters: &Parameters) -> Result<(), OptimError> {
        for entry in self.training.parameters().entries().to_vec() {
            let name = entry.parameter.name();
            let weight = parameters
                .get(&name)
                .ok_or_else(|| ModelError::Weights { problems: vec![format!("{name}: missing")] })?;
            self.fill(self.training.weight(entry.parameter), weight)?;
        }
        Ok(())
    }

    /// The rotary angles lie first in both layouts.
    fn write_angles(&mut self) -> Result<(), OptimError> {
        let length = self.training.activations().batch().length;
        let (cos, sin) = rotary_table(0, length, head_dim(self.training.shape()), DType::F32, &CandleDevice::Cpu)?;
        for (table, slot) in [(cos, Slot::Cosines), (sin, Slot::Sines)] {
            self.ops.write(self.training.slot(slot), &table.flatten_all()?.to_vec1::<f32>()?)?;
        }
        Ok(())
    }

    /// Copies a tensor of as many elements into a region.
    fn fill(&mut self, region: Region, tensor: &Tensor) -> Result<(), OptimError> {
        let elements = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.ops.write(region, &elements)?)
    }

    /// What a region of each parameter holds, by name.
    fn named(
        &self,
        name: impl Fn(&Entry) -> String,
        dims: impl Fn(&Entry) -> Vec<usize>,
        arena: Arena,
    ) -> Result<Group<'static>, OptimError> {
        let entries = self.training.parameters().entries().iter();
        entries
            .map(|entry| {
                let span = if arena == Arena::Second { entry.second } else { entry.span };
                let elements = self.ops.read(Region::new(arena, span))?;
                let tensor = Tensor::from_vec(elements, dims(entry), &CandleDevice::Cpu)?;
                Ok((name(entry), StoredTensor::Tensor(tensor)))
            })
            .collect()
    }
}

/// Carries a sequence out, or replays it.
fn run<D: Device>(
    ops: &mut GpuOps<D>,
    sequence: &mut Sequence,
    commands: impl FnOnce(&mut GpuOps<D>),
) -> Result<(), OptimError> {
    match *sequence {
        Sequence::New => {
            commands(ops);
            *sequence = Sequence::Prepared;
        }
        Sequence::Prepared => {
            let graph = ops.record(commands)?;
            *sequence = Sequence::Recorded(graph);
            ops.replay(graph)?;
        }
        Sequence::Recorded(graph) => ops.replay(graph)?,
    }
    Ok(ops.check()?)
}

impl<D: Device> Engine for GpuEngine<D> {
    fn shape(&self) -> &ModelShape {
        self.training.shape()
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn zero_gradients(&mut self) -> Result<(), OptimError> {
        self.training.zero_gradients(&mut self.ops);
        Ok(self.ops.check()?)
    }

    /// The whole pass is one sequence: only its beginning is observed.
    fn micro_step(
        &mut self,
        batch: &Batch,
        number: usize,
        scale: f64,
        observe: &mut dyn FnMut(Part),
    ) -> Result<(), OptimError> {
        let counted = batch.counted();
        if counted == 0 {
            return Err(ModelError::NothingToPredict.into());
        }
        let Self { training, ops, passes, .. } = self;
        observe(Part::Forward);
        training.load(ops, batch.micro_step(number), scale / counted as f64);
        run(ops, passes, |ops| {
            training.forward(ops);
            training.head(ops);
            training.backward(ops);
        })
    }

    fn mean_losses(&mut self) -> Result<Vec<f32>, OptimError> {
        Ok(self.ops.read(self.training.mean_losses())?)
    }

    fn optimizer_step(&mut self, at: &StepSettings) -> Result<(), OptimError> {
        self.steps += 1;
        let coefficients = self.optimizer.coefficients(at, self.steps);
        let Self { optimizer, ops, update, .. } = self;
        nanochat_step::Ops::load_coefficients(ops, &coefficients);
        run(ops, update, |ops| optimizer.update(ops))
    }

    fn synchronize(&mut self) -> Result<(), OptimError> {
        Ok(self.ops.device().synchronize()?)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>, OptimError> {
        let Self { evaluation, ops, evaluations, .. } = self;
        evaluation.load(ops, batch.micro_step(0), 0.0);
        run(ops, evaluations, |ops| {
            evaluation.forward(ops);
            evaluation.head(ops);
        })?;
        Ok(ops.read(evaluation.slot(Slot::Losses))?)
    }

    fn model(&self) -> Result<Gpt, OptimError> {
        model_of(self.shape(), &self.weights()?, self.precision, &self.copies)
    }

    fn weights(&self) -> Result<Group<'_>, OptimError> {
        self.named(|entry| entry.parameter.name(), Entry::dims, Arena::Weights)
    }

    fn optimizer_state(&self) -> Result<Group<'_>, OptimError> {
        let [first, second] = [0, 1].map(|index| move |entry: &Entry| moment_names(entry)[index].clone());
        let mut state = self.named(first, Entry::dims, Arena::First)?;
        state.extend(self.named(second, Entry::second_dims, Arena::Second)?);
        let steps = Tensor::new(&[self.steps as i64], &CandleDevice::Cpu)?;
        state.insert(STEP.into(), StoredTensor::Tensor(steps));
        Ok(state)
    }

    fn gradients(&self) -> Result<Group<'_>, OptimError> {
        self.named(|entry| entry.parameter.name(), Entry::dims, Arena::Gradients)
    }

    fn load_weights(&mut self, model: Gpt) -> Result<(), OptimError> {
        self.write_weights(model.parameters())
    }

    fn load_optimizer_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let Moments { moments, steps } = moments_of(self.training.parameters(), state)?;
        let entries = self.training.parameters().entries().to_vec();
        for (entry, [first, second]) in entries.iter().zip(moments) {
            let regions = [Region::new(Arena::First, entry.span), Region::new(Arena::Second, entry.second)];
            for (region, tensor) in regions.into_iter().zip([first, second]) {
                self.fill(region, tensor)?;
            }
        }
        self.steps = steps;
        Ok(())
    }

    fn load_gradients(&mut self, gradients: &Gradients) -> Result<(), OptimError> {
        for entry in self.training.parameters().entries().to_vec() {
            let gradient = gradients.get(&entry.parameter.name())?;
            self.fill(self.training.gradient(entry.parameter), gradient)?;
        }
        Ok(())
    }
}
