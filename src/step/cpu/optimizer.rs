//! AdamW and Muon by the processor's kernels. Both work in f32 alone.

use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{Element, Scratch, adamw, muon};
use rayon::prelude::*;

use super::Cpu;
use crate::ops::{MuonMember, Op, Region};

/// Weight of the new mean squares in Muon's second moment.
const NEW_SECOND: f32 = 1.0 - 0.9;
/// Coefficients of the five Polar Express iterations (Amsel et al., 2025, arXiv 2505.16932, safety factor 2e-2, cushion 2).
const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
];
/// The spectrum is brought below 1 by this factor on the Frobenius norm.
const NORM_MARGIN: f64 = 1.01;
/// Least norm that is divided by.
const LEAST_NORM: f64 = 1e-6;
/// Least second moment that is divided by the root of.
const LEAST_MOMENT: f64 = 1e-10;

/// Memory that Muon works in, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct MuonWorkspaces {
    narrow: Scratch<f32>,
    wide: Scratch<f64>,
}

impl<T: Element> Cpu<T> {
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
        let by = self.settings.adamw[group];
        let by = adamw::Coefficients {
            keep: by.keep,
            new_first: by.new_first,
            new_second: by.new_second,
            second_bias: by.second_bias,
            step_size: by.step_size,
            epsilon: by.epsilon,
        };
        let (changed, [gradient]) = self.memory.split(changed, [gradient]);
        let [parameter, first, second] = changed.map(in_f32_mut);
        adamw::step(parameter, bytemuck::cast_slice(gradient), first, second, by);
    }

    fn muon(&mut self, group: usize, rows: usize, columns: usize, members: &[MuonMember]) {
        let by = muon::Coefficients {
            momentum: self.settings.muon_momentum,
            learning_rate: self.settings.muon_learning_rates[group],
            weight_decay: self.settings.muon_weight_decay,
            new_second: NEW_SECOND,
            polynomials: &POLAR_EXPRESS,
            norm_margin: NORM_MARGIN,
            least_norm: LEAST_NORM,
            least_moment: LEAST_MOMENT,
            compute_dtype: self.muon_compute_dtype(),
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

    fn muon_compute_dtype(&self) -> ComputeDtype {
        self.compute_dtype
    }
}

/// The same elements, which are f32.
fn in_f32_mut<T: Element>(elements: &mut [T]) -> &mut [f32] {
    debug_assert!(T::IS_F32, "the optimizer works in f32 alone");
    bytemuck::cast_slice_mut(elements)
}
