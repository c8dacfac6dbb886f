//! Causal attention of queries whose keys lie in several pieces: rows of different lengths, cached beginnings, and
//! beginnings that several rows share. For inference; there is no backward pass.
//!
//! Nothing is padded and no piece is copied: scores are computed piece by piece, one softmax goes over all of them.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use super::lanes::{maximum, sum};
use super::{Element, Scratch, vectorized};

/// Queries in a block.
const QUERIES: usize = 64;

/// Sizes that all rows share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
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

/// Keys and values of consecutive tokens.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a, T> {
    /// Keys; those of head g begin at `g · stride` and lie D apart.
    pub k: &'a [T],
    /// Values, likewise.
    pub v: &'a [T],
    /// Elements from one head to the next.
    pub stride: usize,
    /// Tokens.
    pub tokens: usize,
}

/// Consecutive queries of one row.
#[derive(Debug, Clone)]
pub struct Span<'a, T> {
    /// Queries.
    pub queries: usize,
    /// Place of the first query's token in its row.
    pub position: usize,
    /// Place of the first piece's first token in the row.
    pub first: usize,
    /// Keys and values in the row's order, the last query's own the last of them.
    pub pieces: Vec<Piece<'a, T>>,
}

impl<T> Span<'_, T> {
    /// The pieces with tokens in `places`: which places those are, the piece, and where in it they begin.
    fn overlaps(&self, places: Range<usize>) -> impl Iterator<Item = (Range<usize>, &Piece<'_, T>, usize)> {
        let mut start = self.first;
        self.pieces.iter().filter_map(move |piece| {
            let begin = start;
            start += piece.tokens;
            let overlap = places.start.max(begin)..places.end.min(start);
            (overlap.start < overlap.end).then(|| (overlap.clone(), piece, overlap.start - begin))
        })
    }

    /// Places that any of the given queries (elements within the span) sees.
    fn seen(&self, queries: &Range<usize>, window: usize) -> Range<usize> {
        (self.position + queries.start).saturating_sub(window).max(self.first)..self.position + queries.end
    }
}

/// Elements of scratch that a task needs.
pub fn workspace_elements<T>(shape: Shape, spans: &[Span<'_, T>]) -> usize {
    let longest = spans.iter().map(|span| span.position + span.queries - span.first).max().unwrap_or(0);
    QUERIES * longest.min(shape.window.saturating_add(QUERIES))
}

/// Writes what every query attends to to `out`. Queries and results are head-major, (H, N, D), where the N queries are those
/// of all spans in order.
pub fn forward<T: Element>(shape: Shape, q: &[T], spans: &[Span<'_, T>], out: &mut [T], scratch: &Scratch<T>) {
    let (size, share) = (shape.size, shape.heads / shape.groups);
    let head = spans.iter().map(|span| span.queries).sum::<usize>() * size;
    if head == 0 {
        return;
    }
    let mut tasks = Vec::with_capacity(shape.heads * spans.len());
    for (index, (mut out, mut q)) in out.chunks_exact_mut(head).zip(q.chunks_exact(head)).enumerate() {
        for span in spans {
            let (own, others) = out.split_at_mut(span.queries * size);
            let (queries, rest) = q.split_at(own.len());
            tasks.push((index / share, queries, span, own));
            (out, q) = (others, rest);
        }
    }
    tasks.into_par_iter().for_each(|(group, q, span, out)| {
        scratch.with(|scratch| {
            for start in (0..span.queries).step_by(QUERIES) {
                let block = start..(start + QUERIES).min(span.queries);
                let part = block.start * size..block.end * size;
                block_forward(shape, group, &q[part.clone()], span, block, &mut out[part], scratch);
            }
        });
    });
}

/// One block of a span's queries in one head.
fn block_forward<T: Element>(
    shape: Shape,
    group: usize,
    q: &[T],
    span: &Span<'_, T>,
    block: Range<usize>,
    out: &mut [T],
    scratch: &mut [T],
) {
    let (size, rows) = (shape.size, block.len());
    let seen = span.seen(&block, shape.window);
    let first = seen.start;
    // The scores of a piece lie together, row after row.
    let scores = |places: &Range<usize>| rows * (places.start - first)..rows * (places.end - first);
    for (places, piece, offset) in span.overlaps(seen.clone()) {
        let k = Matrix::new(&piece.k[group * piece.stride + offset * size..], places.len(), size);
        let scores = &mut scratch[scores(&places)];
        multiply(
            scores,
            Matrix::new(q, rows, size),
            k.transposed(),
            WriteMode::Overwrite,
            Threads::One,
            shape.compute_dtype,
        );
    }
    let mut totals = [T::ZERO; QUERIES];
    vectorized!({
        for (row, total) in totals[..rows].iter_mut().enumerate() {
            let position = span.position + block.start + row;
            let visible = position.saturating_sub(shape.window)..position + 1;
            let mut largest = T::of(f64::NEG_INFINITY);
            for (places, ..) in span.overlaps(seen.clone()) {
                let inside = within(&visible, &places);
                let scores = &scratch[scores(&places)][row * places.len()..][..places.len()];
                if !inside.is_empty() {
                    largest = largest.larger(maximum(&scores[inside]));
                }
            }
            let scale = T::of((size as f64).powf(-0.5));
            let mut sums = T::ZERO;
            for (places, ..) in span.overlaps(seen.clone()) {
                let scores = &mut scratch[scores(&places)][row * places.len()..][..places.len()];
                sums += exponentials(scores, within(&visible, &places), scale, largest * scale);
            }
            *total = T::ONE / sums;
        }
    });
    for (number, (places, piece, offset)) in span.overlaps(seen.clone()).enumerate() {
        let v = Matrix::new(&piece.v[group * piece.stride + offset * size..], places.len(), size);
        let weights = Matrix::new(&scratch[scores(&places)], rows, places.len());
        let mode = if number == 0 { WriteMode::Overwrite } else { WriteMode::Accumulate };
        multiply(out, weights, v, mode, Threads::One, shape.compute_dtype);
    }
    vectorized!({
        for (out, total) in out.chunks_exact_mut(size).zip(totals) {
            for out in out {
                *out *= total;
            }
        }
    });
}

/// The visible ones among `places`, counted from the first of these.
#[inline(always)]
fn within(visible: &Range<usize>, places: &Range<usize>) -> Range<usize> {
    let start = visible.start.clamp(places.start, places.end);
    start - places.start..visible.end.clamp(start, places.end) - places.start
}

/// Turns a row of scores before their factor into exponentials below `largest`, 0 where unseen: their sum.
#[inline(always)]
fn exponentials<T: Element>(scores: &mut [T], inside: Range<usize>, scale: T, largest: T) -> T {
    scores[..inside.start].fill(T::ZERO);
    scores[inside.end..].fill(T::ZERO);
    let scores = &mut scores[inside];
    for score in scores.iter_mut() {
        *score = (*score * scale - largest).exponential();
    }
    sum(scores.len(), |index| scores[index])
}
