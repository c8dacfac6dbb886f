//! Squared ReLU, forward and backward.

use rayon::prelude::*;

use super::{Element, Stored, vectorized};

/// Elements that one task works on.
const BLOCK: usize = 1 << 14;

/// Cuts `x` off at 0 in place, and writes its square to `y`.
pub fn forward<S: Stored>(x: &mut [S], y: &mut [S]) {
    x.par_chunks_mut(BLOCK).zip(y.par_chunks_mut(BLOCK)).for_each(|(x, y)| {
        vectorized!({
            for (x, y) in x.iter_mut().zip(y) {
                let cut = x.load().larger(S::Element::ZERO);
                (*x, *y) = (S::store(cut), S::store(cut * cut));
            }
        });
    });
}

/// From the input cut off at 0, `x`: the result again, `y`; and in place of the gradient of the result, `dy`, that of the
/// input.
pub fn backward<S: Stored>(x: &[S], dy: &mut [S], y: &mut [S]) {
    x.par_chunks(BLOCK).zip(dy.par_chunks_mut(BLOCK)).zip(y.par_chunks_mut(BLOCK)).for_each(|((x, dy), y)| {
        vectorized!({
            for ((x, dy), y) in x.iter().zip(dy).zip(y) {
                let x = x.load();
                (*dy, *y) = (S::store((x + x) * dy.load()), S::store(x * x));
            }
        });
    });
}
