//! RMS norm of rows, forward and backward.

use rayon::prelude::*;

use super::lanes::dot;
use super::{BLOCK_ROWS, Element, Stored, vectorized};
use crate::constants::NORM_EPSILON;

/// Writes each row of `x` (rows × width) divided by its root mean square to `y`, and the factor used to `inverse`.
pub fn forward<S: Stored>(x: &[S], width: usize, y: &mut [S], inverse: &mut [S::Element]) {
    let blocks = x.par_chunks(BLOCK_ROWS * width).zip(y.par_chunks_mut(BLOCK_ROWS * width));
    blocks.zip(inverse.par_chunks_mut(BLOCK_ROWS)).for_each(|((x, y), inverse)| {
        vectorized!({
            let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
            for ((x, y), inverse) in rows.zip(inverse) {
                *inverse = row_forward(x, y);
            }
        });
    });
}

/// One row: the factor used.
#[inline(always)]
pub(super) fn row_forward<S: Stored>(x: &[S], y: &mut [S]) -> S::Element {
    let factor = inverse_root(x);
    for (x, y) in x.iter().zip(y) {
        *y = S::store(x.load() * factor);
    }
    factor
}

/// One over the root mean square of a row.
#[inline(always)]
pub(super) fn inverse_root<T: Element>(x: &[impl Stored<Element = T>]) -> T {
    T::ONE / (dot(x, x) / T::of(x.len() as f64) + T::of(NORM_EPSILON)).root()
}

/// Turns the gradient of one row's result `y` into that of its input: `inverse · (dy − y · mean(dy · y))`, given to `put`
/// by channel.
#[inline(always)]
pub(super) fn row_backward<S: Stored>(dy: &[S], y: &[S], inverse: S::Element, mut put: impl FnMut(usize, S::Element)) {
    let mean = dot(dy, y) / S::Element::of(y.len() as f64);
    for (channel, (dy, y)) in dy.iter().zip(y).enumerate() {
        put(channel, inverse * (dy.load() - y.load() * mean));
    }
}

/// Adds the gradient of the input to `dx`, from that of the result, `dy`.
pub fn backward_add<S: Stored>(dy: &[S], y: &[S], inverse: &[S::Element], width: usize, dx: &mut [S]) {
    let blocks = dy.par_chunks(BLOCK_ROWS * width).zip(y.par_chunks(BLOCK_ROWS * width));
    let outputs = inverse.par_chunks(BLOCK_ROWS).zip(dx.par_chunks_mut(BLOCK_ROWS * width));
    blocks.zip(outputs).for_each(|((dy, y), (inverse, dx))| {
        vectorized!({
            let rows = dy.chunks_exact(width).zip(y.chunks_exact(width));
            for (((dy, y), inverse), dx) in rows.zip(inverse).zip(dx.chunks_exact_mut(width)) {
                row_backward(dy, y, *inverse, |channel, value| dx[channel] = dx[channel].plus(value));
            }
        });
    });
}
