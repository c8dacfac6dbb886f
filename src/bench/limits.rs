//! The limits of this machine, as this program's own kernels reach them.

use std::time::{Duration, Instant};

use candle_core::{DType, Device};

use crate::hardware::{self, GPU_FLOATS, GPU_SIDE};
use nanochat_engine::model::compute_dtype;
use nanochat_kernels::gemm::{Matrix, Threads, WriteMode, multiply};
use nanochat_plan::Precision;

/// Products that are tried, as rows, columns and inner size: a cube, and the form of a linear layer over many tokens.
const PRODUCTS: [[usize; 3]; 2] = [[1024, 1024, 1024], [4096, 1024, 256]];
/// Time spent on each.
const BUDGET: Duration = Duration::from_millis(400);

/// The best rate of matrix products, in GFLOP/s: of our kernels on all threads of a processor, of candle's on a GPU.
///
/// # Errors
/// What a GPU says.
pub fn gemm_gflops(dtype: Precision, device: &Device) -> candle_core::Result<f64> {
    if device.is_cpu() {
        return Ok(PRODUCTS.into_iter().map(|product| product_gflops(product, dtype)).fold(0.0, f64::max));
    }
    let element = if dtype == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    Ok(hardware::device_tflops(device, element, GPU_SIDE)? * 1e3)
}

/// Bytes read in GB/s: on all threads of a processor; by a GPU's copy, which reads and writes.
///
/// # Errors
/// What a GPU says.
pub fn read_gbs(device: &Device) -> candle_core::Result<f64> {
    if device.is_cpu() { Ok(hardware::read_gbs()) } else { hardware::device_copy_gbs(device, GPU_FLOATS) }
}

fn product_gflops([m, n, k]: [usize; 3], dtype: Precision) -> f64 {
    let (a, b, mut out) = (elements(m * k, 0), elements(n * k, 0), vec![0f32; m * n]);
    let seconds = best_seconds(BUDGET, || {
        let b = Matrix::new(&b, n, k).transposed();
        multiply(&mut out, Matrix::new(&a, m, k), b, WriteMode::Overwrite, Threads::Pool, compute_dtype(dtype));
        std::hint::black_box(&out);
    });
    2.0 * (m * n * k) as f64 / seconds / 1e9
}

/// Elements in −1 … 1 without a pattern that matters.
pub fn elements(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + seed) * 7919) % 1013) as f32 / 506.0 - 1.0).collect()
}

/// The shortest time of `work` within a budget, after once that doesn't count.
pub fn best_seconds(budget: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < budget || best.is_infinite() {
        let begin = Instant::now();
        work();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

/// The median of some values; NaN when there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return f64::NAN;
    }
    let upper = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[upper] } else { (sorted[upper - 1] + sorted[upper]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
