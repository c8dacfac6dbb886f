//! Quick measurements of this machine: enough to distinguish a slow setup from a fast one; not a benchmark.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Side of the square matrices that are multiplied.
const SIDE: usize = 768;
/// Floats of each buffer that is copied: 64 MiB, beyond the usual caches.
const BUFFER: usize = 16 << 20;
/// Side of the matrices that a GPU multiplies: its cores are all busy from about here on.
pub const GPU_SIDE: usize = 8192;
/// Floats that a GPU copies: 1 GiB, far beyond its caches.
pub const GPU_FLOATS: usize = 1 << 28;
/// Time spent on each measurement.
const BUDGET: Duration = Duration::from_millis(300);

/// Times that work is queued on a device before its end is waited for.
const IN_A_ROW: usize = 8;

/// What was measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Rates {
    /// f32 matrix product in GFLOP/s, the best of several; none when it failed.
    pub gemm_gflops: Option<f64>,
    /// Bytes read and written in GB/s (10^9 a second) by a copy on all threads.
    pub copy_gbs: f64,
}

/// Measures for about half a second.
pub fn measure() -> Rates {
    Rates { gemm_gflops: gemm_gflops().ok(), copy_gbs: copy_gbs() }
}

fn gemm_gflops() -> candle_core::Result<f64> {
    let a = Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu)?;
    let b = Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu)?.to_dtype(DType::F32)?;
    a.matmul(&b)?;
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < BUDGET {
        let begin = Instant::now();
        a.matmul(&b)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best / 1e9)
}

/// Bytes read and written in GB/s (10^9 a second) by a copy on all threads; measures for a third of a second.
pub fn copy_gbs() -> f64 {
    let from = vec![1f32; BUFFER];
    let mut to = vec![0f32; BUFFER];
    let chunk = BUFFER.div_ceil(rayon::current_num_threads().max(1));
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < BUDGET {
        let begin = Instant::now();
        to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from));
        best = best.min(begin.elapsed().as_secs_f64());
        std::hint::black_box(&to);
    }
    (2 * BUFFER * size_of::<f32>()) as f64 / best / 1e9
}

/// What was measured on a device, by candle's own operations.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeviceRates {
    /// f32 matrix product in TFLOP/s; none when it failed.
    pub f32_tflops: Option<f64>,
    /// bf16 matrix product in TFLOP/s; none when it failed.
    pub bf16_tflops: Option<f64>,
    /// Bytes read and written in GB/s (10^9 a second) by a copy; none when it failed.
    pub copy_gbs: Option<f64>,
    /// Why what failed did.
    pub problems: Vec<String>,
}

/// Measures a device on matrices of `side` × `side` and a buffer of `floats`, each for a third of a second.
pub fn measure_device(device: &Device, side: usize, floats: usize) -> DeviceRates {
    let mut problems = Vec::new();
    let mut kept = |what: &str, measured: candle_core::Result<f64>| {
        measured.map_err(|error| problems.push(format!("{what}: {error}"))).ok()
    };
    let f32_tflops = kept("f32 products", device_tflops(device, DType::F32, side));
    let bf16_tflops = kept("bf16 products", device_tflops(device, DType::BF16, side));
    let copy_gbs = kept("copies", device_copy_gbs(device, floats));
    DeviceRates { f32_tflops, bf16_tflops, copy_gbs, problems }
}

/// Matrix products of `side` × `side` on a device in TFLOP/s; measures for a third of a second.
///
/// # Errors
/// What the device says.
pub fn device_tflops(device: &Device, dtype: DType, side: usize) -> candle_core::Result<f64> {
    let matrix = || Tensor::rand(-1f32, 1f32, (side, side), device)?.to_dtype(dtype);
    let (a, b) = (matrix()?, matrix()?);
    let seconds = best_on(device, || a.matmul(&b).map(drop))?;
    Ok(2.0 * (side as f64).powi(3) / seconds / 1e12)
}

/// Bytes read and written in GB/s (10^9 a second) by a device's copy of `floats`; measures for a third of a second.
///
/// # Errors
/// What the device says.
pub fn device_copy_gbs(device: &Device, floats: usize) -> candle_core::Result<f64> {
    let buffer = Tensor::ones(floats, DType::F32, device)?;
    let seconds = best_on(device, || buffer.copy().map(drop))?;
    Ok((2 * floats * size_of::<f32>()) as f64 / seconds / 1e9)
}

/// The shortest time of `work`, which a device may only queue: as many in a row as its own overhead asks for.
fn best_on(device: &Device, work: impl Fn() -> candle_core::Result<()>) -> candle_core::Result<f64> {
    work()?;
    device.synchronize()?;
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < BUDGET {
        let begin = Instant::now();
        for _ in 0..IN_A_ROW {
            work()?;
        }
        device.synchronize()?;
        best = best.min(begin.elapsed().as_secs_f64() / IN_A_ROW as f64);
    }
    Ok(best)
}

/// Bytes read in GB/s (10^9 a second) of one buffer on all threads; measures for a third of a second.
pub fn read_gbs() -> f64 {
    let buffer = vec![1u64; BUFFER / 2];
    let chunk = buffer.len().div_ceil(rayon::current_num_threads().max(1));
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < BUDGET {
        let begin = Instant::now();
        let sum: u64 = buffer.par_chunks(chunk).map(sum).sum();
        best = best.min(begin.elapsed().as_secs_f64());
        std::hint::black_box(sum);
    }
    (buffer.len() * size_of::<u64>()) as f64 / best / 1e9
}

/// A sum in eight lanes.
fn sum(numbers: &[u64]) -> u64 {
    let mut lanes = [0u64; 8];
    for chunk in numbers.chunks_exact(8) {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*number);
        }
    }
    lanes.iter().fold(0, |total, lane| total.wrapping_add(*lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_computes_has_rates() {
        let rates = measure_device(&Device::Cpu, 64, 1 << 12);
        assert!(
            rates.f32_tflops.is_some_and(|rate| rate > 0.0) && rates.copy_gbs.is_some_and(|rate| rate > 0.0),
            "{rates:?}"
        );
    }
}
