//! Squared ReLU, forward and backward.

use rayon::prelude::*;

use super::{Element, vectorized};

/// Elements that one task works on.
const BLOCK: usize = 1 << 14;

/// Cuts `x` off at 0 in place, and writes its square to `y`.
pub fn forward<T: Element>(x: &mut [T], y: &mut [T]) {
    x.par_chunks_mut(BLOCK).zip(y.par_chunks_mut(BLOCK)).for_each(|(x, y)| {
        vectorized!({
            for (x, y) in x.iter_mut().zip(y) {
                *x = x.larger(T::ZERO);
                *y = *x * *x;
            }
        });
    });
}

/// From the input cut off at 0, `x`: the result again, `y`; and in place of the gradient of the result, `dy`, that of the
/// input.
pub fn backward<T: Element>(x: &[T], dy: &mut [T], y: &mut [T]) {
    x.par_chunks(BLOCK).zip(dy.par_chunks_mut(BLOCK)).zip(y.par_chunks_mut(BLOCK)).for_each(|((x, dy), y)| {
        vectorized!({
            for ((x, dy), y) in x.iter().zip(dy).zip(y) {
                *dy = (*x + *x) * *dy;
                *y = *x * *x;
            }
        });
    });
}
