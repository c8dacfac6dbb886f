//! Every kernel at a plan's sizes, beside its reference implementation in elementary operations, against the limits of the machine.
//!
//! What is bound by arithmetic is told in GFLOP/s of the products that it needs, what is bound by memory in GB/s of the
//! elements that it must read and write once. Buffers are larger than the caches only where a plan's are.

mod layers;
mod products;
mod rows;

use std::time::Duration;

use candle_core::{Device, Tensor};

use super::BenchError;
use super::limits::{self, best_seconds};
use crate::hardware;
use crate::run::environment;
use nanochat_artifacts::{BenchKernel, BenchKernels};
use nanochat_engine::model::compute_dtype;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::rotary::Heads;
use nanochat_plan::shape::{MLP_EXPANSION, head_dim, kv_dim};
use nanochat_plan::{DeviceKind, ModelShape, RunPlan};

/// How kernels are measured.
#[derive(Debug, Clone, Copy)]
pub struct KernelOptions {
    /// Time the reference implementations too.
    pub references: bool,
    /// Time spent on each figure.
    pub budget: Duration,
    /// The machine is what the profile says.
    pub hardware_matches: bool,
}

/// Measures every kernel at the sizes of a plan's micro-step.
///
/// # Errors
/// A plan for another device, a reference implementation that candle can't compute.
pub fn kernels(
    plan: &RunPlan,
    options: KernelOptions,
    observe: &mut dyn FnMut(&BenchKernel),
) -> Result<BenchKernels, BenchError> {
    if plan.device != DeviceKind::Cpu {
        return Err(BenchError::KernelsOfProcessor { profile: plan.hardware.clone() });
    }
    let (gemm_gflops, copy_gbs) = (limits::gemm_gflops(plan.dtype, &Device::Cpu)?, hardware::copy_gbs());
    let sizes = Sizes::of(plan);
    let mut bench = Bench { options, gemm_gflops, copy_gbs, done: Vec::new(), observe };
    products::measure(&mut bench, &sizes)?;
    layers::measure(&mut bench, &sizes)?;
    rows::measure(&mut bench, &sizes)?;
    products::optimizer(&mut bench, plan)?;
    let kernels = bench.done;
    Ok(BenchKernels {
        schema: "nanochat.bench_kernels/v1".to_string(),
        experiment: plan.experiment.clone(),
        plan_hash: plan.plan_hash.clone(),
        model: plan.model.clone(),
        device_batch_size: plan.device_batch_size,
        dtype: plan.dtype,
        gemm_gflops,
        copy_gbs,
        kernels,
        environment: environment(plan, options.hardware_matches),
    })
}

/// Sizes of a micro-step.
struct Sizes {
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

impl Sizes {
    fn of(plan: &RunPlan) -> Self {
        let model = plan.model.clone();
        let rows = plan.device_batch_size as usize;
        Self {
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

/// What a call has to do at least.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Floating-point operations of its products.
    Flops(f64),
    /// Elements of four bytes that it reads or writes.
    Elements(usize),
}

/// What is measured, and what was.
struct Bench<'a> {
    options: KernelOptions,
    gemm_gflops: f64,
    copy_gbs: f64,
    done: Vec<BenchKernel>,
    observe: &'a mut dyn FnMut(&BenchKernel),
}

impl Bench<'_> {
    /// Times one call of a kernel, and of its reference implementation.
    fn case(
        &mut self,
        name: &str,
        shape: String,
        work: Work,
        ours: impl FnMut(),
        mut reference: impl FnMut() -> candle_core::Result<()>,
    ) -> Result<(), BenchError> {
        let seconds = best_seconds(self.options.budget, ours);
        let twin_seconds = if self.options.references {
            // Fails at once if at all: the arithmetic is the same every time.
            reference().map_err(|error| BenchError::Twin { kernel: name.to_string(), reason: error.to_string() })?;
            Some(best_seconds(self.options.budget, || drop(reference())))
        } else {
            None
        };
        let (amount, unit, limit) = match work {
            Work::Flops(flops) => (flops, "GFLOP/s", self.gemm_gflops),
            Work::Elements(elements) => ((elements * size_of::<f32>()) as f64, "GB/s", self.copy_gbs),
        };
        let rate = amount / seconds / 1e9;
        let one = BenchKernel {
            name: name.to_string(),
            shape,
            seconds,
            twin_seconds,
            rate,
            unit: unit.to_string(),
            limit,
            share: rate / limit,
        };
        (self.observe)(&one);
        self.done.push(one);
        Ok(())
    }
}

/// Elements in −1 … 1 without a pattern that matters.
fn elements(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + seed) * 7919) % 1013) as f32 / 506.0 - 1.0).collect()
}

/// The elements as a tensor.
fn tensor(values: &[f32], dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, dims, &Device::Cpu)
}

/// The elements as a variable, which gradients are asked for.
fn variable(values: &[f32], dims: &[usize]) -> candle_core::Result<Tensor> {
    Ok(candle_core::Var::from_tensor(&tensor(values, dims)?)?.into_inner())
}

/// The sum of a result's elements, each times one of `slopes`: what the reference implementations go backward from.
fn slope_sum(result: &Tensor, slopes: &[f32]) -> candle_core::Result<Tensor> {
    (result * tensor(slopes, result.dims())?)?.sum_all()
}
