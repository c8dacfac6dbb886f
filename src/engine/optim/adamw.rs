//! AdamW (Loshchilov and Hutter, 2019) as the baseline steps it: weight decay first, hyperparameters in f32.

use candle_core::{Result, Tensor};

use super::rules::AdamWRule;
use nanochat_kernels::adamw::Coefficients;

/// Added to the root of the second moment.
const EPSILON: f32 = 1e-10;

/// What the step numbered `step` from 1 multiplies by, at `multiplier` times the rule's learning rate; in f32 as the
/// baseline holds it.
pub(super) fn coefficients(rule: &AdamWRule, multiplier: f64, step: u64) -> Coefficients<f32> {
    let learning_rate = (rule.learning_rate * multiplier) as f32;
    let [beta1, beta2] = rule.betas.map(|beta| beta as f32);
    let bias = |beta: f32| 1.0 - beta.powf(step as f32);
    Coefficients {
        keep: 1.0 - learning_rate * rule.weight_decay as f32,
        new_first: 1.0 - beta1,
        new_second: 1.0 - beta2,
        second_bias: bias(beta2),
        step_size: learning_rate / bias(beta1),
        epsilon: EPSILON,
    }
}

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
