//! Full passes of a model by the kernels: the training step's own, over arenas that hold a copy of the weights.

use candle_core::{Device, Tensor};
use half::bf16;

use super::weights::with_weights;
use super::{Gpt, Gradients, ModelError, Parameters, Part, compute_dtype};
use crate::ops::Element;
use crate::ops::reference::rotary_table;
use crate::ops::tensors::with_slices;
use nanochat_kernels::{Kind, Stored, head};
use nanochat_plan::activations::{BatchSize, Pass, Slot};
use nanochat_plan::parameters::Parameter;
use nanochat_plan::shape::head_dim;
use nanochat_step::{Batch, Cpu, Network};

/// A network with its arenas, whose activations are kept as `S`.
#[derive(Debug)]
pub(super) struct Passes<S: Stored> {
    network: Network,
    cpu: Cpu<S>,
}

impl<S: Stored<Element: Element>> Passes<S> {
    /// For batches of one size; the weights are copied.
    pub(super) fn new(model: &Gpt, size: BatchSize, pass: Pass) -> Result<Self, ModelError> {
        let network = Network::new(model.shape(), size, pass, 1);
        let mut cpu = Cpu::new(&network.arenas(), compute_dtype(model.precision()));
        load_weights(&mut cpu, &network, model.parameters())?;
        load_angles(&mut cpu, &network)?;
        Ok(Self { network, cpu })
    }

    /// The size of its batches.
    pub(super) fn size(&self) -> BatchSize {
        self.network.activations().batch()
    }

    /// Losses of all tokens, row after row; 0 where a target is ignored.
    pub(super) fn losses(&mut self, batch: Batch<'_>) -> &[S::Element] {
        self.network.micro_step(&mut self.cpu, batch, 0.0);
        self.cpu.read(self.network.slot(Slot::Losses))
    }

    /// Capped logits of all tokens, row after row. The targets of the batch are of no account.
    pub(super) fn logits(&mut self, batch: Batch<'_>) -> Vec<S::Element> {
        let Self { network, cpu } = self;
        network.load(cpu, batch, 0.0);
        network.forward(cpu);
        let shape = network.shape();
        let mut logits = vec![S::Element::default(); batch.ids.len() * shape.vocab_size];
        let head = head::Head {
            x: cpu.activations(network.slot(Slot::Normed)),
            weight: cpu.read(network.weight(Parameter::Head)),
            targets: &[],
            width: shape.n_embd,
            vocab: shape.vocab_size,
            compute_dtype: cpu.compute_dtype(),
        };
        head::capped(head, &mut logits);
        logits
    }

    /// Adds the gradient of `factor` times the sum of losses to `into`; the losses.
    pub(super) fn gradients(
        &mut self,
        batch: Batch<'_>,
        factor: f64,
        into: &mut Gradients,
        observe: &mut dyn FnMut(Part),
    ) -> Result<&[S::Element], ModelError>
    where
        S::Element: candle_core::WithDType,
    {
        let Self { network, cpu } = self;
        network.zero_gradients(cpu);
        network.load(cpu, batch, factor);
        network.forward(cpu);
        observe(Part::Head);
        network.head(cpu);
        observe(Part::Backward);
        network.backward(cpu);
        for entry in network.parameters().entries() {
            let gradient = Tensor::from_slice(cpu.read(network.gradient(entry.parameter)), entry.dims(), &Device::Cpu)?;
            into.add(&entry.parameter.name(), &gradient)?;
        }
        Ok(cpu.read(network.slot(Slot::Losses)))
    }
}

/// Copies parameters into the arena of weights.
pub(crate) fn load_weights<S: Stored<Element: Element>>(
    cpu: &mut Cpu<S>,
    network: &Network,
    parameters: &Parameters,
) -> Result<(), ModelError> {
    with_weights::<S::Element, _>(parameters, |weights| {
        for entry in network.parameters().entries() {
            cpu.write(network.weight(entry.parameter)).copy_from_slice(weights.get(&entry.parameter.name())?);
        }
        Ok(())
    })
}

/// Writes the rotary angles of all positions of a batch into their slots.
pub(crate) fn load_angles<S: Stored<Element: Element>>(cpu: &mut Cpu<S>, network: &Network) -> Result<(), ModelError> {
    let length = network.activations().batch().length;
    let (cos, sin) = rotary_table(0, length, head_dim(network.shape()), S::Element::DTYPE, &Device::Cpu)?;
    for (table, slot) in [(cos, Slot::Cosines), (sin, Slot::Sines)] {
        with_slices(&[&table], |slices| cpu.write(network.slot(slot)).copy_from_slice(slices[0]))?;
    }
    Ok(())
}

/// Losses of batch after batch: the weights are prepared once, where kernels work.
pub struct Evaluation<'a> {
    model: &'a Gpt,
    passes: Option<Box<dyn Losses>>,
}

/// Losses in f32, whatever activations are kept as.
trait Losses {
    /// The size of the batches.
    fn size(&self) -> BatchSize;

    /// Losses of all tokens, row after row; 0 where a target is ignored.
    fn losses(&mut self, batch: Batch<'_>) -> &[f32];
}

impl<S: Stored<Element = f32>> Losses for Passes<S> {
    fn size(&self) -> BatchSize {
        Passes::size(self)
    }

    fn losses(&mut self, batch: Batch<'_>) -> &[f32] {
        Passes::losses(self, batch)
    }
}

impl Gpt {
    /// An evaluation of the model as it is now.
    pub fn evaluation(&self) -> Evaluation<'_> {
        Evaluation { model: self, passes: None }
    }
}

impl Evaluation<'_> {
    /// Cross-entropy in nats of every position of a batch, row after row; 0 where the target is −1.
    pub fn losses(&mut self, size: BatchSize, batch: Batch<'_>) -> Result<Vec<f32>, ModelError> {
        check(self.model.shape().vocab_size, size, batch)?;
        let passes: Box<dyn Losses> =
            match (self.passes.take().filter(|passes| passes.size() == size), self.model.kept_as()) {
                (Some(passes), _) => passes,
                (None, Some(Kind::F32)) => Box::new(Passes::<f32>::new(self.model, size, Pass::Evaluation)?),
                (None, Some(Kind::Bf16)) => Box::new(Passes::<bf16>::new(self.model, size, Pass::Evaluation)?),
                (None, _) => return self.model.losses_of(size, batch),
            };
        Ok(self.passes.insert(passes).losses(batch).to_vec())
    }
}

/// Refuses a batch of another size than it says, or of another vocabulary.
fn check(vocab_size: usize, size: BatchSize, batch: Batch<'_>) -> Result<(), ModelError> {
    for (what, values, least) in [("ids", batch.ids, 0), ("targets", batch.targets, -1)] {
        if values.len() != size.tokens() || values.is_empty() {
            let got = format!("{} of {} × {}", values.len(), size.rows, size.length);
            return Err(ModelError::Batch { what, expected: "i32", got });
        }
        if let Some(value) = values.iter().find(|value| **value < least || **value >= vocab_size as i32) {
            return Err(ModelError::OutsideVocabulary { what, value: i64::from(*value), vocab_size });
        }
    }
    Ok(())
}

impl Gpt {
    /// The same by the reference operations.
    pub(crate) fn losses_of(&self, size: BatchSize, batch: Batch<'_>) -> Result<Vec<f32>, ModelError> {
        let (ids, targets) = on_device(size, batch, self.device())?;
        Ok(self.losses(&ids, &targets)?.flatten_all()?.to_vec1()?)
    }
}

/// Ids (u32) and targets (i64) of a batch as tensors (B, T).
pub(crate) fn on_device(
    size: BatchSize,
    batch: Batch<'_>,
    device: &Device,
) -> Result<(Tensor, Tensor), candle_core::Error> {
    let dims = (size.rows, size.length);
    let ids = Tensor::from_slice(bytemuck::cast_slice::<i32, u32>(batch.ids), dims, device)?;
    let targets = batch.targets.iter().map(|target| i64::from(*target)).collect();
    Ok((ids, Tensor::from_vec(targets, dims, device)?))
}
