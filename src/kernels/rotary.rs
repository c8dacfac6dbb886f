//! Rotary embedding, norm and factor of queries and keys, in one pass that also changes the layout to head-major.

use rayon::prelude::*;

use super::lanes::dot;
use super::norm::inverse_root;
use super::{BLOCK_ROWS, Element, Stored, vectorized};
use crate::constants::QK_SCALE;

/// Sizes of queries or keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Tokens in a row of the batch (T).
    pub length: usize,
    /// Heads (H).
    pub count: usize,
    /// Channels of a head (D).
    pub size: usize,
}

impl Heads {
    /// Elements of one token.
    pub fn width(&self) -> usize {
        self.count * self.size
    }
}

/// Cosines and sines of the rotary angles, each T × D/2, of the positions of one row.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a, T> {
    /// Cosines.
    pub cos: &'a [T],
    /// Sines.
    pub sin: &'a [T],
}

/// Turns, norms and scales `x` (token-major) into `y` (head-major); `inverse` (B, H, T) takes the norms' factors.
pub fn forward<S: Stored>(
    x: &[S],
    angles: Angles<'_, S::Element>,
    heads: Heads,
    y: &mut [S],
    inverse: &mut [S::Element],
) {
    let Heads { length, count, size } = heads;
    let outputs = y.par_chunks_mut(length * size).zip(inverse.par_chunks_mut(length));
    outputs.enumerate().for_each(|(index, (y, inverse))| {
        let (row, head) = (index / count, index % count);
        let start = row * length * count * size + head * size;
        vectorized!({
            for (position, (y, inverse)) in y.chunks_exact_mut(size).zip(inverse).enumerate() {
                let x = &x[start + position * count * size..][..size];
                turn(x, angles, position, y);
                *inverse = inverse_root(y);
                let factor = *inverse * S::Element::of(QK_SCALE);
                for y in y {
                    *y = S::store(y.load() * factor);
                }
            }
        });
    });
}

/// [`forward`] for one token (H × D) with its own angles, on this thread alone: for decoding.
pub fn forward_token<T: Element>(x: &[T], angles: Angles<'_, T>, size: usize, y: &mut [T]) {
    vectorized!({
        for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
            turn(x, angles, 0, y);
            let factor = inverse_root(y) * T::of(QK_SCALE);
            for y in y {
                *y *= factor;
            }
        }
    });
}

/// Turns the channel pairs of one head by minus the angles of its position.
#[inline(always)]
fn turn<S: Stored>(x: &[S], angles: Angles<'_, S::Element>, position: usize, y: &mut [S]) {
    let half = x.len() / 2;
    let (cos, sin) = (&angles.cos[position * half..][..half], &angles.sin[position * half..][..half]);
    let (first, second) = x.split_at(half);
    let (first_out, second_out) = y.split_at_mut(half);
    for pair in 0..half {
        let (a, b) = (first[pair].load(), second[pair].load());
        first_out[pair] = S::store(a * cos[pair] + b * sin[pair]);
        second_out[pair] = S::store(b * cos[pair] - a * sin[pair]);
    }
}

/// From the gradient `dy` of the result `y` (both head-major) that of the input, `dx` (token-major).
pub fn backward<S: Stored>(
    dy: &[S],
    y: &[S],
    inverse: &[S::Element],
    angles: Angles<'_, S::Element>,
    heads: Heads,
    dx: &mut [S],
) {
    let Heads { length, count, size } = heads;
    dx.par_chunks_mut(BLOCK_ROWS * count * size).enumerate().for_each(|(block, dx)| {
        vectorized!({
            for (offset, dx) in dx.chunks_exact_mut(count * size).enumerate() {
                let token = block * BLOCK_ROWS + offset;
                let (row, position) = (token / length, token % length);
                for (head, dx) in dx.chunks_exact_mut(size).enumerate() {
                    let at = (row * count + head) * length + position;
                    let (dy, y) = (&dy[at * size..][..size], &y[at * size..][..size]);
                    norm_backward(dy, y, inverse[at], dx);
                    turn_back(angles, position, dx);
                }
            }
        });
    });
}

/// Through the factor and the norm.
#[inline(always)]
fn norm_backward<S: Stored>(dy: &[S], y: &[S], inverse: S::Element, dx: &mut [S]) {
    let scale = S::Element::of(QK_SCALE);
    let mean = dot(dy, y) / (S::Element::of(y.len() as f64) * scale);
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        *dx = S::store(inverse * (dy.load() * scale - y.load() * mean));
    }
}

/// Turns the channel pairs of one head by the angles of its position, in place.
#[inline(always)]
fn turn_back<S: Stored>(angles: Angles<'_, S::Element>, position: usize, x: &mut [S]) {
    let half = x.len() / 2;
    let (cos, sin) = (&angles.cos[position * half..][..half], &angles.sin[position * half..][..half]);
    let (first, second) = x.split_at_mut(half);
    for pair in 0..half {
        let (a, b) = (first[pair].load(), second[pair].load());
        first[pair] = S::store(a * cos[pair] - b * sin[pair]);
        second[pair] = S::store(b * cos[pair] + a * sin[pair]);
    }
}
