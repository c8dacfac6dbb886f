//! AdamW and Muon. Matrices of one shape are stepped together: Polar Express by batched products in the activations' memory.

use bytemuck::{Pod, Zeroable};
use nanochat_kernels::muon::{LEAST_MOMENT, LEAST_NORM, NORM_MARGIN, POLAR_EXPRESS};
use nanochat_plan::gpu::{COEFFICIENT_BYTES, MEMBER_BYTES};
use nanochat_step::{Coefficients, MuonMember, Op, Optimizer};

use super::{GpuOps, ROW_THREADS, grid};
use crate::{Address, Device, DeviceError, Kernel, Operand, Output, Product};

/// Weight of the new mean squares in Muon's second moment.
const NEW_SECOND: f32 = 1.0 - 0.9;

/// `Coefficients` in `kernels/plain.inc`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct DeviceCoefficients {
    adamw: [[f32; 6]; 6],
    muon_learning_rates: [f32; 8],
    muon_momentum: f32,
    muon_weight_decay: f32,
    padding: [f32; 2],
}

const _: () = assert!(size_of::<DeviceCoefficients>() == COEFFICIENT_BYTES);

/// Matrices of one shape on their way through Muon's step.
#[derive(Debug, Clone, Copy)]
struct Muon {
    group: usize,
    rows: usize,
    columns: usize,
    count: usize,
    /// Addresses of the members and their state.
    members: u64,
    /// The update, its successor, and two squares of the smaller side, each for every member.
    x: Address,
    other: Address,
    gram: Address,
    polynomial: Address,
    /// Sums of squares, and factors.
    squares: u64,
    factors: u64,
}

impl<D: Device> GpuOps<D> {
    /// Tells the device where the matrices of Muon's groups lie. Must come before the first step of that optimizer.
    pub fn load_optimizer(&mut self, optimizer: &Optimizer) -> Result<(), DeviceError> {
        let mut members: Vec<[u64; 5]> = Vec::new();
        self.muon.clear();
        for group in optimizer.muon_members() {
            self.muon.push((members.len(), group.len()));
            members.extend(group.iter().map(|member| self.memory.member(member)));
        }
        self.device.upload(self.memory.members, bytemuck::cast_slice(&members))
    }

    pub(super) fn upload_coefficients(&mut self, of: &Coefficients) -> Result<(), DeviceError> {
        let adamw = of.adamw.map(|by| [by.keep, by.new_first, by.new_second, by.second_bias, by.step_size, by.epsilon]);
        let coefficients = DeviceCoefficients {
            adamw,
            muon_learning_rates: of.muon_learning_rates,
            muon_momentum: of.muon_momentum,
            muon_weight_decay: of.muon_weight_decay,
            padding: [0.0; 2],
        };
        self.device.upload(self.memory.coefficients, bytemuck::bytes_of(&coefficients))
    }

    pub(super) fn optimize(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        match *op {
            Op::AdamW { parameter, gradient, first, second, group } => {
                let pointers = [parameter, gradient, first, second].map(|region| self.at(region));
                let (copy, coefficients) = (self.memory.copy(parameter).0, self.memory.coefficients.0);
                let arguments = [&pointers[..], &[copy, coefficients, group as u64, parameter.len as u64]].concat();
                self.launch(Kernel::AdamW, grid(parameter.len), ROW_THREADS, &arguments)
            }
            Op::Muon { group, rows, columns, members } => {
                let muon = self.workspaces(group, rows, columns, members)?;
                self.look_ahead(&muon)?;
                self.orthogonalize(&muon)?;
                self.update(&muon)
            }
            _ => unreachable!("operations of the optimizer alone come here"),
        }
    }

    fn workspaces(
        &self,
        group: usize,
        rows: usize,
        columns: usize,
        members: &[MuonMember],
    ) -> Result<Muon, DeviceError> {
        let known = self.muon.get(group).filter(|(_, count)| *count == members.len());
        let (first, count) = *known.ok_or_else(|| DeviceError::Failed {
            command: "Muon's step".into(),
            reason: format!("group {group} of {} matrices was not loaded", members.len()),
        })?;
        let (bytes, small) = (self.memory.storage.bytes(), rows.min(columns));
        let (matrices, squares) = (count * rows * columns * bytes, count * small * small * bytes);
        let x = self.memory.workspace();
        let gram = x.plus(2 * matrices);
        Ok(Muon {
            group,
            rows,
            columns,
            count,
            members: self.memory.members.plus(first * MEMBER_BYTES).0,
            x,
            other: x.plus(matrices),
            gram,
            polynomial: gram.plus(squares),
            squares: self.memory.muon_factors.0,
            factors: self.memory.muon_factors.plus(4 * count * rows.max(columns)).0,
        })
    }

    /// Momentum, and the matrices with rows of equal norm and a norm below 1.
    fn look_ahead(&mut self, muon: &Muon) -> Result<(), DeviceError> {
        let Muon { rows, columns, count, members, x, squares, factors, .. } = *muon;
        let all = count * rows;
        let sizes = [count, rows, columns].map(|size| size as u64);
        let arguments = [&[members, self.memory.coefficients.0, x.0, squares][..], &sizes].concat();
        self.launch_rows(Kernel::MuonLookahead, all, &arguments)?;
        let [margin, least] = [NORM_MARGIN, LEAST_NORM].map(bits);
        self.launch(Kernel::Equilibrate, count as u32, ROW_THREADS, &[squares, factors, rows as u64, margin, least])?;
        self.launch_rows(Kernel::ScaleRows, all, &[x.0, factors, all as u64, columns as u64])
    }

    /// The five iterations of Polar Express. An odd number of exchanges leaves the result where `other` was.
    fn orthogonalize(&mut self, muon: &Muon) -> Result<(), DeviceError> {
        let Muon { rows, columns, count, gram, polynomial, .. } = *muon;
        let (tall, small) = (rows > columns, rows.min(columns));
        let storage = self.memory.storage;
        let [mut x, mut other] = [muon.x, muon.other];
        for [a, b, c] in POLAR_EXPRESS {
            let square = |at| Operand { at, rows: small, columns: small, transposed: false };
            let matrix = Operand { at: x, rows, columns, transposed: false };
            let flipped = Operand { transposed: true, ..matrix };
            let mut multiply = |a, b, out, plus: Address, alpha: f64, beta: f64| {
                let out = Output { at: out, dtype: storage };
                let (alpha, beta) = (alpha as f32, beta as f32);
                self.device.product(&Product { dtype: storage, a, b, c: plus, out, count, alpha, beta })
            };
            let (left, right) = if tall { (flipped, matrix) } else { (matrix, flipped) };
            multiply(left, right, gram, gram, 1.0, 0.0)?;
            multiply(square(gram), square(gram), polynomial, gram, c, b)?;
            let (left, right) = if tall { (matrix, square(polynomial)) } else { (square(polynomial), matrix) };
            multiply(left, right, other, x, 1.0, a)?;
            (x, other) = (other, x);
        }
        Ok(())
    }

    /// Second moments, and the parameters.
    fn update(&mut self, muon: &Muon) -> Result<(), DeviceError> {
        let Muon { group, rows, columns, count, members, squares, factors, .. } = *muon;
        let x = if POLAR_EXPRESS.len() % 2 == 1 { muon.other } else { muon.x };
        let by_row = rows >= columns;
        let sizes = [count, rows, columns].map(|size| size as u64);
        let (sums, size) = if by_row { (rows, columns) } else { (columns, rows) };
        if by_row {
            let arguments = [x.0, squares, (count * rows) as u64, columns as u64];
            self.launch_rows(Kernel::RowSquares, count * rows, &arguments)?;
        } else {
            let arguments = [&[x.0, squares][..], &sizes].concat();
            self.launch(Kernel::ColumnSquares, grid(count * columns), ROW_THREADS, &arguments)?;
        }
        let small = rows.min(columns) as u64;
        let [norm, moment] = [LEAST_NORM, LEAST_MOMENT].map(bits);
        let fresh = u64::from(NEW_SECOND.to_bits());
        let arguments = [members, squares, factors, sums as u64, size as u64, small, fresh, norm, moment];
        self.launch(Kernel::MuonSecond, count as u32, ROW_THREADS, &arguments)?;
        let coefficients = self.memory.coefficients.0;
        let arguments = [&[members, coefficients, group as u64, x.0, factors][..], &sizes].concat();
        self.launch_rows(Kernel::MuonUpdate, count * rows, &arguments)
    }
}

/// An f32 as a kernel's argument.
fn bits(value: f64) -> u64 {
    u64::from((value as f32).to_bits())
}
