//! The GPU engine's commands at a plan's sizes.
//!
//! First a small step is compared with its emulation on the processor, command by command; a GPU that computes something else
//! is not measured.
//! Then one micro-step and one step of the optimizer are watched command by command, and the micro-step is timed as a CUDA graph.

#[cfg(any(test, feature = "cuda"))]
mod check;
#[cfg(any(test, feature = "cuda"))]
mod compared;
#[cfg(feature = "cuda")]
mod measure;
#[cfg(feature = "cuda")]
mod timed;
#[cfg(any(test, feature = "cuda"))]
mod traffic;
#[cfg(any(test, feature = "cuda"))]
mod work;

use super::{BenchError, Subject};
use nanochat_artifacts::{Bench, BenchFigure};

/// How a GPU is measured.
#[derive(Debug, Clone, Copy)]
pub struct GpuOptions {
    /// How often everything is repeated; medians count.
    pub repeats: usize,
    /// Try the other algorithms that cuBLASLt proposes for every product.
    pub algorithms: bool,
}

/// Whether this binary can measure a GPU.
///
/// # Errors
/// How to build one that can.
pub fn gpu_is_built_in() -> Result<(), BenchError> {
    nanochat_engine::device::built().map(drop).ok_or_else(without_cuda)
}

fn without_cuda() -> BenchError {
    nanochat_engine::device::DeviceError::NotBuiltIn { what: "CUDA", remedy: "`cuda/build`" }.into()
}

/// Measures the first GPU.
///
/// # Errors
/// A binary without CUDA, a plan for another device or in f32, a GPU that can't be used, or one whose commands aren't the emulated ones.
#[cfg(feature = "cuda")]
pub fn gpu(subject: &Subject, options: GpuOptions, observe: &mut dyn FnMut(&BenchFigure)) -> Result<Bench, BenchError> {
    measure::measure_gpu(subject, options, observe)
}

/// See [`gpu_is_built_in`].
///
/// # Errors
/// Always.
#[cfg(not(feature = "cuda"))]
pub fn gpu(_: &Subject, _: GpuOptions, _: &mut dyn FnMut(&BenchFigure)) -> Result<Bench, BenchError> {
    Err(without_cuda())
}
