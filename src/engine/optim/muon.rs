//! Muon as the baseline steps it: Nesterov momentum, row equilibration, Polar Express, norm snapping, variance reduction,
//! cautious weight decay (`muon_step_fused` in `nanochat/optim.py`, where the papers are named).

use candle_core::{D, Result, Tensor};

use crate::model::compute_dtype;
use crate::ops::product;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::muon::{Coefficients, LEAST_MOMENT, LEAST_NORM, NORM_MARGIN, POLAR_EXPRESS};
use nanochat_plan::Precision;
use nanochat_step::Coefficients as StepCoefficients;

/// Decay of the second moment.
const BETA2: f32 = 0.9;

/// What a step of the matrices of Muon's group number `group` multiplies by.
pub(super) fn coefficients(step: &StepCoefficients, group: usize, precision: Precision) -> Coefficients {
    Coefficients {
        momentum: step.muon_momentum,
        learning_rate: step.muon_learning_rates[group],
        weight_decay: step.muon_weight_decay,
        new_second: 1.0 - BETA2,
        polynomials: &POLAR_EXPRESS,
        norm_margin: NORM_MARGIN,
        least_norm: LEAST_NORM,
        least_moment: LEAST_MOMENT,
        compute_dtype: compute_dtype(precision),
    }
}

/// One step in elementary operations: the new parameter, momentum and second moment, all of one matrix (rows, columns).
/// The kernel's reference implementation, and what other devices take.
pub(super) fn step(
    parameter: &Tensor,
    gradient: &Tensor,
    [momentum, second]: &[Tensor; 2],
    by: &Coefficients,
) -> Result<(Tensor, [Tensor; 2])> {
    let keep = 1.0 - by.momentum;
    let momentum = (momentum + (gradient - momentum)?.affine(f64::from(keep), 0.0)?)?;
    let update = (&momentum - (&momentum - gradient)?.affine(f64::from(keep), 0.0)?)?;
    let update = snap_norm(&polar_express(&equilibrate_rows(&update)?, by.compute_dtype)?)?;
    let (update, second) = reduce_variance(&update, second)?;
    let parameter = apply(parameter, &update, by)?;
    Ok((parameter, [momentum, second]))
}

/// Rescales every row to the mean row norm (MuonEq, arXiv 2603.28254).
fn equilibrate_rows(x: &Tensor) -> Result<Tensor> {
    let rows = x.dim(0)? as f64;
    let target = (norm(x)? / rows.sqrt())?;
    let row_norms = x.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(LEAST_NORM)?;
    x.broadcast_mul(&target.broadcast_div(&row_norms)?)
}

/// The nearest semi-orthogonal matrix, nearly, by five quintic iterations on the smaller side.
fn polar_express(x: &Tensor, compute_dtype: ComputeDtype) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let mut x = x.broadcast_div(&norm(x)?.affine(NORM_MARGIN, LEAST_NORM)?)?;
    for [a, b, c] in POLAR_EXPRESS {
        let gram =
            if rows > columns { product(&x.t()?, &x, compute_dtype)? } else { product(&x, &x.t()?, compute_dtype)? };
        let polynomial = (gram.affine(b, 0.0)? + product(&gram, &gram, compute_dtype)?.affine(c, 0.0)?)?;
        let last = if rows > columns {
            product(&x, &polynomial, compute_dtype)?
        } else {
            product(&polynomial, &x, compute_dtype)?
        };
        x = (x.affine(a, 0.0)? + last)?;
    }
    Ok(x)
}

/// Brings the norm to that of an exactly semi-orthogonal matrix (Muon+, arXiv 2602.21545).
fn snap_norm(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let target = (rows.min(columns) as f64).sqrt();
    x.broadcast_mul(&norm(x)?.maximum(LEAST_NORM)?.recip()?.affine(target, 0.0)?)
}

/// Evens out the update's rows (or columns) by their running mean square, keeping the norm (NorMuon, arXiv 2510.05491).
fn reduce_variance(x: &Tensor, second: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = x.dims2()?;
    let reduced = if rows >= columns { 1 } else { 0 };
    let size = x.dim(reduced)? as f64;
    let mean_square = x.sqr()?.mean_keepdim(reduced)?;
    let before = (mean_square.sum_all()? * size)?.sqrt()?;
    let second = (second + (&mean_square - second)?.affine(f64::from(1.0 - BETA2), 0.0)?)?;
    let step_size = second.maximum(LEAST_MOMENT)?.sqrt()?.recip()?;
    let after = (mean_square.affine(size, 0.0)? * step_size.sqr()?)?.sum_all()?.sqrt()?;
    let rescale = (before / after.maximum(LEAST_MOMENT)?)?;
    Ok((x.broadcast_mul(&step_size.broadcast_mul(&rescale)?)?, second))
}

/// Subtracts the update, and weight decay where the update and the parameter have the same sign.
fn apply(parameter: &Tensor, update: &Tensor, by: &Coefficients) -> Result<Tensor> {
    let agrees = (update * parameter)?.ge(0f64)?.to_dtype(parameter.dtype())?;
    let decay = (parameter * agrees)?.affine(f64::from(by.learning_rate * by.weight_decay), 0.0)?;
    parameter - (update.affine(f64::from(by.learning_rate), 0.0)? + decay)?
}

/// Frobenius norm, of shape (1, 1).
fn norm(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.sum_keepdim((D::Minus2, D::Minus1))?.sqrt()
}
