//! AdamW (Loshchilov and Hutter, 2019) as the baseline steps it: weight decay first.

use candle_core::{Result, Tensor};

use nanochat_kernels::adamw::Coefficients;

/// One step in elementary operations: the new parameter and moments. The kernel's reference implementation, and what other devices take.
pub(super) fn step(
    parameter: &Tensor,
    gradient: &Tensor,
    [first, second]: &[Tensor; 2],
    by: &Coefficients<f32>,
) -> Result<(Tensor, [Tensor; 2])> {
    let first = (first + (gradient - first)?.affine(f64::from(by.new_first), 0.0)?)?;
    let second = (second + (gradient.sqr()? - second)?.affine(f64::from(by.new_second), 0.0)?)?;
    let denominator =
        second.affine(1.0 / f64::from(by.second_bias), 0.0)?.sqrt()?.affine(1.0, f64::from(by.epsilon))?;
    let update = (&first / denominator)?.affine(f64::from(by.step_size), 0.0)?;
    let parameter = (parameter.affine(f64::from(by.keep), 0.0)? - update)?;
    Ok((parameter, [first, second]))
}
