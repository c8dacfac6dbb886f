//! The model as others use it.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, Var, WithDType};

use super::forward::Forward;
use super::inference::{self, Narrow};
use super::passes::Passes;
use super::weights::OnCpu;
use super::{Gradients, ModelError, Parameters, initialize, parameters};
use crate::ops::Element;
use crate::ops::reference::cross_entropy;
use half::bf16;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{Kind, Stored};
use nanochat_plan::activations::{BatchSize, Pass};
use nanochat_plan::{ModelShape, Precision, rows_at_once, shape};
use nanochat_step::Batch;

/// A transformer of some shape with its parameters on one device.
#[derive(Debug, Clone)]
pub struct Gpt {
    shape: ModelShape,
    parameters: Parameters,
    device: Device,
    backend: Backend,
    precision: Precision,
    /// The weights of matrix products rounded to bf16, where decoding shall read these.
    narrow: Option<Narrow>,
}

/// What computes a model's passes on the CPU; other devices always take the reference operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Hand-written kernels.
    #[default]
    Kernels,
    /// Candle's elementary operations and its `backward`: the kernels' reference implementation.
    Reference,
}

/// A part of one pass with gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From the ids to the head's input; with the reference operations to the losses.
    Forward,
    /// The head, the losses, and the gradients of both, which the kernels compute in one go.
    Head,
    /// From the gradient of the head's input, or of the losses, to those of all parameters.
    Backward,
}

impl Gpt {
    /// A model with the baseline's initial distributions, drawn from `seed`; the same on every device and thread count.
    pub fn initialized(shape: &ModelShape, seed: u64, device: &Device) -> Result<Self, ModelError> {
        shape::validate(shape)?;
        Ok(Self::new(shape, initialize::initialized(shape, seed, device)?, device))
    }

    /// A model with given weights by the baseline's names, copied and converted to f32. One error names every tensor that
    /// is missing, unknown, misshaped, not of a float type, or not finite.
    pub fn from_tensors(
        shape: &ModelShape,
        tensors: &HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        shape::validate(shape)?;
        Ok(Self::new(shape, parameters::from_tensors(shape, tensors, device)?, device))
    }

    /// A model on the CPU of tensors that are known to fit, without a copy.
    pub(crate) fn from_owned(shape: &ModelShape, tensors: HashMap<String, Tensor>) -> Result<Self, ModelError> {
        shape::validate(shape)?;
        Ok(Self::new(shape, tensors.into_iter().collect(), &Device::Cpu))
    }

    fn new(shape: &ModelShape, parameters: Parameters, device: &Device) -> Self {
        let (shape, device) = (shape.clone(), device.clone());
        Self { shape, parameters, device, backend: Backend::default(), precision: Precision::F32, narrow: None }
    }

    /// What computes the passes on the CPU.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Chooses what computes the passes on the CPU.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// The device that holds the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// All parameters by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// All parameters by name, to be changed by an optimizer; names and shapes must stay.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        self.narrow = None;
        &mut self.parameters
    }

    /// Shape of every parameter by name.
    pub fn parameter_shapes(shape: &ModelShape) -> BTreeMap<String, Vec<usize>> {
        parameters::parameter_shapes(shape)
    }

    /// The arithmetic of matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Chooses the arithmetic of matrix products, f32 at first. In bf16 operands are rounded and sums are of f32, on every
    /// device; parameters, gradients and the stream stay in f32.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Rounds the weights of matrix products (not the embeddings) to bf16, for good: every pass computes with the rounded
    /// ones from now on, and decoding reads half as many bytes. Sums stay in f32, and activations are not rounded.
    pub fn round_weights(&mut self) -> Result<(), ModelError> {
        self.narrow = Some(inference::narrowed(&self.shape, &mut self.parameters)?);
        Ok(())
    }

    /// The weights that decoding reads in bf16, if it does.
    pub(super) fn narrow(&self) -> Option<&Narrow> {
        self.narrow.as_ref()
    }

    /// The same model in another float type; used to hold it against an oracle in f64.
    #[cfg(test)]
    pub fn to_dtype(&self, dtype: DType) -> Result<Self, ModelError> {
        let convert = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?.copy()?));
        let parameters = self.parameters.iter().map(convert).collect::<Result<_, ModelError>>()?;
        Ok(Self {
            backend: self.backend,
            precision: self.precision,
            ..Self::new(&self.shape, parameters, &self.device)
        })
    }

    /// Logits after the soft cap, (B, T, V) in f32, of `ids` (B, T) in u32.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        let rows = self.check_ids(ids)?;
        match self.kept_as() {
            Some(Kind::F64) => self.kernel_logits::<f64>(&rows),
            Some(Kind::F32) => self.kernel_logits::<f32>(&rows),
            Some(Kind::Bf16) => self.kernel_logits::<bf16>(&rows),
            None => Ok(self.forward().logits(ids, None)?),
        }
    }

    /// Mean cross-entropy in nats over the targets (B, T, i64) that are not −1.
    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<f32, ModelError> {
        mean(&self.losses(ids, targets)?, &self.check_targets(ids, targets)?)
    }

    /// Cross-entropy in nats of every position, (B, T); 0 where the target is −1.
    pub fn losses(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
        let rows = self.check_ids(ids)?;
        let checked = self.check_targets(ids, targets)?;
        match self.kept_as() {
            Some(Kind::F64) => self.kernel_losses::<f64>(&rows, &checked),
            Some(Kind::F32) => self.kernel_losses::<f32>(&rows, &checked),
            Some(Kind::Bf16) => self.kernel_losses::<bf16>(&rows, &checked),
            None => self.reference_losses(ids, targets, self.rows_at_once(ids)?),
        }
    }

    /// Adds `scale` times the gradient of the mean loss to `into`, and gives back the mean loss, unscaled.
    pub fn accumulate_gradients(
        &self,
        ids: &Tensor,
        targets: &Tensor,
        scale: f64,
        into: &mut Gradients,
    ) -> Result<f32, ModelError> {
        self.accumulate_gradients_observed(ids, targets, scale, into, &mut |_| {})
    }

    /// The same, telling each part as it begins, for measurements.
    pub fn accumulate_gradients_observed(
        &self,
        ids: &Tensor,
        targets: &Tensor,
        scale: f64,
        into: &mut Gradients,
        observe: &mut dyn FnMut(Part),
    ) -> Result<f32, ModelError> {
        observe(Part::Forward);
        let rows = self.check_ids(ids)?;
        let checked = self.check_targets(ids, targets)?;
        let counted = counted(&checked);
        if counted == 0 {
            return Err(ModelError::NothingToPredict);
        }
        let factor = scale / counted as f64;
        let losses = match self.kept_as() {
            Some(Kind::F64) => self.kernel_gradients::<f64>(&rows, &checked, factor, into, observe)?,
            Some(Kind::F32) => self.kernel_gradients::<f32>(&rows, &checked, factor, into, observe)?,
            Some(Kind::Bf16) => self.kernel_gradients::<bf16>(&rows, &checked, factor, into, observe)?,
            None => self.reference_gradients(ids, targets, self.rows_at_once(ids)?, factor, into, observe)?,
        };
        mean(&losses, &checked)
    }

    /// Adds the gradient of `factor` times the sum of losses by candle's own `backward`, so many rows at a time; the losses.
    pub(super) fn reference_gradients(
        &self,
        ids: &Tensor,
        targets: &Tensor,
        rows_at_once: usize,
        factor: f64,
        into: &mut Gradients,
        observe: &mut dyn FnMut(Part),
    ) -> Result<Tensor, ModelError> {
        let variables: Vec<(&String, Var)> = (self.parameters.iter())
            .map(|(name, tensor)| Ok((name, Var::from_tensor(tensor)?)))
            .collect::<Result<_, ModelError>>()?;
        let parameters = variables.iter().map(|(name, var)| ((*name).clone(), var.as_tensor().clone())).collect();
        let forward =
            Forward { shape: &self.shape, parameters: &parameters, compute_dtype: compute_dtype(self.precision) };
        let mut all = Vec::new();
        for (ids, targets) in slices(ids, targets, rows_at_once)? {
            if !all.is_empty() {
                observe(Part::Forward);
            }
            let losses = losses(&forward, &ids, &targets)?;
            observe(Part::Backward);
            let store = losses.sum_all()?.affine(factor, 0.0)?.backward()?;
            for (name, variable) in &variables {
                let gradient = store.get(variable).ok_or_else(|| ModelError::Missing { name: (*name).clone() })?;
                into.add(name, gradient)?;
            }
            all.push(losses.detach());
        }
        Ok(Tensor::cat(&all, 0)?)
    }

    /// Cross-entropy of every position by the reference operations, (B, T), so many rows at a time.
    pub(super) fn reference_losses(
        &self,
        ids: &Tensor,
        targets: &Tensor,
        rows_at_once: usize,
    ) -> Result<Tensor, ModelError> {
        let slices = slices(ids, targets, rows_at_once)?.into_iter();
        let all = slices.map(|(ids, targets)| losses(&self.forward(), &ids, &targets));
        Ok(Tensor::cat(&all.collect::<Result<Vec<_>, _>>()?, 0)?)
    }

    /// Rows that the reference operations take at a time.
    fn rows_at_once(&self, ids: &Tensor) -> Result<usize, ModelError> {
        Ok(rows_at_once(&self.shape, ids.dim(1)?))
    }

    fn kernel_logits<S: Stored<Element: Element + WithDType>>(&self, rows: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        let (size, ids) = flat(rows);
        let batch = Batch { ids: &ids, targets: &ids, number: 0 };
        let logits = Passes::<S>::new(self, size, Pass::Evaluation)?.logits(batch);
        Ok(Tensor::from_vec(logits, (rows.len(), (), self.shape.vocab_size), &self.device)?)
    }

    fn kernel_losses<S: Stored<Element: Element + WithDType>>(
        &self,
        rows: &[Vec<u32>],
        targets: &[i32],
    ) -> Result<Tensor, ModelError> {
        let (size, ids) = flat(rows);
        let mut passes = Passes::<S>::new(self, size, Pass::Evaluation)?;
        let losses = passes.losses(Batch { ids: &ids, targets, number: 0 });
        Ok(Tensor::from_slice(losses, (rows.len(), ()), &self.device)?)
    }

    fn kernel_gradients<S: Stored<Element: Element + WithDType>>(
        &self,
        rows: &[Vec<u32>],
        targets: &[i32],
        factor: f64,
        into: &mut Gradients,
        observe: &mut dyn FnMut(Part),
    ) -> Result<Tensor, ModelError> {
        let (size, ids) = flat(rows);
        let mut passes = Passes::<S>::new(self, size, Pass::Training)?;
        let losses = passes.gradients(Batch { ids: &ids, targets, number: 0 }, factor, into, observe)?;
        Ok(Tensor::from_slice(losses, (rows.len(), ()), &self.device)?)
    }

    /// What the kernels keep activations as in full passes, if they serve this model and are chosen.
    pub(super) fn kept_as(&self) -> Option<Kind> {
        let (_, dtype) = self.by_kernels()?;
        Some(match (dtype, self.precision) {
            (DType::F64, _) => Kind::F64,
            (_, Precision::F32) => Kind::F32,
            (_, Precision::Bf16) => Kind::Bf16,
        })
    }

    /// The parameters as the kernels read them and the type they work in, if they serve this model and are chosen.
    pub(super) fn by_kernels(&self) -> Option<(OnCpu<'_>, DType)> {
        self.on_cpu().filter(|_| self.backend == Backend::Kernels)
    }

    /// The parameters as the kernels read them and the type they work in, if they serve this model.
    pub(super) fn on_cpu(&self) -> Option<(OnCpu<'_>, DType)> {
        let compute_dtype = compute_dtype(self.precision);
        let on_cpu = OnCpu { shape: &self.shape, parameters: &self.parameters, compute_dtype };
        let dtype = on_cpu.serves()?;
        Some((on_cpu, dtype))
    }

    pub(super) fn forward(&self) -> Forward<'_> {
        Forward { shape: &self.shape, parameters: &self.parameters, compute_dtype: compute_dtype(self.precision) }
    }

    /// Refuses ids of the wrong form or outside the vocabulary; gives them back as rows.
    pub(super) fn check_ids(&self, ids: &Tensor) -> Result<Vec<Vec<u32>>, ModelError> {
        if ids.rank() != 2 || ids.elem_count() == 0 || ids.dtype() != DType::U32 {
            let got = format!("{:?} {}", ids.dims(), ids.dtype().as_str());
            return Err(ModelError::Batch { what: "ids", expected: "u32", got });
        }
        let rows = ids.to_vec2::<u32>()?;
        let vocab_size = self.shape.vocab_size;
        match rows.iter().flatten().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(ModelError::OutsideVocabulary { what: "ids", value: i64::from(*id), vocab_size }),
            None => Ok(rows),
        }
    }

    /// Refuses targets of the wrong form or outside the vocabulary; gives them back in order.
    fn check_targets(&self, ids: &Tensor, targets: &Tensor) -> Result<Vec<i32>, ModelError> {
        if targets.dims() != ids.dims() || targets.dtype() != DType::I64 {
            let got = format!("{:?} {} beside ids {:?}", targets.dims(), targets.dtype().as_str(), ids.dims());
            return Err(ModelError::Batch { what: "targets", expected: "i64", got });
        }
        let values = targets.flatten_all()?.to_vec1::<i64>()?;
        let vocab_size = self.shape.vocab_size;
        match values.iter().find(|value| **value < -1 || **value >= vocab_size as i64) {
            Some(value) => Err(ModelError::OutsideVocabulary { what: "targets", value: *value, vocab_size }),
            None => Ok(values.into_iter().map(|value| value as i32).collect()),
        }
    }
}

/// The size of a batch of rows, and all their ids.
fn flat(rows: &[Vec<u32>]) -> (BatchSize, Vec<i32>) {
    let ids = rows.iter().flatten().map(|id| *id as i32).collect();
    (BatchSize { rows: rows.len(), length: rows.first().map_or(0, Vec::len) }, ids)
}

/// Ids and targets (B, T) by so many rows at a time.
fn slices(ids: &Tensor, targets: &Tensor, rows_at_once: usize) -> Result<Vec<(Tensor, Tensor)>, ModelError> {
    let rows = ids.dim(0)?;
    let slice = |start: usize| {
        let count = rows_at_once.min(rows - start);
        Ok((ids.narrow(0, start, count)?, targets.narrow(0, start, count)?))
    };
    (0..rows).step_by(rows_at_once).map(slice).collect()
}

/// Cross-entropy of every position, (B, T), 0 where the target is −1; gradients flow through it.
fn losses(forward: &Forward, ids: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
    let logits = forward.logits(ids, None)?;
    let flat = targets.flatten_all()?;
    let counted = flat.ge(0i64)?.to_dtype(logits.dtype())?;
    let picked = flat.maximum(&flat.zeros_like()?)?;
    let losses = cross_entropy(&logits.flatten_to(1)?, &picked)?;
    Ok((losses * counted)?.reshape(targets.dims())?)
}

/// What products in that precision round their operands to.
pub fn compute_dtype(precision: Precision) -> ComputeDtype {
    match precision {
        Precision::F32 => ComputeDtype::Full,
        Precision::Bf16 => ComputeDtype::Bf16,
    }
}

/// How many targets are not ignored.
fn counted(targets: &[i32]) -> usize {
    targets.iter().filter(|target| **target >= 0).count()
}

/// Sum of the losses over the number of counted targets, in f64.
fn mean(losses: &Tensor, targets: &[i32]) -> Result<f32, ModelError> {
    if counted(targets) == 0 {
        return Err(ModelError::NothingToPredict);
    }
    // Not every GPU has f64.
    let losses = losses.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok((losses.iter().sum::<f64>() / counted(targets) as f64) as f32)
}
