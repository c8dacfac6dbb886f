//! AdamW and Muon by the processor's kernels. Both work in f32 alone.

use nanochat_kernels::{Element, Scratch, Stored, adamw, muon};
use rayon::prelude::*;

use super::Cpu;
use crate::ops::{MuonMember, Op, Region};

/// Weight of the new mean squares in Muon's second moment.
const NEW_SECOND: f32 = 1.0 - 0.9;

/// Memory that Muon works in, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct MuonWorkspaces {
    narrow: Scratch<f32>,
    wide: Scratch<f64>,
}

impl<S: Stored> Cpu<S> {
    pub(super) fn optimize(&mut self, op: &Op<'_>) {
        match *op {
            Op::AdamW { parameter, gradient, first, second, group } => {
                self.adamw([parameter, first, second], gradient, group);
            }
            Op::Muon { group, rows, columns, members } => self.muon(group, rows, columns, members),
            _ => unreachable!("every operation is carried out"),
        }
    }

    fn adamw(&mut self, changed: [Region; 3], gradient: Region, group: usize) {
        let by = self.coefficients.adamw[group];
        let (changed, [gradient]) = self.memory.split(changed, [gradient]);
        let [parameter, first, second] = changed.map(in_f32_mut);
        adamw::step(parameter, bytemuck::cast_slice(gradient), first, second, by);
    }

    fn muon(&mut self, group: usize, rows: usize, columns: usize, members: &[MuonMember]) {
        let by = muon::Coefficients {
            momentum: self.coefficients.muon_momentum,
            learning_rate: self.coefficients.muon_learning_rates[group],
            weight_decay: self.coefficients.muon_weight_decay,
            new_second: NEW_SECOND,
            polynomials: &muon::POLAR_EXPRESS,
            norm_margin: muon::NORM_MARGIN,
            least_norm: muon::LEAST_NORM,
            least_moment: muon::LEAST_MOMENT,
            compute_dtype: self.compute_dtype,
        };
        self.muon.narrow.reserve(muon::narrow_elements(rows, columns));
        self.muon.wide.reserve(muon::wide_elements(rows, columns));
        let regions: Vec<Region> = members
            .iter()
            .flat_map(|member| [member.parameter, member.gradient, member.momentum, member.second])
            .collect();
        let (workspaces, mut slices) = (&self.muon, self.memory.many(&regions));
        slices.par_chunks_exact_mut(4).with_max_len(1).for_each(|member| {
            let [parameter, gradient, momentum, second] = member else { return };
            let state = muon::State {
                parameter: in_f32_mut(parameter),
                gradient: in_f32_mut(gradient),
                momentum: in_f32_mut(momentum),
                second: in_f32_mut(second),
                rows,
                columns,
            };
            workspaces.narrow.with(|narrow| {
                workspaces.wide.with(|wide| muon::step(state, &by, muon::Workspace { narrow, wide }));
            });
        });
    }
}

/// The same elements, which are f32.
fn in_f32_mut<T: Element>(elements: &mut [T]) -> &mut [f32] {
    debug_assert!(T::IS_F32, "the optimizer works in f32 alone");
    bytemuck::cast_slice_mut(elements)
}
