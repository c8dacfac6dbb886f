//! Matrix products through the `gemm` crate, on slices, in f32 and f64.
//!
//! Every entry is summed in an order that depends on the sizes alone, not on the number of threads.

use gemm::Parallelism;

use super::Element;

/// A matrix within a slice, with strides in numbers.
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
        assert!(data.len() >= last, "a matrix of {rows} × {columns} needs {last} numbers, got {}", data.len());
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, over the same numbers.
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

/// What becomes of the numbers that the product is written over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Onto {
    /// They are replaced.
    Nothing,
    /// The product is added to them.
    Sum,
    /// The product is added to this many times them.
    Times(f64),
}

impl Onto {
    /// Factor on what was there.
    fn factor(self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Sum => 1.0,
            Self::Times(factor) => factor,
        }
    }
}

/// How many threads work on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// All of the current pool.
    Pool,
    /// The calling one: for products that are themselves one of many tasks.
    One,
}

/// `out` (row-major, rows of a × columns of b) becomes `factor` · a · b, replaced or added.
pub fn multiply<T: Element>(
    out: &mut [T],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    factor: f64,
    onto: Onto,
    threads: Threads,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(out.len() >= m * n, "the product of {m} × {n} doesn't fit into {} numbers", out.len());
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::Pool => Parallelism::Rayon(0),
        Threads::One => Parallelism::None,
    };
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
            onto != Onto::Nothing,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::of(onto.factor()),
            T::of(factor),
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain twin.
    fn naive(out: &mut [f64], a: Matrix<'_, f64>, b: Matrix<'_, f64>, factor: f64, onto: Onto) {
        for row in 0..a.rows {
            for column in 0..b.columns {
                let product: f64 = (0..a.columns)
                    .map(|inner| {
                        a.data[row * a.row_stride + inner * a.column_stride]
                            * b.data[inner * b.row_stride + column * b.column_stride]
                    })
                    .sum();
                let entry = &mut out[row * b.columns + column];
                *entry = factor * product + onto.factor() * *entry;
            }
        }
    }

    fn numbers(count: usize, seed: u32) -> Vec<f64> {
        (0..count as u32).map(|index| f64::from((index + seed).wrapping_mul(2654435761) >> 20) / 2048.0 - 1.0).collect()
    }

    #[test]
    fn products_equal_the_plain_twin() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (1, 33, 64), (65, 17, 40), (130, 70, 300)] {
            let (a, b) = (numbers(m * (k + 3), 1), numbers((k + 3) * n, 2));
            let cases = [
                (Matrix::strided(&a, m, k, k + 3), Matrix::new(&b, k, n)),
                (Matrix::new(&a, k, m).transposed(), Matrix::new(&b, k, n)),
                (Matrix::new(&a, m, k), Matrix::strided(&b, n, k, k).transposed()),
            ];
            for (a, b) in cases {
                for (onto, threads) in
                    [(Onto::Nothing, Threads::One), (Onto::Sum, Threads::Pool), (Onto::Times(-1.5), Threads::One)]
                {
                    let (mut out, mut expected) = (numbers(m * n, 3), numbers(m * n, 3));
                    multiply(&mut out, a, b, 0.5, onto, threads);
                    naive(&mut expected, a, b, 0.5, onto);
                    let worst = out.iter().zip(&expected).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
                    assert!(worst < 1e-12 * k as f64, "{m} × {n} × {k}: {worst:e}");
                    let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
                    let (a32, b32, mut out32) = (narrow(a.data), narrow(b.data), narrow(&numbers(m * n, 3)));
                    let a32 = Matrix { data: a32.as_slice(), ..reshape(a) };
                    let b32 = Matrix { data: b32.as_slice(), ..reshape(b) };
                    multiply(&mut out32, a32, b32, 0.5, onto, threads);
                    let worst = (out32.iter().zip(&expected))
                        .fold(0.0, |worst: f64, (a, b)| worst.max((f64::from(*a) - b).abs()));
                    assert!(worst < 2e-7 * k.max(4) as f64, "{m} × {n} × {k} in f32: {worst:e}");
                }
            }
        }
    }

    /// The same form over no numbers.
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
        let (a, b) = (narrow(numbers(m * k, 4)), narrow(numbers(k * n, 5)));
        let product = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0f32; m * n];
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            pool.install(|| multiply(&mut out, a, b, 1.0, Onto::Nothing, Threads::Pool));
            out
        };
        let one = product(1);
        for threads in [2, 3, 5] {
            assert!(product(threads) == one, "{threads} threads");
        }
    }
}
