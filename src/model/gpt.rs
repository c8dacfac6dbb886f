//! The model as others use it.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, Var};

use super::forward::Forward;
use super::{Gradients, KvCache, ModelError, Parameters, initialize, parameters};
use crate::ops::reference::cross_entropy;
use crate::plan::ModelShape;
use crate::plan::shape;

/// A transformer of some shape with its parameters on one device.
///
/// An optimizer changes the parameters in place: whoever keeps a tensor of [`Gpt::parameters`] across a step copies it.
#[derive(Debug)]
pub struct Gpt {
    shape: ModelShape,
    parameters: Parameters,
    device: Device,
}

impl Gpt {
    /// A model with the baseline's initial distributions, drawn from `seed`; the same on every device and thread count.
    pub fn initialized(shape: &ModelShape, seed: u64, device: &Device) -> Result<Self, ModelError> {
        shape::validate(shape)?;
        let parameters = initialize::initialized(shape, seed, device)?;
        Ok(Self { shape: shape.clone(), parameters, device: device.clone() })
    }

    /// A model with given weights by the baseline's names, copied and converted to f32. One error names every tensor that
    /// is missing, unknown, misshaped, not of a float type, or not finite.
    pub fn from_tensors(
        shape: &ModelShape,
        tensors: &HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        shape::validate(shape)?;
        let parameters = parameters::from_tensors(shape, tensors, device)?;
        Ok(Self { shape: shape.clone(), parameters, device: device.clone() })
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
        &mut self.parameters
    }

    /// Shape of every parameter by name.
    pub fn parameter_shapes(shape: &ModelShape) -> BTreeMap<String, Vec<usize>> {
        parameters::parameter_shapes(shape)
    }

    /// The same model in another float type; used to hold it against an oracle in f64.
    #[cfg(test)]
    pub(crate) fn to_dtype(&self, dtype: DType) -> Result<Self, ModelError> {
        let convert = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?.copy()?));
        let parameters = self.parameters.iter().map(convert).collect::<Result<_, ModelError>>()?;
        Ok(Self { shape: self.shape.clone(), parameters, device: self.device.clone() })
    }

    /// Logits after the soft cap, (B, T, V) in f32, of `ids` (B, T) in u32.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        self.check_ids(ids)?;
        Ok(self.forward().logits(ids, None)?)
    }

    /// Mean cross-entropy in nats over the targets (B, T, i64) that are not −1.
    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<f32, ModelError> {
        let counted = self.check_targets(ids, targets)?;
        let losses = self.losses(ids, targets)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        mean(&losses, counted)
    }

    /// Cross-entropy in nats of every position, (B, T); 0 where the target is −1.
    pub fn losses(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
        self.check_ids(ids)?;
        self.check_targets(ids, targets)?;
        losses(&self.forward(), ids, targets)
    }

    /// Adds `scale` times the gradient of the mean loss to `into`, and gives back the mean loss, unscaled.
    pub fn accumulate_gradients(
        &self,
        ids: &Tensor,
        targets: &Tensor,
        scale: f64,
        into: &mut Gradients,
    ) -> Result<f32, ModelError> {
        self.check_ids(ids)?;
        let counted = self.check_targets(ids, targets)?;
        if counted == 0 {
            return Err(ModelError::NothingToPredict);
        }
        let variables: Vec<(&String, Var)> = (self.parameters.iter())
            .map(|(name, tensor)| Ok((name, Var::from_tensor(tensor)?)))
            .collect::<Result<_, ModelError>>()?;
        let parameters = variables.iter().map(|(name, var)| ((*name).clone(), var.as_tensor().clone())).collect();
        let losses = losses(&Forward { shape: &self.shape, parameters: &parameters }, ids, targets)?;
        let objective = losses.sum_all()?.affine(scale / counted as f64, 0.0)?;
        let store = objective.backward()?;
        for (name, variable) in &variables {
            let gradient = store.get(variable).ok_or_else(|| ModelError::Gradients { name: (*name).clone() })?;
            into.add(name, gradient)?;
        }
        mean(&losses.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?, counted)
    }

    /// An empty key/value cache for `batch` rows with room for `capacity` tokens; it grows when more come.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Result<KvCache, ModelError> {
        let dtype = self.parameters.values().next().map_or(DType::F32, Tensor::dtype);
        KvCache::new(&self.shape, batch, capacity, dtype, &self.device)
    }

    /// Logits (B, T, V) of new tokens (B, T) that follow those in the cache, which takes them up.
    pub fn logits_cached(&self, ids: &Tensor, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let rows = self.check_ids(ids)?;
        if rows.len() != cache.rows() {
            return Err(ModelError::CacheRows { batch: rows.len(), cache: cache.rows() });
        }
        cache.reserve(ids.dim(1)?)?;
        let logits = self.forward().logits(ids, Some(cache))?;
        cache.advance(&rows);
        Ok(logits)
    }

    fn forward(&self) -> Forward<'_> {
        Forward { shape: &self.shape, parameters: &self.parameters }
    }

    /// Refuses ids of the wrong form or outside the vocabulary; gives them back as rows.
    fn check_ids(&self, ids: &Tensor) -> Result<Vec<Vec<u32>>, ModelError> {
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

    /// Refuses targets of the wrong form or outside the vocabulary; counts those that are not ignored.
    fn check_targets(&self, ids: &Tensor, targets: &Tensor) -> Result<usize, ModelError> {
        if targets.dims() != ids.dims() || targets.dtype() != DType::I64 {
            let got = format!("{:?} {} beside ids {:?}", targets.dims(), targets.dtype().as_str(), ids.dims());
            return Err(ModelError::Batch { what: "targets", expected: "i64", got });
        }
        let values = targets.flatten_all()?.to_vec1::<i64>()?;
        let vocab_size = self.shape.vocab_size;
        match values.iter().find(|value| **value < -1 || **value >= vocab_size as i64) {
            Some(value) => Err(ModelError::OutsideVocabulary { what: "targets", value: *value, vocab_size }),
            None => Ok(values.iter().filter(|value| **value >= 0).count()),
        }
    }
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

/// Sum of the losses over the number of counted targets, in f64.
fn mean(losses: &[f32], counted: usize) -> Result<f32, ModelError> {
    if counted == 0 {
        return Err(ModelError::NothingToPredict);
    }
    let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    Ok((total / counted as f64) as f32)
}
