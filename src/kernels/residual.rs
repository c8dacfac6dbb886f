//! The residual stream: what a layer takes in, and the backout before the head, each fused with the norm that follows.

use rayon::prelude::*;

use super::lanes::dot;
use super::norm::{inverse_root, row_backward, row_forward};
use super::{BLOCK_ROWS, Element, Stored, vectorized};

/// Writes `λ x + λ₀ x₀` to `mixed`, its norm to `normed`, and the norm's factors to `inverse`.
pub fn mix<S: Stored>(
    x: &[S],
    x0: &[S],
    [lambda, lambda0]: [S::Element; 2],
    width: usize,
    mixed: &mut [S],
    normed: &mut [S],
    inverse: &mut [S::Element],
) {
    let size = BLOCK_ROWS * width;
    let inputs = x.par_chunks(size).zip(x0.par_chunks(size));
    let outputs = mixed.par_chunks_mut(size).zip(normed.par_chunks_mut(size)).zip(inverse.par_chunks_mut(BLOCK_ROWS));
    inputs.zip(outputs).for_each(|((x, x0), ((mixed, normed), inverse))| {
        vectorized!({
            let inputs = x.chunks_exact(width).zip(x0.chunks_exact(width));
            let outputs = mixed.chunks_exact_mut(width).zip(normed.chunks_exact_mut(width)).zip(inverse);
            for ((x, x0), ((mixed, normed), inverse)) in inputs.zip(outputs) {
                for ((mixed, x), x0) in mixed.iter_mut().zip(x).zip(x0) {
                    *mixed = S::store(x.load() * lambda + x0.load() * lambda0);
                }
                *inverse = row_forward(mixed, normed);
            }
        });
    });
}

/// What the backward pass of [`mix`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Mixed<'a, S: Stored> {
    /// Gradient of the norm's result.
    pub dnormed: &'a [S],
    /// The norm's result.
    pub normed: &'a [S],
    /// The norm's factors.
    pub inverse: &'a [S::Element],
    /// The stream before the mix.
    pub x: &'a [S],
    /// The smeared embeddings.
    pub x0: &'a [S],
    /// λ and λ₀.
    pub lambdas: [S::Element; 2],
}

/// `stream` holds the gradient of the mixed stream that doesn't go through the norm, and takes that of `x`; that of `x₀` is
/// added to `dx0`. Gives back the gradients of λ and λ₀.
pub fn mix_backward<S: Stored>(at: Mixed<'_, S>, width: usize, stream: &mut [S], dx0: &mut [S]) -> [f64; 2] {
    let size = BLOCK_ROWS * width;
    let [lambda, lambda0] = at.lambdas;
    let sums: Vec<[f64; 2]> = (stream.par_chunks_mut(size).zip(dx0.par_chunks_mut(size)).enumerate())
        .map(|(block, (stream, dx0))| {
            vectorized!({
                let mut sums = [0.0; 2];
                for (offset, (stream, dx0)) in
                    stream.chunks_exact_mut(width).zip(dx0.chunks_exact_mut(width)).enumerate()
                {
                    let token = block * BLOCK_ROWS + offset;
                    let row = token * width..(token + 1) * width;
                    let (dnormed, normed) = (&at.dnormed[row.clone()], &at.normed[row.clone()]);
                    row_backward(dnormed, normed, at.inverse[token], |channel, value| {
                        stream[channel] = stream[channel].plus(value);
                    });
                    sums[0] += dot(stream, &at.x[row.clone()]).wide();
                    sums[1] += dot(stream, &at.x0[row]).wide();
                    for (stream, dx0) in stream.iter_mut().zip(dx0) {
                        *dx0 = dx0.plus(lambda0 * stream.load());
                        *stream = S::store(lambda * stream.load());
                    }
                }
                sums
            })
        })
        .collect();
    sums.iter().fold([0.0; 2], |total, sum| [total[0] + sum[0], total[1] + sum[1]])
}

/// Writes the norm of `x − λ m`, where `m` is the middle layer's output, to `normed`, and its factors to `inverse`.
pub fn backout<S: Stored>(
    x: &[S],
    middle: &[S],
    lambda: S::Element,
    width: usize,
    normed: &mut [S],
    inverse: &mut [S::Element],
) {
    let size = BLOCK_ROWS * width;
    let outputs = normed.par_chunks_mut(size).zip(inverse.par_chunks_mut(BLOCK_ROWS));
    (x.par_chunks(size).zip(middle.par_chunks(size))).zip(outputs).for_each(|((x, middle), (normed, inverse))| {
        vectorized!({
            let inputs = x.chunks_exact(width).zip(middle.chunks_exact(width));
            for ((x, middle), (normed, inverse)) in inputs.zip(normed.chunks_exact_mut(width).zip(inverse)) {
                for ((normed, x), middle) in normed.iter_mut().zip(x).zip(middle) {
                    *normed = S::store(x.load() - middle.load() * lambda);
                }
                *inverse = inverse_root(normed);
                for normed in normed {
                    *normed = S::store(normed.load() * *inverse);
                }
            }
        });
    });
}

/// What the backward pass of [`backout`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Backout<'a, S: Stored> {
    /// Gradient of the norm's result.
    pub dnormed: &'a [S],
    /// The norm's result.
    pub normed: &'a [S],
    /// The norm's factors.
    pub inverse: &'a [S::Element],
    /// The middle layer's output.
    pub middle: &'a [S],
    /// λ.
    pub lambda: S::Element,
}

/// Writes the gradients of `x` to `stream` and of `m` to `dmiddle`. Gives back that of λ.
pub fn backout_backward<S: Stored>(at: Backout<'_, S>, width: usize, stream: &mut [S], dmiddle: &mut [S]) -> f64 {
    let Backout { dnormed, normed, inverse, middle, lambda } = at;
    let size = BLOCK_ROWS * width;
    let inputs = dnormed.par_chunks(size).zip(normed.par_chunks(size)).zip(inverse.par_chunks(BLOCK_ROWS));
    let outputs = stream.par_chunks_mut(size).zip(dmiddle.par_chunks_mut(size));
    let sums: Vec<f64> = (inputs.zip(middle.par_chunks(size)).zip(outputs))
        .map(|((((dnormed, normed), inverse), middle), (stream, dmiddle))| {
            vectorized!({
                let mut sum = 0.0;
                let inputs = dnormed.chunks_exact(width).zip(normed.chunks_exact(width)).zip(inverse);
                let outputs = stream.chunks_exact_mut(width).zip(dmiddle.chunks_exact_mut(width));
                for ((((dnormed, normed), inverse), middle), (stream, dmiddle)) in
                    inputs.zip(middle.chunks_exact(width)).zip(outputs)
                {
                    row_backward(dnormed, normed, *inverse, |channel, value| {
                        stream[channel] = S::store(value);
                        dmiddle[channel] = S::store(-lambda * value);
                    });
                    sum -= dot(stream, middle).wide();
                }
                sum
            })
        })
        .collect();
    sums.iter().sum()
}

/// Adds `other` to `stream`.
pub fn add<S: Stored>(stream: &mut [S], other: &[S]) {
    let size = 1 << 14;
    stream.par_chunks_mut(size).zip(other.par_chunks(size)).for_each(|(stream, other)| {
        vectorized!({
            for (stream, other) in stream.iter_mut().zip(other) {
                *stream = stream.plus(other.load());
            }
        });
    });
}
