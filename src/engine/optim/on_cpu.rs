//! One step by the CPU's kernels, in place: AdamW's parameters one after the other, Muon's matrices side by side.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::rules::Rule;
use super::{OptimError, StepSettings, adamw, muon};
use crate::model::{Engine, Gpt, Gradients, ModelError};
use crate::ops::tensors::{update, with_slices};
use nanochat_kernels::{self as kernels, Scratch};

/// What a step reads and changes.
pub(super) struct Step<'a> {
    pub(super) rules: &'a [(String, Rule)],
    pub(super) model: &'a Gpt,
    pub(super) gradients: &'a Gradients,
    pub(super) state: &'a BTreeMap<String, [Tensor; 2]>,
    /// Steps taken, this one included.
    pub(super) steps: u64,
    pub(super) at: &'a StepSettings,
}

/// Memory that Muon works in, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Benches {
    narrow: Scratch<f32>,
    wide: Scratch<f64>,
}

/// A parameter, its gradient, and its two state tensors.
type Tensors<'a> = (&'a Tensor, &'a Tensor, &'a [Tensor; 2]);

impl Step<'_> {
    /// Whether the kernels can take it: everything is f32 and contiguous on the CPU, and the model uses kernels.
    pub(super) fn serves(&self) -> bool {
        let fits = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous();
        self.model.engine() == Engine::Kernels
            && self.model.parameters().values().all(fits)
            && self.gradients.tensors().values().all(fits)
            && self.state.values().flatten().all(fits)
    }

    /// Changes all parameters and their state.
    pub(super) fn take(&self, scratch: &mut Benches) -> Result<(), OptimError> {
        let mut matrices = Vec::new();
        for (name, rule) in self.rules {
            match rule {
                Rule::AdamW(rule) => {
                    let by = adamw::coefficients(rule, self.at.lr_multiplier, self.steps);
                    self.adamw(name, by)?;
                }
                Rule::Muon { learning_rate, rows, columns } => {
                    matrices.push((
                        name,
                        muon::coefficients(*learning_rate, self.at, self.model.precision()),
                        *rows,
                        *columns,
                    ));
                }
            }
        }
        // The largest first, so that no thread is left alone with one at the end.
        matrices.sort_by_key(|(_, _, rows, columns)| std::cmp::Reverse(rows * columns * rows.min(columns)));
        let most = |elements: fn(usize, usize) -> usize| {
            matrices.iter().map(|(_, _, rows, columns)| elements(*rows, *columns)).max().unwrap_or(0)
        };
        scratch.narrow.reserve(most(kernels::muon::narrow_elements));
        scratch.wide.reserve(most(kernels::muon::wide_elements));
        let scratch = &*scratch;
        (matrices.par_iter().with_max_len(1))
            .try_for_each(|(name, by, rows, columns)| self.muon(name, by, (*rows, *columns), scratch))
    }

    fn tensors(&self, name: &str) -> Result<Tensors<'_>, OptimError> {
        let missing = || ModelError::Missing { name: name.to_string() };
        let parameter = self.model.parameters().get(name).ok_or_else(missing)?;
        let state = self.state.get(name).ok_or_else(missing)?;
        let gradient = self.gradients.get(name)?;
        if gradient.dims() != parameter.dims() {
            return Err(missing().into());
        }
        Ok((parameter, gradient, state))
    }

    fn adamw(&self, name: &str, by: kernels::adamw::Coefficients<f32>) -> Result<(), OptimError> {
        let (parameter, gradient, state) = self.tensors(name)?;
        in_place(parameter, gradient, state, |parameter, gradient, first, second| {
            kernels::adamw::step(parameter, gradient, first, second, by);
        })
    }

    fn muon(
        &self,
        name: &str,
        by: &kernels::muon::Coefficients,
        (rows, columns): (usize, usize),
        scratch: &Benches,
    ) -> Result<(), OptimError> {
        let (parameter, gradient, state) = self.tensors(name)?;
        in_place(parameter, gradient, state, |parameter, gradient, momentum, second| {
            let state = kernels::muon::State { parameter, gradient, momentum, second, rows, columns };
            scratch.narrow.with(|narrow| {
                scratch.wide.with(|wide| kernels::muon::step(state, by, kernels::muon::Workspace { narrow, wide }));
            });
        })
    }
}

/// Calls `work` with the elements of a parameter, its gradient and its state; all but the gradient may be changed.
fn in_place(
    parameter: &Tensor,
    gradient: &Tensor,
    [first, second]: &[Tensor; 2],
    work: impl FnOnce(&mut [f32], &[f32], &mut [f32], &mut [f32]),
) -> Result<(), OptimError> {
    let stepped = with_slices(&[gradient], |gradients| {
        update(parameter, |parameter| {
            update(first, |first| update(second, |second| work(parameter, gradients[0], first, second)))
        })
    });
    Ok(stepped.flatten().flatten().flatten()?)
}
