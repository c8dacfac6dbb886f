//! A model's parameters as the kernels read them: slices of the tensors on the CPU.

use candle_core::{DType, Device, Tensor};

use super::{ModelError, Parameters};
use crate::ops::Element;
use crate::ops::tensors::with_slices;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_plan::ModelShape;

/// A model that the kernels serve: its parameters are of one float type of theirs, and on the CPU.
#[derive(Clone, Copy)]
pub(super) struct OnCpu<'a> {
    /// The model's shape.
    pub(super) shape: &'a ModelShape,
    /// The model's parameters.
    pub(super) parameters: &'a Parameters,
    /// What products round their operands to.
    pub(super) compute_dtype: ComputeDtype,
}

impl OnCpu<'_> {
    /// The type of all parameters, f32 or f64, if the kernels serve them.
    pub(super) fn serves(&self) -> Option<DType> {
        let dtype = self.parameters.values().next()?.dtype();
        let fits = |tensor: &Tensor| {
            matches!(tensor.device(), Device::Cpu) && tensor.dtype() == dtype && tensor.is_contiguous()
        };
        (matches!(dtype, DType::F32 | DType::F64) && self.parameters.values().all(fits)).then_some(dtype)
    }
}

/// Parameters as slices.
pub(super) struct Weights<'a, T> {
    names: Vec<&'a str>,
    slices: &'a [&'a [T]],
}

impl<'a, T: Element> Weights<'a, T> {
    /// The elements of the parameter of that name.
    pub(super) fn get(&self, name: &str) -> Result<&'a [T], ModelError> {
        match self.names.binary_search(&name) {
            Ok(index) => Ok(self.slices[index]),
            Err(_) => Err(ModelError::Missing { name: name.to_string() }),
        }
    }

    /// The only, or the numbered, entry of the parameter of that name.
    pub(super) fn entry(&self, name: &str, index: usize) -> Result<T, ModelError> {
        let missing = || ModelError::Missing { name: name.to_string() };
        self.get(name)?.get(index).copied().ok_or_else(missing)
    }
}

/// Calls `work` with all parameters as slices.
pub(super) fn with_weights<T: Element, R>(
    parameters: &Parameters,
    work: impl FnOnce(&Weights<'_, T>) -> Result<R, ModelError>,
) -> Result<R, ModelError> {
    let tensors: Vec<&Tensor> = parameters.values().collect();
    with_slices(&tensors, |slices| {
        let names = parameters.keys().map(String::as_str).collect();
        work(&Weights { names, slices })
    })?
}
