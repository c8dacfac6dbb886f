//! Sums of gradients over micro-steps, by parameter name.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{ModelError, Parameters};

/// One sum of gradients a parameter, of its shape and type, in name order.
#[derive(Debug, Clone)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Zeros for every parameter.
    pub fn zeros(parameters: &Parameters) -> Result<Self, ModelError> {
        let zeros = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.zeros_like()?));
        Ok(Self { tensors: parameters.iter().map(zeros).collect::<Result<_, ModelError>>()? })
    }

    /// Given sums, as an optimizer's reference figures have them.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors }
    }

    /// The sum for one parameter.
    pub fn get(&self, name: &str) -> Result<&Tensor, ModelError> {
        self.tensors.get(name).ok_or_else(|| ModelError::Missing { name: name.to_string() })
    }

    /// All sums, in name order.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Back to zero, before the next step.
    pub fn reset(&mut self) -> Result<(), ModelError> {
        for tensor in self.tensors.values_mut() {
            *tensor = tensor.zeros_like()?;
        }
        Ok(())
    }

    /// Adds a gradient to the sum for `name`.
    pub(super) fn add(&mut self, name: &str, gradient: &Tensor) -> Result<(), ModelError> {
        let sum = self.tensors.get_mut(name).ok_or_else(|| ModelError::Missing { name: name.to_string() })?;
        *sum = (&*sum + gradient)?.detach();
        Ok(())
    }
}
