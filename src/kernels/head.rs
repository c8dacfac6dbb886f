//! Output projection, soft cap and cross-entropy in chunks of tokens, so that full logits never exist.

use rayon::prelude::*;

use super::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use super::lanes::{LANES, maximum, sum, tree};
use super::{Element, Scratch, Stored, vectorized};
use crate::constants::LOGIT_CAP;

/// Elements that a chunk of logits has at most, and the least tokens of a chunk.
const CHUNK_NUMBERS: usize = 1 << 22;
const LEAST_CHUNK: usize = 64;
/// Tokens that one task works on.
const TASK_ROWS: usize = 4;
/// Terms that are summed in the kernels' type before they are added in f64.
const RUN: usize = 1024;

/// What the head reads.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a, S: Stored> {
    /// Normalised stream (N × width).
    pub x: &'a [S],
    /// Projection (at least `vocab` rows × width).
    pub weight: &'a [S::Element],
    /// Target of each token; below 0: ignored.
    pub targets: &'a [i32],
    /// Channels.
    pub width: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// What products round their operands to.
    pub compute_dtype: ComputeDtype,
}

/// Where gradients go.
#[derive(Debug)]
pub struct HeadGradients<'a, S: Stored> {
    /// Factor on every token's loss.
    pub factor: f64,
    /// Of the normalised stream, replaced.
    pub dx: &'a mut [S],
    /// Of the projection, added to.
    pub dweight: &'a mut [S::Element],
}

/// Tokens in a chunk.
pub fn chunk_rows(vocab: usize) -> usize {
    (CHUNK_NUMBERS / vocab).max(LEAST_CHUNK)
}

/// Writes every token's loss to `losses` (0 where ignored), and the gradients of `factor` times their sum where asked for.
/// `logits` is a workspace of some rows of vocab elements, of which a chunk of tokens takes one each; each buffer of `scratch` has room for
/// one row.
pub fn cross_entropy<S: Stored>(
    head: Head<'_, S>,
    mut gradients: Option<HeadGradients<'_, S>>,
    losses: &mut [S::Element],
    logits: &mut [S],
    scratch: &Scratch<S::Element>,
) {
    let Head { width, vocab, compute_dtype, .. } = head;
    let rows = logits.len() / vocab;
    debug_assert!(rows > 0, "the workspace holds no row of logits");
    let factor = gradients.as_ref().map(|gradients| S::Element::of(gradients.factor));
    for (chunk, losses) in losses.chunks_mut(rows).enumerate() {
        let count = losses.len();
        let x = &head.x[chunk * rows * width..][..count * width];
        let targets = &head.targets[chunk * rows..][..count];
        let logits = &mut logits[..count * vocab];
        project(Head { x, ..head }, logits);
        let tasks = logits.par_chunks_mut(TASK_ROWS * vocab).zip(losses.par_chunks_mut(TASK_ROWS));
        tasks.zip(targets.par_chunks(TASK_ROWS)).for_each(|((logits, losses), targets)| {
            scratch.with(|scratch| {
                let powers = &mut scratch[..vocab];
                vectorized!({
                    for ((logits, loss), target) in logits.chunks_exact_mut(vocab).zip(losses).zip(targets) {
                        *loss = row(logits, powers, usize::try_from(*target).ok(), factor);
                    }
                });
            });
        });
        if let Some(gradients) = &mut gradients {
            let (d, weight) = (Matrix::new(logits, count, vocab), Matrix::new(head.weight, vocab, width));
            let dx = &mut gradients.dx[chunk * rows * width..][..count * width];
            multiply(dx, d, weight, WriteMode::Overwrite, Threads::Pool, compute_dtype);
            let x = Matrix::new(x, count, width);
            let dweight = &mut gradients.dweight[..vocab * width];
            multiply(dweight, d.transposed(), x, WriteMode::Accumulate, Threads::Pool, compute_dtype);
        }
    }
}

/// Logits before the cap of all tokens of the head's `x`.
fn project<S: Stored>(head: Head<'_, S>, logits: &mut [impl Stored<Element = S::Element>]) {
    let x = Matrix::new(head.x, head.x.len() / head.width, head.width);
    let weight = Matrix::new(head.weight, head.vocab, head.width).transposed();
    multiply(logits, x, weight, WriteMode::Overwrite, Threads::Pool, head.compute_dtype);
}

/// What a row of capped logits says of the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Logarithm of the sum of exponentials: a token's loss is this less its logit.
    pub log_total: f64,
    /// Index of the largest logit, the first of equals.
    pub likeliest: u32,
}

/// Summarises a row of at least one capped logit.
#[inline(always)]
fn summarize<T: Element>(logits: &[T]) -> Summary {
    let largest = maximum(logits);
    let likeliest = logits.iter().position(|logit| *logit == largest).unwrap_or(0) as u32;
    // A plain loop: what an adapter calls would be compiled for the narrowest vectors.
    let mut total = 0.0;
    for run in logits.chunks(RUN) {
        total += sum(run.len(), |index| (run[index] - largest).exponential()).wide();
    }
    Summary { log_total: largest.wide() + total.ln(), likeliest }
}

/// The summary of one row of at least one capped logit.
pub fn summary<T: Element>(logits: &[T]) -> Summary {
    vectorized!(summarize(logits))
}

/// Summaries of rows of capped logits.
pub fn summaries<T: Element>(logits: &[T], vocab: usize) -> Vec<Summary> {
    logits.par_chunks_exact(vocab).map(|row| vectorized!(summarize(row))).collect()
}

/// Hands the capped logits of all tokens to `take`, a chunk at a time with the number of its first token. `logits` is scratch
/// that grows to [`chunk_rows`] × vocab elements at most.
pub fn capped_in_chunks<T: Element>(head: Head<'_, T>, logits: &mut Vec<T>, mut take: impl FnMut(usize, &[T])) {
    let (rows, tokens) = (chunk_rows(head.vocab), head.x.len() / head.width);
    for first in (0..tokens).step_by(rows) {
        let count = rows.min(tokens - first);
        if logits.len() < count * head.vocab {
            logits.resize(count * head.vocab, T::ZERO);
        }
        let logits = &mut logits[..count * head.vocab];
        capped(Head { x: &head.x[first * head.width..][..count * head.width], ..head }, logits);
        take(first, logits);
    }
}

/// Logits after the cap of all tokens: N × vocab. Targets are of no account.
pub fn capped<S: Stored>(head: Head<'_, S>, logits: &mut [S::Element]) {
    project(head, logits);
    logits.par_chunks_mut(head.vocab).for_each(|logits| {
        vectorized!({
            for logit in logits {
                *logit = cap(*logit);
            }
        });
    });
}

/// A logit after the cap.
#[inline(always)]
pub(super) fn cap<T: Element>(logit: T) -> T {
    T::of(LOGIT_CAP) * squash(logit)
}

/// tanh of a logit over the cap.
#[inline(always)]
fn squash<T: Element>(logit: T) -> T {
    (logit * T::of(1.0 / LOGIT_CAP)).hyperbolic_tangent()
}

/// One token's loss; its logits before the cap become their gradient, times the factor. `powers` has room for as many elements.
#[inline(always)]
fn row<S: Stored>(
    logits: &mut [S],
    powers: &mut [S::Element],
    target: Option<usize>,
    factor: Option<S::Element>,
) -> S::Element {
    let Some(target) = target else {
        if factor.is_some() {
            logits.fill(S::store(S::Element::ZERO));
        }
        return S::Element::ZERO;
    };
    let chosen = squash(logits[target].load());
    // Capped logits need no maximum taken off: e^±15 is far from the type's limits.
    let mut total = 0.0;
    for (run, powers) in logits.chunks(RUN).zip(powers.chunks_mut(RUN)) {
        total += take_powers(run, powers).wide();
    }
    let loss = S::Element::of(total.ln() - (chosen * S::Element::of(LOGIT_CAP)).wide());
    if let Some(factor) = factor {
        let share = factor * S::Element::of(1.0 / total);
        for (logit, power) in logits.iter_mut().zip(powers.iter()) {
            *logit = S::store(*power * share);
        }
        logits[target] = S::store(powers[target] * share - factor * (S::Element::ONE - chosen * chosen));
    }
    loss
}

/// The sum of the capped logits' exponentials; `powers` takes each exponential times the cap's slope.
#[inline(always)]
fn take_powers<S: Stored>(run: &[S], powers: &mut [S::Element]) -> S::Element {
    let mut lanes = [S::Element::ZERO; LANES];
    let (whole, rest) = run.as_chunks::<LANES>();
    let (whole_powers, rest_powers) = powers.as_chunks_mut::<LANES>();
    for (chunk, powers) in whole.iter().zip(whole_powers) {
        for ((lane, logit), place) in lanes.iter_mut().zip(chunk).zip(powers) {
            *lane += power(logit.load(), place);
        }
    }
    let mut total = tree(lanes);
    for (logit, place) in rest.iter().zip(rest_powers) {
        total += power(logit.load(), place);
    }
    total
}

/// The exponential of a capped logit; `place` takes the same times the cap's slope.
#[inline(always)]
fn power<T: Element>(logit: T, place: &mut T) -> T {
    let t = squash(logit);
    let power = (t * T::of(LOGIT_CAP)).exponential();
    *place = power * (T::ONE - t * t);
    power
}
