//! What carries training out: chosen once, where a run is opened, and the same to the trainer whatever it is.
//!
//! An engine holds the weights, their gradients and the optimizer's state where it works, and gives them out by name. Three
//! exist: [`KernelEngine`], the step over arenas by the processor's kernels; [`GpuEngine`], the same step on a GPU; and
//! [`ReferenceEngine`], candle's elementary operations, which work on every device and are what the others are held against.

mod gpu;
#[cfg(test)]
mod gpu_tests;
mod kernels;
mod reference;
#[cfg(test)]
mod rounding_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use half::bf16;

use crate::checkpoint::StoredTensor;
use crate::data::Batch;
use crate::model::{Backend, Gpt, Gradients, Part};
use crate::optim::{LearningRates, OptimError, StepSettings};
use nanochat_plan::activations::BatchSize;
use nanochat_plan::{ModelShape, Precision, RunPlan};

pub use gpu::GpuEngine;
pub use kernels::KernelEngine;
pub use reference::ReferenceEngine;

/// Named tensors that an engine holds.
pub type Group<'a> = BTreeMap<String, StoredTensor<'a>>;

/// What an engine is set up for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setup {
    /// The size of every batch.
    pub batch: BatchSize,
    /// Micro-steps of an optimizer step.
    pub micro_steps: usize,
    /// The optimizer's base learning rates.
    pub rates: LearningRates,
    /// What products round their operands to.
    pub precision: Precision,
}

impl Setup {
    /// That of a plan.
    pub fn of(plan: &RunPlan) -> Self {
        Self {
            batch: BatchSize { rows: plan.device_batch_size as usize, length: plan.model.sequence_len },
            micro_steps: plan.grad_accum_steps as usize,
            rates: LearningRates::of(plan),
            precision: plan.dtype,
        }
    }
}

/// Trains and evaluates one model.
///
/// Batches are of the size that the engine was set up for, and of the model's vocabulary, which is checked where they are made.
pub trait Engine {
    /// The model's shape.
    fn shape(&self) -> &ModelShape;

    /// Optimizer steps taken.
    fn steps(&self) -> u64;

    /// Sets all gradients to zero, before the first micro-step of a step.
    fn zero_gradients(&mut self) -> Result<(), OptimError>;

    /// Adds `scale` times the gradients of a batch's mean loss. `number` is the place of the micro-step in its step, from 0;
    /// `observe` is told each part as it begins.
    fn micro_step(
        &mut self,
        batch: &Batch,
        number: usize,
        scale: f64,
        observe: &mut dyn FnMut(Part),
    ) -> Result<(), OptimError>;

    /// Mean losses of the micro-steps since the gradients were set to zero, in nats per token: waits for them.
    fn mean_losses(&mut self) -> Result<Vec<f32>, OptimError>;

    /// Steps all parameters along the gradients.
    fn optimizer_step(&mut self, at: &StepSettings) -> Result<(), OptimError>;

    /// Waits until all that was asked for is done.
    fn synchronize(&mut self) -> Result<(), OptimError>;

    /// Loss of every position of a batch, row after row; 0 where the target is ignored.
    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>, OptimError>;

    /// A copy of the model as it stands, for what an engine doesn't do.
    fn model(&self) -> Result<Gpt, OptimError>;

    /// The weights by name.
    fn weights(&self) -> Result<Group<'_>, OptimError>;

    /// The optimizer's state by name, as [`crate::optim::moments_of`] takes it.
    fn optimizer_state(&self) -> Result<Group<'_>, OptimError>;

    /// The gradients by name.
    fn gradients(&self) -> Result<Group<'_>, OptimError>;

    /// Takes over the weights of a model of the same shape.
    fn load_weights(&mut self, model: Gpt) -> Result<(), OptimError>;

    /// Takes over an optimizer's state, or lists everything that is wrong with it and stays as it was.
    fn load_optimizer_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError>;

    /// Takes over given gradients, for comparisons of the optimizer alone.
    fn load_gradients(&mut self, gradients: &Gradients) -> Result<(), OptimError>;
}

/// A model of an engine's weights, on a device.
fn model_of(shape: &ModelShape, weights: &Group<'_>, precision: Precision, device: &Device) -> Result<Gpt, OptimError> {
    let tensors = weights.iter().map(|(name, weight)| Ok((name.clone(), weight.to_tensor()?.to_device(device)?)));
    let tensors = tensors.collect::<Result<HashMap<_, _>, candle_core::Error>>()?;
    let mut model = Gpt::from_owned(shape, tensors)?;
    model.set_precision(precision);
    Ok(model)
}

/// The engine for a model: the kernels where they serve it and are asked for, else the reference operations.
pub fn open(model: Gpt, setup: &Setup) -> Result<Box<dyn Engine>, OptimError> {
    let mut model = model;
    model.set_precision(setup.precision);
    if model.backend() == Backend::Kernels && model.device().is_cpu() {
        Ok(match setup.precision {
            Precision::F32 => Box::new(KernelEngine::<f32>::new(&model, setup)?),
            Precision::Bf16 => Box::new(KernelEngine::<bf16>::new(&model, setup)?),
        })
    } else if model.backend() == Backend::Kernels && model.device().is_cuda() && setup.precision == Precision::Bf16 {
        open_gpu(&model, setup)
    } else {
        Ok(Box::new(ReferenceEngine::new(model, setup)?))
    }
}

/// On the GPU that the model lies on; attention's backward pass is the deterministic one.
#[cfg(feature = "cuda")]
fn open_gpu(model: &Gpt, setup: &Setup) -> Result<Box<dyn Engine>, OptimError> {
    let ordinal = match model.device().location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => gpu_id,
        _ => 0,
    };
    let device = nanochat_cuda::Cuda::open(ordinal, true)?;
    Ok(Box::new(GpuEngine::new(device, model, setup)?))
}

/// Without CUDA no model lies on such a GPU.
#[cfg(not(feature = "cuda"))]
fn open_gpu(_: &Gpt, _: &Setup) -> Result<Box<dyn Engine>, OptimError> {
    Err(nanochat_gpu::DeviceError::Failed {
        command: "opening the GPU".into(),
        reason: "this program was built without CUDA".into(),
    }
    .into())
}
