//! Muon's step over one matrix, in place, by one thread: a model has many matrices, which are stepped side by side.
//!
//! Where weight decay applies hangs on the sign of each entry of the update, however near to zero it is, and the iteration
//! amplifies what rounding puts into directions of small singular values a thousandfold. Small matrices, where it costs
//! nothing that matters, are therefore orthogonalised in f64. In f32 every rounding up to the last iteration falls where
//! the baseline's does: only its `lerp` is fused, and polynomials are not folded into the products of matrices.

use super::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use super::lanes::dot;
use super::{Element, vectorized};

/// Matrices whose smaller side is at most this are orthogonalised in f64.
const WIDE_SIDE: usize = 128;

/// Coefficients of the five Polar Express iterations (Amsel et al., 2025, arXiv 2505.16932, safety factor 2e-2, cushion 2).
pub const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
];
/// The spectrum is brought below 1 by this factor on the Frobenius norm.
pub const NORM_MARGIN: f64 = 1.01;
/// Least norm that is divided by.
pub const LEAST_NORM: f64 = 1e-6;
/// Least second moment that is divided by the root of.
pub const LEAST_MOMENT: f64 = 1e-10;

/// What one step multiplies by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Momentum.
    pub momentum: f32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Cautious weight decay.
    pub weight_decay: f32,
    /// Weight of the new mean squares in the second moment.
    pub new_second: f32,
    /// Factors of the polynomial's three terms, one set an iteration.
    pub polynomials: &'static [[f64; 3]],
    /// The norm is brought this much below 1.
    pub norm_margin: f64,
    /// Least norm that is divided by.
    pub least_norm: f64,
    /// Least second moment whose root is divided by.
    pub least_moment: f64,
    /// What products round their operands to where they are in f32.
    pub compute_dtype: ComputeDtype,
}

/// One matrix with its state, row-major.
#[derive(Debug)]
pub struct State<'a> {
    /// The parameter (rows × columns).
    pub parameter: &'a mut [f32],
    /// Its gradient.
    pub gradient: &'a [f32],
    /// Momentum of the gradient.
    pub momentum: &'a mut [f32],
    /// Second moment of the update: one number a row if rows ≥ columns, else one a column.
    pub second: &'a mut [f32],
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// Memory for one matrix at a time.
#[derive(Debug)]
pub struct Workspace<'a> {
    /// At least [`narrow_elements`].
    pub narrow: &'a mut [f32],
    /// At least [`wide_elements`].
    pub wide: &'a mut [f64],
}

/// Elements in f32 that a matrix needs.
pub fn narrow_elements(rows: usize, columns: usize) -> usize {
    if is_wide(rows, columns) { 2 * rows * columns } else { orthogonal_elements(rows, columns) }
}

/// Elements in f64 that a matrix needs.
pub fn wide_elements(rows: usize, columns: usize) -> usize {
    if is_wide(rows, columns) { orthogonal_elements(rows, columns) } else { 0 }
}

/// Whether a matrix is orthogonalised in f64.
fn is_wide(rows: usize, columns: usize) -> bool {
    rows.min(columns) <= WIDE_SIDE
}

/// Elements that [`orthogonalize`] needs, its matrix included.
fn orthogonal_elements(rows: usize, columns: usize) -> usize {
    let small = rows.min(columns);
    2 * rows * columns + 2 * small * small
}

/// Changes a matrix and its state by one step.
pub fn step(state: State<'_>, by: &Coefficients, workspace: Workspace<'_>) {
    let State { parameter, gradient, momentum, second, rows, columns } = state;
    let Workspace { narrow, wide } = workspace;
    let size = rows * columns;
    vectorized!(nesterov(gradient, momentum, by.momentum, &mut narrow[..size]));
    if is_wide(rows, columns) {
        let wide = &mut wide[..orthogonal_elements(rows, columns)];
        wide.iter_mut().zip(&narrow[..size]).for_each(|(wide, narrow)| *wide = f64::from(*narrow));
        orthogonalize(wide, rows, columns, by);
        narrow.iter_mut().zip(&wide[..size]).for_each(|(narrow, wide)| *narrow = *wide as f32);
    } else {
        orthogonalize(&mut narrow[..orthogonal_elements(rows, columns)], rows, columns, by);
    }
    let (x, rest) = narrow.split_at_mut(size);
    vectorized!({
        let target = (rows.min(columns) as f64).sqrt() as f32;
        scale(x, target / norm(x, columns).larger(by.least_norm as f32));
        reduce_variance(x, second, rows, columns, by, rest);
        apply(parameter, x, by);
    });
}

/// Brings the matrix at the beginning of `workspace` near to the nearest semi-orthogonal one; the rest is scratch.
fn orthogonalize<T: Element>(workspace: &mut [T], rows: usize, columns: usize, by: &Coefficients) {
    let small = rows.min(columns);
    let (x, rest) = workspace.split_at_mut(rows * columns);
    let (other, rest) = rest.split_at_mut(rows * columns);
    let (gram, polynomial) = rest.split_at_mut(small * small);
    vectorized!(equilibrate(x, rows, columns, by));
    for [a, b, c] in by.polynomials {
        let matrix = Matrix::new(x, rows, columns);
        let tall = rows > columns;
        let (left, right) = if tall { (matrix.transposed(), matrix) } else { (matrix, matrix.transposed()) };
        multiply(gram, left, right, WriteMode::Overwrite, Threads::One, by.compute_dtype);
        let square = Matrix::new(gram, small, small);
        multiply(polynomial, square, square, WriteMode::Overwrite, Threads::One, by.compute_dtype);
        vectorized!(combine(polynomial, T::of(*c), gram, T::of(*b)));
        let square = Matrix::new(polynomial, small, small);
        let (left, right) = if tall { (matrix, square) } else { (square, matrix) };
        multiply(other, left, right, WriteMode::Overwrite, Threads::One, by.compute_dtype);
        vectorized!(combine(x, T::of(*a), other, T::ONE));
    }
}

/// Moves the momentum towards the gradient, and looks ahead along it.
#[inline(always)]
fn nesterov(gradient: &[f32], momentum: &mut [f32], keep: f32, x: &mut [f32]) {
    let new = 1.0 - keep;
    for ((gradient, momentum), x) in gradient.iter().zip(momentum).zip(x) {
        *momentum = new.multiply_add(*gradient - *momentum, *momentum);
        *x = (-new).multiply_add(*momentum - *gradient, *momentum);
    }
}

/// Brings every row to the mean row norm, then the whole matrix to a norm below 1.
#[inline(always)]
fn equilibrate<T: Element>(x: &mut [T], rows: usize, columns: usize, by: &Coefficients) {
    let target = norm(x, columns) / T::of((rows as f64).sqrt());
    for row in x.chunks_exact_mut(columns) {
        let own = T::of(dot(row, row).wide().sqrt()).larger(T::of(by.least_norm));
        scale(row, target / own);
    }
    let total = norm(x, columns) * T::of(by.norm_margin) + T::of(by.least_norm);
    for x in x {
        *x = *x / total;
    }
}

/// `x` becomes a · x + b · y.
#[inline(always)]
fn combine<T: Element>(x: &mut [T], a: T, y: &[T], b: T) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = *x * a + *y * b;
    }
}

/// Evens out the rows (or columns) by their running mean square, keeping the norm. `totals` is scratch.
#[inline(always)]
fn reduce_variance(
    x: &mut [f32],
    second: &mut [f32],
    rows: usize,
    columns: usize,
    by: &Coefficients,
    totals: &mut [f32],
) {
    let by_row = rows >= columns;
    let size = if by_row { columns } else { rows } as f32;
    let squares = &mut totals[..second.len()];
    if by_row {
        for (row, square) in x.chunks_exact(columns).zip(squares.iter_mut()) {
            *square = dot(row, row);
        }
    } else {
        squares.fill(0.0);
        for row in x.chunks_exact(columns) {
            for (square, value) in squares.iter_mut().zip(row) {
                *square += *value * *value;
            }
        }
    }
    let (mut before, mut after) = (0.0, 0.0);
    for (square, second) in squares.iter_mut().zip(second.iter_mut()) {
        *second += (*square / size - *second) * by.new_second;
        let step = 1.0 / second.larger(by.least_moment as f32).root();
        before += square.wide();
        after += square.wide() * step.wide() * step.wide();
        *square = step;
    }
    let rescale = (before.sqrt() / after.sqrt().max(by.least_moment)) as f32;
    for (index, row) in x.chunks_exact_mut(columns).enumerate() {
        if by_row {
            scale(row, squares[index] * rescale);
        } else {
            for (value, step) in row.iter_mut().zip(squares.iter()) {
                *value *= *step * rescale;
            }
        }
    }
}

/// Subtracts the update, and weight decay where update and parameter have the same sign.
#[inline(always)]
fn apply(parameter: &mut [f32], update: &[f32], by: &Coefficients) {
    let decay = by.learning_rate * by.weight_decay;
    for (parameter, update) in parameter.iter_mut().zip(update) {
        let agrees = *update * *parameter >= 0.0;
        let decayed = if agrees { decay * *parameter } else { 0.0 };
        *parameter -= by.learning_rate * *update + decayed;
    }
}

/// Frobenius norm.
#[inline(always)]
fn norm<T: Element>(x: &[T], columns: usize) -> T {
    T::of(x.chunks_exact(columns).map(|row| dot(row, row).wide()).sum::<f64>().sqrt())
}

/// Multiplies all elements by a factor.
#[inline(always)]
fn scale<T: Element>(x: &mut [T], factor: T) {
    for x in x {
        *x *= factor;
    }
}
