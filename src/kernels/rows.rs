//! Products of a few rows with weights, for decoding: bound by reading the weights, which are read once for all rows, as
//! they lie, in f32 or in bf16.
//!
//! Each entry is one sum of its own, in an order that the length alone decides: a row's result doesn't depend on which
//! rows are beside it, nor on the number of threads. Nothing is allocated.

use half::bf16;

use super::Element;
use super::head::cap;
use super::lanes::LANES;
use super::vector::{Vector, Weight, by_vector};

/// Outputs that threads take at a time at least, and short rows that are computed side by side.
const OUTPUTS: usize = 4;
/// Rows that are computed side by side.
const ROWS: usize = 4;
/// Bytes of a cache line, and how far ahead of their use weights are asked for: past the end of a page, where the processor's
/// own prefetching stops.
const CACHE_LINE: usize = 64;
const AHEAD: usize = 4096;
/// Below so many products a second thread costs more than it saves.
const LEAST_SHARED: usize = 1 << 15;

/// The elements of a weight matrix (outputs × inputs, row-major).
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// In full.
    F32(&'a [f32]),
    /// Rounded.
    Bf16(&'a [bf16]),
}

/// What is done with the sums of a product before they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// They replace what was there.
    Overwrite,
    /// They are added to what is there.
    Accumulate,
    /// They are cut off at 0 and squared.
    SquaredRelu,
    /// They are capped as logits.
    SoftCap,
}

/// A linear layer to be applied.
#[derive(Debug)]
pub struct Product<'a> {
    /// Weights.
    pub weights: Elements<'a>,
    /// Outputs.
    pub outputs: usize,
    /// The result (rows × outputs).
    pub y: &'a mut [f32],
    /// What is done with the sums of a product before they are stored.
    pub epilogue: Epilogue,
}

/// A product whose result several threads write, each its own outputs.
#[derive(Clone, Copy)]
struct Target<'a> {
    weights: Elements<'a>,
    outputs: usize,
    y: *mut f32,
    epilogue: Epilogue,
}

// SAFETY: the weights are only read, and of the result, which is borrowed mutably for as long as the product lives, each
// task writes the columns of its own outputs.
unsafe impl Sync for Target<'_> {}

/// Applies some linear layers to the same `x` (rows × inputs), on rayon's current pool.
pub fn multiply<const P: usize>(x: &[f32], rows: usize, products: [Product<'_>; P]) {
    if rows == 0 {
        return;
    }
    let inputs = x.len() / rows;
    let targets = products.map(|product| {
        let elements = match product.weights {
            Elements::F32(elements) => elements.len(),
            Elements::Bf16(elements) => elements.len(),
        };
        assert!(elements >= product.outputs * inputs, "weights of {} × {inputs}, got {elements}", product.outputs);
        assert_eq!(product.y.len(), rows * product.outputs, "the result has a place for every output");
        let Product { weights, outputs, y, epilogue } = product;
        Target { weights, outputs, y: y.as_mut_ptr(), epilogue }
    });
    let blocks: usize = targets.iter().map(|target| target.outputs.div_ceil(OUTPUTS)).sum();
    let products = blocks * OUTPUTS * x.len();
    let threads = if products < LEAST_SHARED { 1 } else { rayon::current_num_threads() };
    share(0..blocks, blocks.div_ceil(threads), &|blocks| some_blocks(x, rows, &targets, blocks));
}

/// Cuts a range in halves for other threads until a part is no longer than `most`.
pub(super) fn share(range: std::ops::Range<usize>, most: usize, work: &(impl Fn(std::ops::Range<usize>) + Sync)) {
    if range.len() <= most.max(1) {
        return work(range);
    }
    let middle = range.start + range.len().div_ceil(most).div_ceil(2) * most;
    rayon::join(|| share(range.start..middle, most, work), || share(middle..range.end, most, work));
}

/// Computes blocks of outputs, counted over all targets.
fn some_blocks(x: &[f32], rows: usize, targets: &[Target<'_>], blocks: std::ops::Range<usize>) {
    let mut before = 0;
    for target in targets {
        let count = target.outputs.div_ceil(OUTPUTS);
        let (from, to) = (blocks.start.max(before), blocks.end.min(before + count));
        if from < to {
            let outputs = (from - before) * OUTPUTS..((to - before) * OUTPUTS).min(target.outputs);
            // SAFETY: the kind of vector is one that the processor has.
            match target.weights {
                Elements::F32(weights) => {
                    by_vector!(V => unsafe { some_outputs::<V, _>(x, rows, target, weights, outputs) });
                }
                Elements::Bf16(weights) => {
                    by_vector!(V => unsafe { some_outputs::<V, _>(x, rows, target, weights, outputs) });
                }
            }
        }
        before += count;
    }
}

/// Computes some outputs of all rows. Weights are read from the first to the last, which is what prefetching follows best.
///
/// # Safety
/// The processor has what the kind of vector needs, and no other task touches these outputs.
#[inline(always)]
unsafe fn some_outputs<V: Vector, W: Weight>(
    x: &[f32],
    rows: usize,
    target: &Target<'_>,
    weights: &[W],
    outputs: std::ops::Range<usize>,
) {
    let inputs = x.len() / rows;
    let row = |row: usize| &x[row * inputs..][..inputs];
    for output in outputs.clone() {
        let w = &weights[output * inputs..][..inputs];
        let put = |row: usize, sum: f32| {
            // SAFETY: the output lies within the result, which is borrowed mutably, and belongs to this task alone.
            let y = unsafe { &mut *target.y.add(row * target.outputs + output) };
            *y = match target.epilogue {
                Epilogue::Overwrite | Epilogue::SoftCap => sum,
                Epilogue::Accumulate => *y + sum,
                Epilogue::SquaredRelu => sum.larger(0.0) * sum.larger(0.0),
            };
        };
        let mut first = 0;
        while first + ROWS <= rows {
            // SAFETY: as the caller promises.
            let sums = unsafe { row_dots::<V, W, ROWS>(std::array::from_fn(|at| row(first + at)), w) };
            for (at, sum) in sums.into_iter().enumerate() {
                put(first + at, sum);
            }
            first += ROWS;
        }
        for first in first..rows {
            // SAFETY: as the caller promises.
            let [sum] = unsafe { row_dots::<V, W, 1>([row(first)], w) };
            put(first, sum);
        }
    }
    if target.epilogue == Epilogue::SoftCap {
        for row in 0..rows {
            // SAFETY: the outputs lie within the result, which is borrowed mutably, and belong to this task alone.
            let sums = unsafe {
                let first = target.y.add(row * target.outputs + outputs.start);
                std::slice::from_raw_parts_mut(first, outputs.len())
            };
            for sum in sums {
                *sum = cap(*sum);
            }
        }
    }
}

/// Sums of products of some rows with one row of weights: four accumulators a row, so that none waits for another.
///
/// # Safety
/// The processor has what the kind of vector needs.
#[inline(always)]
unsafe fn row_dots<V: Vector, W: Weight, const M: usize>(x: [&[f32]; M], w: &[W]) -> [f32; M] {
    let (w, w_rest) = w.as_chunks::<LANES>();
    let count = w.len();
    let x_rest = x.map(|x| &x[count * LANES..]);
    let x: [&[[f32; LANES]]; M] = std::array::from_fn(|row| &x[row].as_chunks::<LANES>().0[..count]);
    let (fours, rest) = w.as_chunks::<4>();
    // SAFETY: as the caller promises.
    let mut sums = unsafe {
        let [mut a, mut b, mut c, mut d] = [[V::zero(); M]; 4];
        for (number, four) in fours.iter().enumerate() {
            let place = four.as_ptr().cast::<u8>();
            for line in (0..size_of_val(four)).step_by(CACHE_LINE) {
                V::prefetch(place.wrapping_add(AHEAD + line));
            }
            let [w0, w1, w2, w3] = four;
            a = plus_products(a, x, 4 * number, w0);
            b = plus_products(b, x, 4 * number + 1, w1);
            c = plus_products(c, x, 4 * number + 2, w2);
            d = plus_products(d, x, 4 * number + 3, w3);
        }
        for (number, w) in rest.iter().enumerate() {
            a = plus_products(a, x, 4 * fours.len() + number, w);
        }
        let mut sums = [0f32; M];
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = a[row].plus(b[row]).plus(c[row].plus(d[row])).sum();
        }
        sums
    };
    for (sum, x) in sums.iter_mut().zip(x_rest) {
        for (x, w) in x.iter().zip(w_rest) {
            *sum = x.mul_add(w.wide(), *sum);
        }
    }
    sums
}

/// Adds the products of a chunk of each row with a chunk of weights.
///
/// # Safety
/// The processor has what the kind of vector needs.
#[inline(always)]
unsafe fn plus_products<V: Vector, W: Weight, const M: usize>(
    mut sums: [V; M],
    x: [&[[f32; LANES]]; M],
    chunk: usize,
    w: &[W; LANES],
) -> [V; M] {
    // SAFETY: as the caller promises.
    unsafe {
        let w: V = W::vector(w);
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = sum.plus_product(V::of_f32(&x[chunk]), w);
        }
    }
    sums
}

/// Sums of products of some short rows with some others.
///
/// # Safety
/// The processor has what the kind of vector needs.
#[inline(always)]
pub(super) unsafe fn dots<V: Vector, W: Weight, const M: usize>(
    x: [&[f32]; M],
    w: [&[W]; OUTPUTS],
) -> [[f32; OUTPUTS]; M] {
    let (x_cut, w_cut) = (x.map(|x| x.as_chunks::<LANES>()), w.map(|w| w.as_chunks::<LANES>()));
    let count = x_cut[0].0.len();
    let x: [&[[f32; LANES]]; M] = std::array::from_fn(|row| &x_cut[row].0[..count]);
    let w: [&[[W; LANES]]; OUTPUTS] = std::array::from_fn(|output| &w_cut[output].0[..count]);
    let mut sums = [[0f32; OUTPUTS]; M];
    // SAFETY: as the caller promises.
    unsafe {
        let mut lanes = [[V::zero(); OUTPUTS]; M];
        for chunk in 0..count {
            let x: [V; M] = std::array::from_fn(|row| V::of_f32(&x[row][chunk]));
            for output in 0..OUTPUTS {
                let w: V = W::vector(&w[output][chunk]);
                for row in 0..M {
                    lanes[row][output] = lanes[row][output].plus_product(x[row], w);
                }
            }
        }
        for (sums, lanes) in sums.iter_mut().zip(lanes) {
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum = lanes.sum();
            }
        }
    }
    for (sums, (_, x)) in sums.iter_mut().zip(&x_cut) {
        for (sum, (_, w)) in sums.iter_mut().zip(&w_cut) {
            for (x, w) in x.iter().zip(*w) {
                *sum = x.mul_add(w.wide(), *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|index| ((index + seed).wrapping_mul(2654435761) >> 20) as f32 / 2048.0 - 1.0).collect()
    }

    /// The plain reference implementation, in f64.
    fn naive(x: &[f32], rows: usize, weights: &[f32], y: &mut [f32], epilogue: Epilogue) {
        let (inputs, outputs) = (x.len() / rows, y.len() / rows);
        for row in 0..rows {
            for output in 0..outputs {
                let products =
                    (0..inputs).map(|at| f64::from(x[row * inputs + at]) * f64::from(weights[output * inputs + at]));
                let sum: f64 = products.sum();
                let y = &mut y[row * outputs + output];
                *y = match epilogue {
                    Epilogue::Overwrite => sum,
                    Epilogue::Accumulate => f64::from(*y) + sum,
                    Epilogue::SquaredRelu => sum.max(0.0).powi(2),
                    Epilogue::SoftCap => 15.0 * (sum / 15.0).tanh(),
                } as f32;
            }
        }
    }

    #[test]
    fn products_equal_the_plain_twin_and_rows_do_not_depend_on_each_other() {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 24, 7), (2, 33, 5), (5, 64, 130), (9, 256, 1021), (8, 48, 64)] {
            let (x, w) = (elements(rows * inputs, 1), elements(outputs * inputs, 2));
            let narrow: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let rounded: Vec<f32> = narrow.iter().map(|w| w.to_f32()).collect();
            for epilogue in [Epilogue::Overwrite, Epilogue::Accumulate, Epilogue::SquaredRelu, Epilogue::SoftCap] {
                for (weights, plain) in [(Elements::F32(&w), &w), (Elements::Bf16(&narrow), &rounded)] {
                    let (mut y, mut expected) = (elements(rows * outputs, 3), elements(rows * outputs, 3));
                    multiply(&x, rows, [Product { weights, outputs, y: &mut y, epilogue }]);
                    naive(&x, rows, plain, &mut expected, epilogue);
                    // Terms of at most 1, each rounded by 2^-24 of the sum so far at most; a square doubles what its root is off.
                    let bound = 1e-7 * inputs.max(10) as f32;
                    for (ours, reference) in y.iter().zip(&expected) {
                        let slope = if epilogue == Epilogue::SquaredRelu { 1.0 + 2.0 * reference.sqrt() } else { 1.0 };
                        let off = (ours - reference).abs();
                        assert!(off < bound * slope, "{rows} × {inputs} × {outputs}, {epilogue:?}: {off:e}");
                    }
                    for row in 0..rows {
                        let mut alone = elements(rows * outputs, 3)[row * outputs..][..outputs].to_vec();
                        let x = &x[row * inputs..][..inputs];
                        multiply(x, 1, [Product { weights, outputs, y: &mut alone, epilogue }]);
                        assert_eq!(alone, y[row * outputs..][..outputs], "row {row} of {rows}");
                    }
                }
            }
        }
    }

    #[test]
    fn several_layers_and_any_number_of_threads_give_the_same_bits() {
        let (rows, inputs, sizes) = (3, 96, [256, 30, 77]);
        let x = elements(rows * inputs, 4);
        let weights: Vec<Vec<f32>> = (5..).zip(sizes).map(|(seed, size)| elements(size * inputs, seed)).collect();
        let alone: Vec<Vec<f32>> = (weights.iter().zip(sizes))
            .map(|(weights, outputs)| {
                let mut y = vec![0.0; rows * outputs];
                let weights = Elements::F32(weights);
                multiply(&x, rows, [Product { weights, outputs, y: &mut y, epilogue: Epilogue::Overwrite }]);
                y
            })
            .collect();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut together = sizes.map(|outputs| vec![0f32; rows * outputs]);
            let [a, b, c] = &mut together;
            let products = [(a, 0), (b, 1), (c, 2)].map(|(y, at)| {
                let weights = Elements::F32(&weights[at]);
                Product { weights, outputs: sizes[at], y, epilogue: Epilogue::Overwrite }
            });
            pool.install(|| multiply(&x, rows, products));
            assert_eq!(together.as_slice(), alone, "{threads} threads");
        }
    }
}
