//! Attention of one new token a row, whose keys and values lie in several pieces: for decoding.
//!
//! All query heads of a key/value head are computed together, so that keys and values are read once. Sums go over tokens
//! in their order, wherever pieces are cut: a row's result depends neither on the pieces, nor on other rows, nor on the
//! number of threads. Nothing is allocated.

use super::lanes::{maximum, total};
use super::ragged_attention::Piece;
use super::rows::{dots, share};
use super::vector::{Vector, by_vector};
use super::{Element, Scratch};

/// Channels that are summed side by side.
const CHANNELS: usize = 32;
/// Below so many elements of keys a second thread costs more than it saves.
const LEAST_SHARED: usize = 1 << 15;

/// Sizes that all rows share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Query heads (H).
    pub heads: usize,
    /// Key/value heads (G), which divide H.
    pub groups: usize,
    /// Channels of a head (D).
    pub size: usize,
}

/// The keys and values of a row: the last `seen` tokens of its pieces.
#[derive(Debug, Clone, Copy)]
pub struct Seen<I> {
    /// All that are held, in order.
    pub pieces: I,
    /// Tokens held before those that are seen.
    pub skipped: usize,
    /// Tokens that are seen.
    pub seen: usize,
}

/// Writes what each row's query takes up to `out`; queries and results are token-major (rows × H·D). `row` gives a row's
/// keys and values. The scratch must have room for H/G · `longest` elements, the most tokens that a row sees.
pub fn forward<'a, I: Iterator<Item = Piece<'a, f32>> + Clone>(
    shape: Shape,
    q: &[f32],
    row: impl Fn(usize) -> Seen<I> + Sync,
    longest: usize,
    out: &mut [f32],
    scratch: &Scratch<f32>,
) {
    let together = shape.heads / shape.groups * shape.size;
    let tasks = out.len() / together;
    let target = Target(out.as_mut_ptr());
    let elements = tasks * longest * shape.size;
    let threads = if elements < LEAST_SHARED { 1 } else { rayon::current_num_threads() };
    share(0..tasks, tasks.div_ceil(threads), &|tasks| {
        scratch.with(|scores| {
            for task in tasks {
                // SAFETY: the chunk lies within the result, which is borrowed mutably, and belongs to this task alone.
                let out = unsafe { std::slice::from_raw_parts_mut(target.at(task * together), together) };
                let (q, seen) = (&q[task * together..][..together], row(task / shape.groups));
                let group = task % shape.groups;
                // SAFETY: the kind is one that the processor has.
                by_vector!(V => unsafe { one_group::<V, _>(shape.size, group, q, &seen, scores, out) });
            }
        });
    });
}

/// Where the results go.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: each task writes its own chunk.
unsafe impl Sync for Target {}

impl Target {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// The heads of one key/value head of one row.
///
/// # Safety
/// The processor has what the kind of vector needs.
#[inline(always)]
unsafe fn one_group<'a, V: Vector, I: Iterator<Item = Piece<'a, f32>> + Clone>(
    size: usize,
    group: usize,
    q: &[f32],
    seen: &Seen<I>,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let count = seen.seen;
    let mut first = 0;
    for (k, tokens) in parts(seen, group, size, |piece| piece.k) {
        for start in (0..tokens).step_by(4) {
            let key = |at: usize| &k[(start + at).min(tokens - 1) * size..][..size];
            for (q, scores) in q.chunks_exact(size).zip(scores.chunks_exact_mut(count)) {
                // SAFETY: as the caller promises.
                let [four] = unsafe { dots::<V, f32, 1>([q], std::array::from_fn(key)) };
                let places = first + start..(first + start + 4).min(first + tokens);
                scores[places.clone()].copy_from_slice(&four[..places.len()]);
            }
        }
        first += tokens;
    }
    let scale = (size as f64).powf(-0.5) as f32;
    for (scores, out) in scores.chunks_exact_mut(count).zip(out.chunks_exact_mut(size)) {
        let largest = maximum(scores) * scale;
        for score in scores.iter_mut() {
            *score = (*score * scale - largest).exponential();
        }
        let factor = 1.0 / total(scores);
        let whole = size - size % CHANNELS;
        for channel in (0..whole).step_by(CHANNELS) {
            let sums = some_channels::<_, CHANNELS>(size, group, seen, scores, channel);
            for (out, sum) in out[channel..].iter_mut().zip(sums) {
                *out = sum * factor;
            }
        }
        for (channel, out) in out.iter_mut().enumerate().skip(whole) {
            let [sum] = some_channels::<_, 1>(size, group, seen, scores, channel);
            *out = sum * factor;
        }
    }
}

/// The weighted sums of some channels of the values.
#[inline(always)]
fn some_channels<'a, I: Iterator<Item = Piece<'a, f32>> + Clone, const C: usize>(
    size: usize,
    group: usize,
    seen: &Seen<I>,
    weights: &[f32],
    channel: usize,
) -> [f32; C] {
    let mut sums = [0f32; C];
    let mut weights = weights;
    for (v, tokens) in parts(seen, group, size, |piece| piece.v) {
        let (own, rest) = weights.split_at(tokens);
        for (v, weight) in v.chunks_exact(size).zip(own) {
            for (sum, v) in sums.iter_mut().zip(&v[channel..channel + C]) {
                *sum = weight.mul_add(*v, *sum);
            }
        }
        weights = rest;
    }
    sums
}

/// One head's keys or values of the tokens that are seen, piece by piece, with how many they are.
#[inline(always)]
fn parts<'a, I: Iterator<Item = Piece<'a, f32>> + Clone>(
    seen: &Seen<I>,
    group: usize,
    size: usize,
    which: impl Fn(&Piece<'a, f32>) -> &'a [f32],
) -> impl Iterator<Item = (&'a [f32], usize)> {
    let mut skipped = seen.skipped;
    seen.pieces.clone().filter_map(move |piece| {
        let before = skipped.min(piece.tokens);
        skipped -= before;
        let tokens = piece.tokens - before;
        (tokens > 0).then(|| (&which(&piece)[group * piece.stride + before * size..][..tokens * size], tokens))
    })
}
