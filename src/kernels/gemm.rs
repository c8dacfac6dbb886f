//! Matrix products on slices: in f64 through the `gemm` crate, in f32 by AMX tiles where they are there and through the
//! `gemm` crate elsewhere, or in f32 with operands rounded to bf16.
//!
//! Every entry is summed in an order that depends on the sizes alone, not on the number of threads.

use gemm::Parallelism;

use super::element::Kind;
use super::gemm_bf16::{self, Output, Source};
use super::{Element, Stored};

pub use super::matrix::{Matrix, Threads, WriteMode};

/// What the operands of a product in f32 are rounded to first; sums are in f32 always. Products in f64 are never rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDtype {
    /// They are taken as they are.
    #[default]
    Full,
    /// They are rounded to bf16.
    Bf16,
}

/// `out` (row-major, rows of a × columns of b) becomes a · b, replaced or added. Elements that are kept in bf16 are multiplied as such, so
/// that the product's compute dtype is bf16 too; sums are in f32 and rounded once, where they are written.
pub fn multiply<T: Element>(
    out: &mut [impl Stored<Element = T>],
    a: Matrix<'_, impl Stored<Element = T>>,
    b: Matrix<'_, impl Stored<Element = T>>,
    mode: WriteMode,
    threads: Threads,
    compute_dtype: ComputeDtype,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(out.len() >= m * n, "the product of {m} × {n} doesn't fit into {} elements", out.len());
    if m == 0 || n == 0 {
        return;
    }
    let narrow = [kind_of(out), kind_of(a.data), kind_of(b.data)].contains(&Kind::Bf16);
    debug_assert!(!narrow || compute_dtype == ComputeDtype::Bf16, "a product of bf16 is in bf16");
    if T::IS_F32 && (narrow || compute_dtype == ComputeDtype::Bf16) {
        return gemm_bf16::gemm(Source::of(a), Source::of(b), Output::of(out), mode, threads);
    }
    let out = bytemuck::cast_slice_mut::<_, T>(out);
    let (a, b) = (a.of::<T>(), b.of::<T>());
    if T::IS_F32 && m * n * k >= LEAST_PRODUCTS && gemm_bf16::multiplies_f32() {
        return gemm_bf16::gemm_f32(a.of(), b.of(), bytemuck::cast_slice_mut(out), mode, threads);
    }
    by_vectors(out, a, b, mode, threads);
}

fn kind_of<S: Stored>(_: &[S]) -> Kind {
    S::KIND
}

/// By the `gemm` crate, for sizes that fit together.
fn by_vectors<T: Element>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, mode: WriteMode, threads: Threads) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    debug_assert!(k == b.rows && out.len() >= m * n, "the sizes fit together");
    let ((a_row, a_column), (b_row, b_column)) = (a.strides(), b.strides());
    let parallelism = match threads {
        Threads::Pool => Parallelism::Rayon(0),
        Threads::One => Parallelism::None,
    };
    let add = mode == WriteMode::Accumulate;
    // SAFETY: all three matrices lie within their slices, as asserted by the caller and where they were made; `out` is borrowed
    // mutably, so that it overlaps neither operand; strides are below the slices' lengths and fit an isize.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a_column as isize,
            a_row as isize,
            b.data.as_ptr(),
            b_column as isize,
            b_row as isize,
            if add { T::ONE } else { T::ZERO },
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Smaller products in f32 aren't worth the packing of parts.
const LEAST_PRODUCTS: usize = 32 * 32 * 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain reference implementation.
    fn naive(out: &mut [f64], a: Matrix<'_, f64>, b: Matrix<'_, f64>, mode: WriteMode) {
        let ((a_row, a_column), (b_row, b_column)) = (a.strides(), b.strides());
        for row in 0..a.rows {
            for column in 0..b.columns {
                let product: f64 = (0..a.columns)
                    .map(|inner| a.data[row * a_row + inner * a_column] * b.data[inner * b_row + column * b_column])
                    .sum();
                let entry = &mut out[row * b.columns + column];
                *entry = product + if mode == WriteMode::Accumulate { *entry } else { 0.0 };
            }
        }
    }

    fn elements(count: usize, seed: u32) -> Vec<f64> {
        (0..count as u32).map(|index| f64::from((index + seed).wrapping_mul(2654435761) >> 20) / 2048.0 - 1.0).collect()
    }

    #[test]
    fn products_equal_the_reference_implementation() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (1, 33, 64), (65, 17, 40), (130, 70, 300)] {
            let (a, b) = (elements(m * (k + 3), 1), elements((k + 3) * n, 2));
            let cases = [
                (Matrix::strided(&a, m, k, k + 3), Matrix::new(&b, k, n)),
                (Matrix::new(&a, k, m).transposed(), Matrix::new(&b, k, n)),
                (Matrix::new(&a, m, k), Matrix::strided(&b, n, k, k).transposed()),
            ];
            for (a, b) in cases {
                for (mode, threads) in [(WriteMode::Overwrite, Threads::One), (WriteMode::Accumulate, Threads::Pool)] {
                    let (mut out, mut expected) = (elements(m * n, 3), elements(m * n, 3));
                    multiply(&mut out, a, b, mode, threads, ComputeDtype::Bf16);
                    naive(&mut expected, a, b, mode);
                    let worst = out.iter().zip(&expected).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
                    assert!(worst < 1e-12 * k as f64, "{m} × {n} × {k}: {worst:e}");
                    let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
                    let (a32, b32, mut out32) = (narrow(a.data), narrow(b.data), narrow(&elements(m * n, 3)));
                    let (a32, b32) = (reshape(a, &a32), reshape(b, &b32));
                    multiply(&mut out32, a32, b32, mode, threads, ComputeDtype::Full);
                    let worst = (out32.iter().zip(&expected))
                        .fold(0.0, |worst: f64, (a, b)| worst.max((f64::from(*a) - b).abs()));
                    assert!(worst < 4e-7 * k.max(4) as f64, "{m} × {n} × {k} in f32: {worst:e}");
                    let mut out32 = narrow(&elements(m * n, 3));
                    multiply(&mut out32, a32, b32, mode, threads, ComputeDtype::Bf16);
                    let worst = (out32.iter().zip(&expected))
                        .fold(0.0, |worst: f64, (a, b)| worst.max((f64::from(*a) - b).abs()));
                    // Each operand, of at most 1, is rounded by at most 2^-9.
                    assert!(worst < 4.1e-3 * k as f64, "{m} × {n} × {k} in bf16: {worst:e}");
                }
            }
        }
    }

    /// The same form over other elements.
    fn reshape<'a>(matrix: Matrix<'_, f64>, data: &'a [f32]) -> Matrix<'a, f32> {
        let Matrix { rows, columns, stride, is_transposed, .. } = matrix;
        Matrix { data, rows, columns, stride, is_transposed }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (m, n, k) = (300, 200, 1500);
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
        let (a, b) = (narrow(elements(m * k, 4)), narrow(elements(k * n, 5)));
        let product = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0f32; m * n];
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            pool.install(|| multiply(&mut out, a, b, WriteMode::Overwrite, Threads::Pool, ComputeDtype::Full));
            out
        };
        let one = product(1);
        for threads in [2, 3, 5] {
            assert!(product(threads) == one, "{threads} threads");
        }
    }
}
