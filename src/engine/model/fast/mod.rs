//! The CPU path: forward and backward written out over the kernels, without candle's graph.
//!
//! It computes what [`super::forward`] computes, its reference implementation: tests compare every gradient with the
//! reference implementation's and with the scalar oracle's. Buffers live in a [`Workspace`] and are used again, so that a
//! step of a known size takes no memory from the system.

mod backward;
mod buffers;
mod forward;

use candle_core::{DType, Device, Tensor};

use super::{Gradients, ModelError, Parameters, Part};
use crate::ops::Element;
use crate::ops::tensors;
pub(super) use buffers::Workspace;
use buffers::{Buffers, Dims};
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::head;
use nanochat_plan::ModelShape;

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
    tensors::with_slices(&tensors, |slices| {
        let names = parameters.keys().map(String::as_str).collect();
        work(&Weights { names, slices })
    })?
}

/// One evaluation of a model on the CPU.
pub(super) struct Fast<'a> {
    /// The model's shape.
    pub(super) shape: &'a ModelShape,
    /// The model's parameters.
    pub(super) parameters: &'a Parameters,
    /// What products round their operands to.
    pub(super) compute_dtype: ComputeDtype,
}

impl Fast<'_> {
    /// Whether the kernels can do it: all parameters are f32 or f64 elements of the CPU.
    pub(super) fn serves(&self) -> Option<DType> {
        let first = self.parameters.values().next()?;
        let dtype = first.dtype();
        let fits = |tensor: &Tensor| {
            matches!(tensor.device(), Device::Cpu) && tensor.dtype() == dtype && tensor.is_contiguous()
        };
        (matches!(dtype, DType::F32 | DType::F64) && self.parameters.values().all(fits)).then_some(dtype)
    }

    /// Capped logits of all tokens, row after row.
    pub(super) fn logits<T: Element>(
        &self,
        rows: &[Vec<u32>],
        workspace: &mut Workspace<T>,
    ) -> Result<Vec<T>, ModelError> {
        let (ids, dims) = self.batch(rows);
        let buffers = workspace.inference(&dims);
        with_weights(self.parameters, |weights| {
            forward::stream(self.shape, weights, &ids, &dims, buffers)?;
            let mut logits = vec![T::ZERO; ids.len() * self.shape.vocab_size];
            head::capped(self.head(weights, &buffers.normed, &[])?, &mut logits);
            Ok(logits)
        })
    }

    /// Losses of all tokens, row after row; 0 where the target is below 0.
    pub(super) fn losses<T: Element>(
        &self,
        rows: &[Vec<u32>],
        targets: &[i64],
        workspace: &mut Workspace<T>,
    ) -> Result<Vec<T>, ModelError> {
        let (ids, dims) = self.batch(rows);
        let buffers = workspace.inference(&dims);
        with_weights(self.parameters, |weights| {
            forward::stream(self.shape, weights, &ids, &dims, buffers)?;
            let Buffers { normed, losses, logits, .. } = buffers;
            head::cross_entropy(self.head(weights, normed, targets)?, None, losses, logits);
            Ok(losses.clone())
        })
    }

    /// Adds the gradient of `factor` times the sum of losses to `into`; the losses.
    pub(super) fn gradients<T: Element>(
        &self,
        rows: &[Vec<u32>],
        targets: &[i64],
        factor: f64,
        into: &Gradients,
        workspace: &mut Workspace<T>,
        observe: &mut dyn FnMut(Part),
    ) -> Result<Vec<T>, ModelError> {
        let (ids, dims) = self.batch(rows);
        let buffers = workspace.training(&dims);
        with_weights(self.parameters, |weights| {
            forward::stream(self.shape, weights, &ids, &dims, buffers)?;
            observe(Part::Head);
            {
                let Buffers { normed, losses, logits, dnormed, .. } = &mut *buffers;
                let head = self.head(weights, normed, targets)?;
                tensors::update(into.get(super::parameters::HEAD)?, |dweight| {
                    let gradients = head::HeadGradients { factor, dx: dnormed, dweight };
                    head::cross_entropy(head, Some(gradients), losses, logits);
                })?;
            }
            observe(Part::Backward);
            backward::gradients(self.shape, weights, &ids, &dims, buffers, into)?;
            Ok(buffers.losses.clone())
        })
    }

    /// The checked ids of some rows in order, and the sizes.
    fn batch(&self, rows: &[Vec<u32>]) -> (Vec<u32>, Dims) {
        let length = rows.first().map_or(0, Vec::len);
        (rows.concat(), Dims::new(self.shape, (rows.len(), length), self.compute_dtype))
    }

    fn head<'a, T: Element>(
        &self,
        weights: &Weights<'a, T>,
        x: &'a [T],
        targets: &'a [i64],
    ) -> Result<head::Head<'a, T>, ModelError> {
        let weight = weights.get(super::parameters::HEAD)?;
        let (width, vocab) = (self.shape.n_embd, self.shape.vocab_size);
        Ok(head::Head { x, weight, targets, width, vocab, compute_dtype: self.compute_dtype })
    }
}
