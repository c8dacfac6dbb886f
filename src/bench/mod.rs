//! Measures this program on a plan: training by phase, inference, kernels against their reference implementations, the
//! tokenizer, the data path.
//!
//! Follows plans as [`crate::run`] does, but leaves nothing in an experiment's results: a benchmark is a document of its
//! own. Rates are compared with limits that are measured in the same process. Refuses more steps than the plan has, since
//! its schedules end there.

mod data;
mod error;
mod gpu;
mod infer;
mod kernels;
mod limits;
mod phases;
mod tokenizer;
mod train;

use crate::run::{Resources, environment};
use nanochat_artifacts::{Bench, BenchFigure, Document, Measured};
use nanochat_engine::device::memory;
use nanochat_plan::RunPlan;

pub use data::data;
pub use error::BenchError;
pub use gpu::{GpuOptions, gpu, gpu_is_built_in};
pub use infer::{InferOptions, infer};
pub use kernels::{KernelOptions, kernels};
pub use tokenizer::{TokenizerOptions, tokenizer};
pub use train::{Progress, TrainOptions, train};

/// What is measured.
pub struct Subject {
    /// The plan.
    pub plan: RunPlan,
    /// Where its data, tokenizer and weights come from.
    pub resources: Resources,
    /// The machine is what the profile says.
    pub hardware_matches: bool,
}

impl Subject {
    /// The document of these figures, without what only training or inference has.
    fn document(&self, measured: Measured, figures: Vec<BenchFigure>) -> Bench {
        let plan = &self.plan;
        Bench {
            schema: Bench::SCHEMA.to_string(),
            measured,
            experiment: plan.experiment.clone(),
            run_id: plan.run_id.clone(),
            plan_hash: plan.plan_hash.clone(),
            model: plan.model.clone(),
            parameters: plan.parameters.total,
            flops_per_token: plan.flops_per_token,
            dtype: plan.dtype,
            device_batch_size: plan.device_batch_size,
            grad_accum_steps: plan.grad_accum_steps,
            total_batch_size: plan.total_batch_size,
            repeats: None,
            warmup: 0,
            tokens_per_second: None,
            step_seconds: Vec::new(),
            first_step_after_seconds: None,
            startup: Default::default(),
            phases: None,
            evaluation: None,
            peak_rss_bytes: memory::peak_resident_bytes(),
            peak_device_bytes: None,
            figures,
            loss_trace_sha256: None,
            first_batch_sha256: None,
            tokenizer_sha256: None,
            first_ids: Vec::new(),
            environment: environment(plan, self.hardware_matches),
        }
    }
}
