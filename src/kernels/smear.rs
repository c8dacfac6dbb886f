//! Smear: each token's normalised embedding takes up some of its predecessor's.

use rayon::prelude::*;

use super::lanes::dot;
use super::{BLOCK_ROWS, Element, Stored, vectorized};

/// The smear's parameters and sizes.
#[derive(Debug, Clone, Copy)]
pub struct Smear<'a, T> {
    /// Tokens in a row of the batch; the first one has no predecessor.
    pub length: usize,
    /// Channels.
    pub width: usize,
    /// Weights of the gate, which reads as many of the first channels.
    pub gate: &'a [T],
    /// Factor on the gate.
    pub lambda: T,
}

/// Writes `e[t] + λ σ(gate · e[t]) e[t−1]` to `x`, all N × width. `sigma` (N) takes the gates' sigmoids, 0 for the first token.
pub fn forward<S: Stored>(e: &[S], smear: Smear<'_, S::Element>, x: &mut [S], sigma: &mut [S::Element]) {
    let Smear { length, width, .. } = smear;
    let outputs = x.par_chunks_mut(BLOCK_ROWS * width).zip(sigma.par_chunks_mut(BLOCK_ROWS));
    outputs.enumerate().for_each(|(block, (x, sigma))| {
        vectorized!({
            for (offset, (x, sigma)) in x.chunks_exact_mut(width).zip(sigma).enumerate() {
                let token = block * BLOCK_ROWS + offset;
                let own = &e[token * width..][..width];
                if token.is_multiple_of(length) {
                    x.copy_from_slice(own);
                    *sigma = S::Element::ZERO;
                    continue;
                }
                *sigma = dot(smear.gate, &own[..smear.gate.len()]).sigmoid();
                let weight = *sigma * smear.lambda;
                let before = &e[(token - 1) * width..][..width];
                for ((x, own), before) in x.iter_mut().zip(own).zip(before) {
                    *x = S::store(own.load() + weight * before.load());
                }
            }
        });
    });
}

/// Marks a token without a predecessor in [`forward_ragged`].
pub const NO_PREDECESSOR: u32 = u32::MAX;

/// [`forward`] for tokens whose predecessors may lie anywhere: row t of `x` (N × width) takes up row `before[t]` of `e`,
/// which has at least N rows. The smear's length is of no account.
pub fn forward_ragged<T: Element>(e: &[T], before: &[u32], smear: Smear<'_, T>, x: &mut [T]) {
    let width = smear.width;
    let outputs = x.par_chunks_mut(BLOCK_ROWS * width).zip(before.par_chunks(BLOCK_ROWS));
    outputs.enumerate().for_each(|(block, (x, before))| {
        vectorized!({
            for (offset, (x, before)) in x.chunks_exact_mut(width).zip(before).enumerate() {
                let own = &e[(block * BLOCK_ROWS + offset) * width..][..width];
                if *before == NO_PREDECESSOR {
                    x.copy_from_slice(own);
                    continue;
                }
                let weight = dot(smear.gate, &own[..smear.gate.len()]).sigmoid() * smear.lambda;
                let before = &e[*before as usize * width..][..width];
                for ((x, own), before) in x.iter_mut().zip(own).zip(before) {
                    *x = *own + weight * *before;
                }
            }
        });
    });
}

/// From the gradient `dx` of the result that of the embeddings, `de`; adds those of the gate's weights to `dgate`, and gives
/// back that of λ. `slopes` (N) is scratch.
pub fn backward<S: Stored>(
    dx: &[S],
    e: &[S],
    smear: Smear<'_, S::Element>,
    sigma: &[S::Element],
    de: &mut [S],
    dgate: &mut [S::Element],
    slopes: &mut [S::Element],
) -> f64 {
    let Smear { length, width, .. } = smear;
    // The slope of the loss in each token's weight λσ.
    slopes.par_chunks_mut(BLOCK_ROWS).enumerate().for_each(|(block, slopes)| {
        vectorized!({
            for (offset, slope) in slopes.iter_mut().enumerate() {
                let token = block * BLOCK_ROWS + offset;
                *slope = if token.is_multiple_of(length) {
                    S::Element::ZERO
                } else {
                    dot(&dx[token * width..][..width], &e[(token - 1) * width..][..width])
                };
            }
        });
    });
    let dlambda = slopes.iter().zip(sigma).map(|(slope, sigma)| slope.wide() * sigma.wide()).sum();
    for (slope, sigma) in slopes.iter_mut().zip(sigma) {
        *slope = *slope * smear.lambda * *sigma * (S::Element::ONE - *sigma);
    }
    for (channel, dgate) in dgate.iter_mut().enumerate() {
        let total: f64 =
            slopes.iter().zip(e.chunks_exact(width)).map(|(slope, e)| slope.wide() * e[channel].load().wide()).sum();
        *dgate += S::Element::of(total);
    }
    let slopes = &*slopes;
    de.par_chunks_mut(BLOCK_ROWS * width).enumerate().for_each(|(block, de)| {
        vectorized!({
            for (offset, de) in de.chunks_exact_mut(width).enumerate() {
                let token = block * BLOCK_ROWS + offset;
                let own = &dx[token * width..][..width];
                if (token + 1).is_multiple_of(length) {
                    de.copy_from_slice(own);
                } else {
                    let weight = smear.lambda * sigma[token + 1];
                    let after = &dx[(token + 1) * width..][..width];
                    for ((de, own), after) in de.iter_mut().zip(own).zip(after) {
                        *de = S::store(own.load() + weight * after.load());
                    }
                }
                for (de, gate) in de.iter_mut().zip(smear.gate) {
                    *de = de.plus(slopes[token] * *gate);
                }
            }
        });
    });
    dlambda
}
