//! AdamW's step over one parameter, in place.
//!
//! Products and sums are fused where the baseline's are (measured: of all orders of operations this one gives the most
//! entries of its bits), since parameters as large as 8 leave room for two roundings within the bound of parity.

use rayon::prelude::*;

use super::{Element, vectorized};

/// Elements that one task works on.
const BLOCK: usize = 1 << 14;

/// What one step multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Coefficients<T> {
    /// Factor on the parameter: 1 − learning rate · weight decay.
    pub keep: T,
    /// Weight of the new gradient in the first moment.
    pub new_first: T,
    /// Weight of the new squared gradient in the second moment.
    pub new_second: T,
    /// Correction of the second moment's start at zero.
    pub second_bias: T,
    /// Learning rate over the correction of the first moment.
    pub step_size: T,
    /// Added to the root of the second moment.
    pub epsilon: T,
}

/// Changes a parameter and its moments by one step along `gradient`.
pub fn step<T: Element>(parameter: &mut [T], gradient: &[T], first: &mut [T], second: &mut [T], by: Coefficients<T>) {
    let blocks = parameter.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    let moments = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
    blocks.zip(moments).for_each(|((parameter, gradient), (first, second))| {
        vectorized!({
            let elements = parameter.iter_mut().zip(gradient).zip(first.iter_mut().zip(second));
            for ((parameter, gradient), (first, second)) in elements {
                *first = by.new_first.multiply_add(*gradient - *first, *first);
                *second = by.new_second.multiply_add(*gradient * *gradient - *second, *second);
                let denominator = (*second / by.second_bias).root() + by.epsilon;
                *parameter = (-by.step_size).multiply_add(*first / denominator, *parameter * by.keep);
            }
        });
    });
}
