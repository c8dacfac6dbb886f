//! Causal attention with grouped queries and sliding windows, a block of queries at a time, forward and backward.
//!
//! A block's scores against all keys that any of its queries sees fit in cache, so they are computed at once, and never
//! stored beyond it; the backward pass recomputes them from the saved logarithm of each row's sum of exponentials
//! (Dao et al., 2022, without tiling over keys). Keys above the diagonal or before the window of a whole block are never
//! touched.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use super::lanes::{dot, maximum, total};
use super::{BLOCK_ROWS, Element, Scratch, Stored, vectorized};

/// Queries in a block.
const QUERIES: usize = 64;

/// Sizes of one attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the batch (B).
    pub rows: usize,
    /// Tokens in a row (T).
    pub length: usize,
    /// Query heads (H).
    pub heads: usize,
    /// Key/value heads (G), which divide H.
    pub groups: usize,
    /// Channels of a head (D).
    pub size: usize,
    /// Tokens to the left that a query sees besides itself.
    pub window: usize,
    /// What products round their operands to.
    pub compute_dtype: ComputeDtype,
}

impl Shape {
    /// Elements of one head over one row.
    fn head(&self) -> usize {
        self.length * self.size
    }

    /// Factor on scores.
    fn scale(&self) -> f64 {
        (self.size as f64).powf(-0.5)
    }

    /// Elements of scratch that a task needs: a block's scores and their slopes, sums of a block of queries, and gradients of one head's
    /// keys and values.
    pub fn workspace_elements(&self) -> usize {
        2 * QUERIES * self.length.min(self.window + QUERIES) + QUERIES * self.size + 2 * self.head()
    }

    /// Blocks of queries with the keys that any of them sees.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (length, window) = (self.length, self.window);
        (0..length).step_by(QUERIES).map(move |start| {
            let end = (start + QUERIES).min(length);
            (start..end, start.saturating_sub(window)..end)
        })
    }
}

/// Queries, keys and values, head-major.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, S> {
    /// Queries (B, H, T, D).
    pub q: &'a [S],
    /// Keys (B, G, T, D).
    pub k: &'a [S],
    /// Values (B, G, T, D).
    pub v: &'a [S],
}

/// Writes what every query attends to to `out` (head-major), and the logarithms of the sums of exponentials to `lse`
/// (B, H, T).
pub fn forward<S: Stored>(
    shape: Shape,
    inputs: Inputs<'_, S>,
    out: &mut [S],
    lse: &mut [S::Element],
    scratch: &Scratch<S::Element>,
) {
    let (head, share) = (shape.head(), shape.heads / shape.groups);
    let outputs = out.par_chunks_mut(head).zip(lse.par_chunks_mut(shape.length));
    outputs.enumerate().for_each(|(index, (out, lse))| {
        let group = index / share * head;
        let one = Inputs {
            q: &inputs.q[index * head..][..head],
            k: &inputs.k[group..][..head],
            v: &inputs.v[group..][..head],
        };
        scratch.with(|scratch| head_forward(shape, one, out, lse, scratch));
    });
}

/// One head of one row.
fn head_forward<S: Stored>(
    shape: Shape,
    at: Inputs<'_, S>,
    out: &mut [S],
    lse: &mut [S::Element],
    scratch: &mut [S::Element],
) {
    let size = shape.size;
    for (queries, keys) in shape.blocks() {
        let (rows, columns) = (queries.len(), keys.len());
        let (scores, sums) = scratch.split_at_mut(rows * columns);
        let sums = &mut sums[..rows * size];
        let q = Matrix::new(&at.q[queries.start * size..], rows, size);
        let k = Matrix::new(&at.k[keys.start * size..], columns, size);
        multiply(scores, q, k.transposed(), WriteMode::Overwrite, Threads::One, shape.compute_dtype);
        let block = &mut out[queries.start * size..queries.end * size];
        let mut totals = [S::Element::ZERO; QUERIES];
        vectorized!({
            for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
                let seen = seen(shape, queries.start + row, keys.start);
                let (largest, total) = exponentials(scores, seen, S::Element::of(shape.scale()));
                lse[queries.start + row] = largest + S::Element::of(total.wide().ln());
                totals[row] = S::Element::ONE / total;
            }
        });
        let v = Matrix::new(&at.v[keys.start * size..], columns, size);
        multiply(sums, Matrix::new(scores, rows, columns), v, WriteMode::Overwrite, Threads::One, shape.compute_dtype);
        vectorized!({
            for ((out, sums), total) in block.chunks_exact_mut(size).zip(sums.chunks_exact(size)).zip(totals) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = S::store(*sum * total);
                }
            }
        });
    }
}

/// Columns of a block's scores that the query at `position` sees.
#[inline(always)]
fn seen(shape: Shape, position: usize, first_key: usize) -> Range<usize> {
    position.saturating_sub(shape.window) - first_key..position + 1 - first_key
}

/// Turns a row of scores before their factor into exponentials below their largest, 0 where unseen: the largest, and the
/// sum.
#[inline(always)]
fn exponentials<T: Element>(scores: &mut [T], seen: Range<usize>, scale: T) -> (T, T) {
    scores[..seen.start].fill(T::ZERO);
    scores[seen.end..].fill(T::ZERO);
    let scores = &mut scores[seen];
    let largest = maximum(scores) * scale;
    for score in scores.iter_mut() {
        *score = score.multiply_add(scale, -largest).exponential();
    }
    (largest, total(scores))
}

/// What the backward pass reads besides the inputs.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a, S: Stored> {
    /// Logarithms of the sums of exponentials (B, H, T).
    pub lse: &'a [S::Element],
    /// Gradient of the result (B, H, T, D).
    pub dout: &'a [S],
    /// Sum over channels of the result times its gradient (B, H, T).
    pub delta: &'a [S::Element],
}

/// Where the gradients go, all head-major and replaced.
#[derive(Debug)]
pub struct Outputs<'a, S> {
    /// Of the queries.
    pub dq: &'a mut [S],
    /// Of the keys.
    pub dk: &'a mut [S],
    /// Of the values.
    pub dv: &'a mut [S],
}

/// Gradients of queries, keys and values.
pub fn backward<S: Stored>(
    shape: Shape,
    inputs: Inputs<'_, S>,
    saved: Saved<'_, S>,
    outputs: Outputs<'_, S>,
    scratch: &Scratch<S::Element>,
) {
    let (head, length, share) = (shape.head(), shape.length, shape.heads / shape.groups);
    let groups = outputs.dk.par_chunks_mut(head).zip(outputs.dv.par_chunks_mut(head));
    groups.zip(outputs.dq.par_chunks_mut(share * head)).enumerate().for_each(|(group, ((dk, dv), dq))| {
        let of_group = |offset: usize| {
            let index = group * share + offset;
            let one = Inputs {
                q: &inputs.q[index * head..][..head],
                k: &inputs.k[group * head..][..head],
                v: &inputs.v[group * head..][..head],
            };
            let saved = Saved {
                lse: &saved.lse[index * length..][..length],
                dout: &saved.dout[index * head..][..head],
                delta: &saved.delta[index * length..][..length],
            };
            (one, saved)
        };
        scratch.with(|scratch| {
            let (sums, scratch) = scratch.split_at_mut(2 * head);
            sums.fill(S::Element::ZERO);
            let (dk_sums, dv_sums) = sums.split_at_mut(head);
            for (offset, dq) in dq.chunks_exact_mut(head).enumerate() {
                let (one, saved) = of_group(offset);
                head_backward(shape, one, saved, dq, [&mut *dk_sums, &mut *dv_sums], scratch);
            }
            vectorized!({
                store(dk_sums, dk);
                store(dv_sums, dv);
            });
        });
    });
}

/// Rounds sums to what elements are kept in.
#[inline(always)]
fn store<S: Stored>(sums: &[S::Element], to: &mut [S]) {
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = S::store(*sum);
    }
}

/// One query head of one row; to the gradients of keys and values is added.
fn head_backward<S: Stored>(
    shape: Shape,
    at: Inputs<'_, S>,
    saved: Saved<'_, S>,
    dq: &mut [S],
    [dk, dv]: [&mut [S::Element]; 2],
    scratch: &mut [S::Element],
) {
    let size = shape.size;
    for (queries, keys) in shape.blocks() {
        let (rows, columns) = (queries.len(), keys.len());
        let (weights, rest) = scratch.split_at_mut(rows * columns);
        let (slopes, rest) = rest.split_at_mut(rows * columns);
        let dq_sums = &mut rest[..rows * size];
        let block = |data| Matrix::new(data, rows, size);
        let (q, dout) = (block(&at.q[queries.start * size..]), block(&saved.dout[queries.start * size..]));
        let (k, v) = (&at.k[keys.start * size..keys.end * size], &at.v[keys.start * size..keys.end * size]);
        let (k, v) = (Matrix::new(k, columns, size), Matrix::new(v, columns, size));
        multiply(weights, q, k.transposed(), WriteMode::Overwrite, Threads::One, shape.compute_dtype);
        multiply(slopes, dout, v.transposed(), WriteMode::Overwrite, Threads::One, shape.compute_dtype);
        vectorized!({
            let rows = weights.chunks_exact_mut(columns).zip(slopes.chunks_exact_mut(columns));
            for (row, (weights, slopes)) in rows.enumerate() {
                let position = queries.start + row;
                let seen = seen(shape, position, keys.start);
                let scale = S::Element::of(shape.scale());
                score_slopes(weights, slopes, seen, saved.lse[position], saved.delta[position], scale);
            }
        });
        let (weights, slopes) = (Matrix::new(weights, rows, columns), Matrix::new(slopes, rows, columns));
        let dv = &mut dv[keys.start * size..keys.end * size];
        multiply(dv, weights.transposed(), dout, WriteMode::Accumulate, Threads::One, shape.compute_dtype);
        let dk = &mut dk[keys.start * size..keys.end * size];
        multiply(dk, slopes.transposed(), q, WriteMode::Accumulate, Threads::One, shape.compute_dtype);
        multiply(dq_sums, slopes, k, WriteMode::Overwrite, Threads::One, shape.compute_dtype);
        vectorized!(store(dq_sums, &mut dq[queries.start * size..queries.end * size]));
    }
}

/// One query's row: scores become weights, and slopes of the weights become slopes of the scores before their factor.
#[inline(always)]
fn score_slopes<T: Element>(weights: &mut [T], slopes: &mut [T], seen: Range<usize>, lse: T, delta: T, scale: T) {
    for unseen in [0..seen.start, seen.end..weights.len()] {
        weights[unseen.clone()].fill(T::ZERO);
        slopes[unseen].fill(T::ZERO);
    }
    for (weight, slope) in weights[seen.clone()].iter_mut().zip(&mut slopes[seen]) {
        *weight = weight.multiply_add(scale, -lse).exponential();
        *slope = *weight * (*slope - delta) * scale;
    }
}

/// Copies `x` from head-major to token-major.
pub fn to_tokens<S: Stored>(x: &[S], shape: Shape, y: &mut [S]) {
    let Shape { length, heads, size, .. } = shape;
    y.par_chunks_mut(BLOCK_ROWS * heads * size).enumerate().for_each(|(block, y)| {
        for (offset, y) in y.chunks_exact_mut(heads * size).enumerate() {
            let token = block * BLOCK_ROWS + offset;
            let (row, position) = (token / length, token % length);
            for (head, y) in y.chunks_exact_mut(size).enumerate() {
                y.copy_from_slice(&x[((row * heads + head) * length + position) * size..][..size]);
            }
        }
    });
}

/// From the gradient `dout` of the result `out`, both token-major: the same head-major, and [`Saved::delta`].
pub fn prepare_backward<S: Stored>(dout: &[S], out: &[S], shape: Shape, by_head: &mut [S], delta: &mut [S::Element]) {
    let Shape { length, heads, size, .. } = shape;
    let outputs = by_head.par_chunks_mut(length * size).zip(delta.par_chunks_mut(length));
    outputs.enumerate().for_each(|(index, (by_head, delta))| {
        let start = (index / heads * length * heads + index % heads) * size;
        vectorized!({
            for (position, (by_head, delta)) in by_head.chunks_exact_mut(size).zip(delta).enumerate() {
                let at = start + position * heads * size;
                by_head.copy_from_slice(&dout[at..][..size]);
                *delta = dot(by_head, &out[at..][..size]);
            }
        });
    });
}
