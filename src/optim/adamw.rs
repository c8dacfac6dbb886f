//! AdamW (Loshchilov and Hutter, 2019) as the baseline steps it: weight decay first, hyperparameters in f32.

use candle_core::{Result, Tensor};

use super::rules::AdamWRule;

/// Added to the root of the second moment.
pub(super) const EPSILON: f32 = 1e-10;

/// What one step multiplies by, in f32 as the baseline holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Coefficients {
    /// Factor on the parameter: 1 − learning rate · weight decay.
    pub(super) keep: f32,
    /// Weight of the new gradient in the first moment.
    pub(super) new_first: f32,
    /// Weight of the new squared gradient in the second moment.
    pub(super) new_second: f32,
    /// Correction of the second moment's start at zero.
    pub(super) second_bias: f32,
    /// Learning rate over the correction of the first moment.
    pub(super) step_size: f32,
}

impl Coefficients {
    /// Of the step numbered `step` from 1, at `multiplier` times the rule's learning rate.
    pub(super) fn new(rule: &AdamWRule, multiplier: f64, step: u64) -> Self {
        let learning_rate = (rule.learning_rate * multiplier) as f32;
        let [beta1, beta2] = rule.betas.map(|beta| beta as f32);
        let bias = |beta: f32| 1.0 - beta.powf(step as f32);
        Self {
            keep: 1.0 - learning_rate * rule.weight_decay as f32,
            new_first: 1.0 - beta1,
            new_second: 1.0 - beta2,
            second_bias: bias(beta2),
            step_size: learning_rate / bias(beta1),
        }
    }
}

/// One step in elementary operations: the new parameter and moments.
pub(super) fn step(
    parameter: &Tensor,
    gradient: &Tensor,
    [first, second]: &[Tensor; 2],
    by: &Coefficients,
) -> Result<(Tensor, [Tensor; 2])> {
    let first = (first + (gradient - first)?.affine(f64::from(by.new_first), 0.0)?)?;
    let second = (second + (gradient.sqr()? - second)?.affine(f64::from(by.new_second), 0.0)?)?;
    let denominator = second.affine(1.0 / f64::from(by.second_bias), 0.0)?.sqrt()?.affine(1.0, f64::from(EPSILON))?;
    let update = (&first / denominator)?.affine(f64::from(by.step_size), 0.0)?;
    let parameter = (parameter.affine(f64::from(by.keep), 0.0)? - update)?;
    Ok((parameter, [first, second]))
}
