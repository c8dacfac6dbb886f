//! Every kernel at a plan's sizes, timed with its reference implementation, against the limits of the machine.
//!
//! A kernel that arithmetic limits gets its rate in GFLOP/s of the products that it needs, one that memory limits in GB/s of
//! the elements that it must read and write once. Buffers exceed the caches only where a plan's do.

mod layers;
mod products;
mod rows;

use std::time::Duration;

use candle_core::{Device, Tensor};
use half::bf16;

use super::limits::{self, best_seconds, elements};
use super::{BenchError, Subject};
use crate::hardware;
use nanochat_artifacts::{Bench, BenchFigure, BenchRate, Better, Measured};
use nanochat_engine::model::compute_dtype;
use nanochat_kernels::Stored;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::rotary::Heads;
use nanochat_plan::shape::{MLP_EXPANSION, head_dim, kv_dim};
use nanochat_plan::{DeviceKind, ModelShape, Precision, RunPlan};

/// How kernels are measured.
#[derive(Debug, Clone, Copy)]
pub struct KernelOptions {
    /// Time the reference implementations too.
    pub references: bool,
    /// Time spent on each figure.
    pub budget: Duration,
}

/// Measures some kernels.
type Measure = fn(&mut Stopwatch<'_>, &Sizes) -> candle_core::Result<()>;

/// All kernels over activations that are kept as `S`, in the order in which they are measured.
fn all<S: Stored<Element = f32>>() -> [(&'static str, Measure); 11] {
    [
        ("linear", products::linear_layers::<S>),
        ("attention", products::attention::<S>),
        ("head", products::head::<S>),
        ("rotary", layers::rotary::<S>),
        ("gated values", layers::values::<S>),
        ("norm", rows::norm::<S>),
        ("residual mix", rows::mix::<S>),
        ("squared ReLU", rows::squared_relu::<S>),
        ("smear", rows::smear::<S>),
        ("embedding", rows::embedding::<S>),
        ("optimizer step", products::optimizer),
    ]
}

/// Measures every kernel at the sizes of a plan's micro-step.
///
/// # Errors
/// A plan for another device, a reference implementation that candle can't compute.
pub fn kernels(
    subject: &Subject,
    options: KernelOptions,
    observe: &mut dyn FnMut(&BenchFigure),
) -> Result<Bench, BenchError> {
    let plan = &subject.plan;
    if plan.device != DeviceKind::Cpu {
        return Err(BenchError::KernelsOfProcessor { profile: plan.hardware.clone() });
    }
    let (gemm_gflops, copy_gbs) = (limits::gemm_gflops(plan.dtype, &Device::Cpu)?, hardware::copy_gbs());
    let sizes = Sizes::of(plan);
    let mut stopwatch = Stopwatch { options, gemm_gflops, copy_gbs, figures: Vec::new(), observe };
    let kernels = match plan.dtype {
        Precision::F32 => all::<f32>(),
        Precision::Bf16 => all::<bf16>(),
    };
    for (kernel, measure) in kernels {
        measure(&mut stopwatch, &sizes).map_err(|error| BenchError::Reference { kernel, reason: error.to_string() })?;
    }
    let mut figures = stopwatch.figures;
    figures.extend([
        BenchFigure::new("matrix products reach", "GFLOP/s", Better::Neither, gemm_gflops),
        BenchFigure::new("copies reach", "GB/s", Better::Neither, copy_gbs),
    ]);
    Ok(subject.document(Measured::Kernels, figures))
}

/// Sizes of a micro-step.
struct Sizes<'a> {
    plan: &'a RunPlan,
    model: ModelShape,
    rows: usize,
    /// Tokens.
    tokens: usize,
    /// Channels of the stream, of all keys, of the feed-forward part.
    width: usize,
    kv: usize,
    hidden: usize,
    /// Channels of a head.
    size: usize,
    compute_dtype: ComputeDtype,
}

impl<'a> Sizes<'a> {
    fn of(plan: &'a RunPlan) -> Self {
        let model = plan.model.clone();
        let rows = plan.device_batch_size as usize;
        Self {
            plan,
            rows,
            tokens: rows * model.sequence_len,
            width: model.n_embd,
            kv: kv_dim(&model),
            hidden: MLP_EXPANSION * model.n_embd,
            size: head_dim(&model),
            compute_dtype: compute_dtype(plan.dtype),
            model,
        }
    }

    fn query_heads(&self) -> Heads {
        Heads { length: self.model.sequence_len, count: self.model.n_head, size: self.size }
    }

    fn key_heads(&self) -> Heads {
        Heads { length: self.model.sequence_len, count: self.model.n_kv_head, size: self.size }
    }

    /// Some token ids.
    fn ids(&self) -> Vec<u32> {
        (0..self.tokens as u32).map(|token| token.wrapping_mul(2_654_435_761) % self.model.vocab_size as u32).collect()
    }
}

/// The least that a call has to do.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Floating-point operations of its products.
    Flops(f64),
    /// Bytes that it reads or writes.
    Bytes(usize),
}

/// Times kernels, and keeps their figures.
struct Stopwatch<'a> {
    options: KernelOptions,
    gemm_gflops: f64,
    copy_gbs: f64,
    figures: Vec<BenchFigure>,
    observe: &'a mut dyn FnMut(&BenchFigure),
}

impl Stopwatch<'_> {
    /// Times one call of a kernel, the shortest of several, and of its reference implementation.
    fn case(
        &mut self,
        name: &str,
        shape: &str,
        work: Work,
        ours: impl FnMut(),
        mut reference: impl FnMut() -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        let seconds = best_seconds(self.options.budget, ours);
        let mut figure = BenchFigure::new(format!("{name} ({shape})"), "s", Better::Lower, seconds);
        if self.options.references {
            // Fails at once if at all: the arithmetic is the same every time.
            reference()?;
            figure.reference = Some(best_seconds(self.options.budget, || drop(reference())));
        }
        let (amount, unit, limit) = match work {
            Work::Flops(flops) => (flops, "GFLOP/s", self.gemm_gflops),
            Work::Bytes(bytes) => (bytes as f64, "GB/s", self.copy_gbs),
        };
        figure.rates = vec![BenchRate::new(amount / seconds / 1e9, unit, limit)];
        (self.observe)(&figure);
        self.figures.push(figure);
        Ok(())
    }

    /// Times the forward and the backward pass of a kernel on the same buffers, each with the bytes that it must read or write; the backward pass of the reference implementation starts from its result times `slopes`.
    fn passes<B>(
        &mut self,
        (name, shape): (&str, &str),
        buffers: &mut B,
        (read, mut forward): (usize, impl FnMut(&mut B)),
        (read_back, mut backward): (usize, impl FnMut(&mut B)),
        reference: impl Fn() -> candle_core::Result<Tensor>,
        slopes: &[f32],
    ) -> candle_core::Result<()> {
        let ours = || forward(buffers);
        self.case(&format!("{name} forward"), shape, Work::Bytes(read), ours, || reference().map(drop))?;
        let sum = slope_sum(&reference()?, slopes)?;
        let ours = || backward(buffers);
        self.case(&format!("{name} backward"), shape, Work::Bytes(read_back), ours, || sum.backward().map(drop))
    }
}

/// The elements as activations are kept.
fn kept<S: Stored<Element = f32>>(values: &[f32]) -> Vec<S> {
    values.iter().map(|value| S::store(*value)).collect()
}

/// The elements as a tensor.
fn tensor(values: &[f32], dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, dims, &Device::Cpu)
}

/// The elements as a variable, which gradients are asked for.
fn variable(values: &[f32], dims: &[usize]) -> candle_core::Result<Tensor> {
    Ok(candle_core::Var::from_tensor(&tensor(values, dims)?)?.into_inner())
}

/// The sum of a result's elements, each times one of `slopes`: the scalar from which the reference
/// implementations go backward.
fn slope_sum(result: &Tensor, slopes: &[f32]) -> candle_core::Result<Tensor> {
    (result * tensor(slopes, result.dims())?)?.sum_all()
}
