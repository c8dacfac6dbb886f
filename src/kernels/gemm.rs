//! Matrix products on slices: in f64 through the `gemm` crate, in f32 by AMX tiles where they are there and through the
//! `gemm` crate elsewhere, or in f32 with operands rounded to bf16.
//!
//! Every entry is summed in an order that depends on the sizes alone, not on the number of threads.

use gemm::Parallelism;

use super::{Element, gemm_bf16};

/// A matrix within a slice, with strides in elements.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix that fills the slice's beginning.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The first `columns` of a row-major matrix whose rows lie `row_stride` apart.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        let last = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(data.len() >= last, "a matrix of {rows} × {columns} needs {last} elements, got {}", data.len());
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, over the same elements.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether a product overwrites its output or is accumulated into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// The product replaces what is there.
    Overwrite,
    /// The product is added to what is there.
    Accumulate,
}

/// How many threads work on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// All of the current pool.
    Pool,
    /// The calling one: for products that are themselves one of many tasks.
    One,
}

/// What the operands of a product in f32 are rounded to first; sums are in f32 always. Products in f64 are never rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDtype {
    /// They are taken as they are.
    #[default]
    Full,
    /// They are rounded to bf16.
    Bf16,
}

/// `out` (row-major, rows of a × columns of b) becomes a · b, replaced or added.
pub fn multiply<T: Element>(
    out: &mut [T],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
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
    if compute_dtype == ComputeDtype::Bf16 && T::IS_F32 {
        return multiply_bf16(bytemuck::cast_slice_mut(out), a.rounded(), b.rounded(), mode, threads);
    }
    if T::IS_F32 && m * n * k >= LEAST_PRODUCTS && gemm_bf16::multiplies_f32() {
        let out = output(bytemuck::cast_slice_mut(out), mode);
        return gemm_bf16::gemm_f32(a.rounded(), b.rounded(), out, threads == Threads::One);
    }
    let parallelism = match threads {
        Threads::Pool => Parallelism::Rayon(0),
        Threads::One => Parallelism::None,
    };
    let add = mode == WriteMode::Accumulate;
    // SAFETY: all three matrices lie within their slices, as asserted here and where they were made; `out` is borrowed
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
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if add { T::ONE } else { T::ZERO },
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// [`multiply`] with operands rounded to bf16.
fn multiply_bf16(
    out: &mut [f32],
    a: gemm_bf16::Matrix<'_>,
    b: gemm_bf16::Matrix<'_>,
    mode: WriteMode,
    threads: Threads,
) {
    let out = output(out, mode);
    match threads {
        Threads::Pool => gemm_bf16::gemm(a, b, out),
        Threads::One => gemm_bf16::gemm_on_this_thread(a, b, out),
    }
}

fn output(out: &mut [f32], mode: WriteMode) -> gemm_bf16::Output<'_> {
    match mode {
        WriteMode::Overwrite => gemm_bf16::Output::set(out),
        WriteMode::Accumulate => gemm_bf16::Output::add(out),
    }
}

/// Smaller products in f32 aren't worth the packing of parts.
const LEAST_PRODUCTS: usize = 32 * 32 * 32;

impl<'a, T: Element> Matrix<'a, T> {
    /// The same matrix, of elements in f32, as one that is rounded to bf16.
    fn rounded(self) -> gemm_bf16::Matrix<'a> {
        let data = bytemuck::cast_slice(self.data);
        if self.column_stride == 1 {
            // A single row may have any stride.
            let stride = if self.rows == 1 { self.columns } else { self.row_stride };
            return gemm_bf16::Matrix::rounded_strided(data, self.rows, self.columns, stride);
        }
        gemm_bf16::Matrix::rounded_strided(data, self.columns, self.rows, self.column_stride).transposed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain reference implementation.
    fn naive(out: &mut [f64], a: Matrix<'_, f64>, b: Matrix<'_, f64>, mode: WriteMode) {
        for row in 0..a.rows {
            for column in 0..b.columns {
                let product: f64 = (0..a.columns)
                    .map(|inner| {
                        a.data[row * a.row_stride + inner * a.column_stride]
                            * b.data[inner * b.row_stride + column * b.column_stride]
                    })
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
    fn products_equal_the_plain_twin() {
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
                    let a32 = Matrix { data: a32.as_slice(), ..reshape(a) };
                    let b32 = Matrix { data: b32.as_slice(), ..reshape(b) };
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

    /// The same form over no elements.
    fn reshape(matrix: Matrix<'_, f64>) -> Matrix<'static, f32> {
        Matrix {
            data: &[],
            rows: matrix.rows,
            columns: matrix.columns,
            row_stride: matrix.row_stride,
            column_stride: matrix.column_stride,
        }
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
