//! Why an experiment can't be planned, with the key that causes it and what to change.

use super::{BudgetPlan, shape::ShapeError};

/// A batch a device that fits into memory, and keeps the tokens of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FittingBatch {
    /// Sequences per device and micro-step.
    pub device_batch_size: u64,
    /// Micro-steps per optimizer step.
    pub grad_accum_steps: u64,
    /// Tokens per optimizer step.
    pub total_batch_size: u64,
    /// Estimated peak in GiB.
    pub memory_gib: f64,
}

/// Why a run can't be planned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The shape can't be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The batch has no tokens.
    #[error("optimizer.total_batch_size is 0; it must be at least one sequence a device")]
    EmptyBatch,
    /// The budget is less than one optimizer step.
    #[error("{} is less than one optimizer step of {total_batch_size} tokens", describe(budget, *target_tokens))]
    NoSteps {
        /// The budget as stated.
        budget: BudgetPlan,
        /// Tokens at the target ratio.
        target_tokens: u64,
        /// Tokens a step.
        total_batch_size: u64,
    },
    /// The number of tokens is above 64 bits.
    #[error("{num_iterations} steps of {total_batch_size} tokens are more tokens than 64 bits can count")]
    TooLong {
        /// Optimizer steps.
        num_iterations: u64,
        /// Tokens a step.
        total_batch_size: u64,
    },
    /// The estimate is above the profile's memory.
    #[error("the run is estimated to need {needed:.1} GiB a device, and the hardware profile has {available} GiB")]
    Memory {
        /// Estimated peak in GiB.
        needed: f64,
        /// Stated memory in GiB.
        available: f64,
        /// The largest smaller batch a device that fits.
        batch: Option<FittingBatch>,
        /// The deepest model that fits, where no batch does.
        depth: Option<usize>,
    },
    /// An evaluation has not even one batch.
    #[error("an evaluation of {tokens} tokens has less than one batch of {batch} tokens")]
    Evaluation {
        /// `eval.tokens`.
        tokens: u64,
        /// Tokens of a batch.
        batch: u64,
    },
    /// The run is estimated to take longer than a cap that refuses such runs.
    #[error(
        "the run is estimated to take {seconds:.0} s, and `budget.wall_clock` refuses what takes more than {limit} s"
    )]
    WallClock {
        /// Estimated seconds.
        seconds: f64,
        /// The cap in seconds.
        limit: f64,
    },
    /// The batch is not a whole number of micro-steps.
    #[error(
        "a step of {total_batch_size} tokens is not a whole number of micro-steps of {device_batch_size} × \
         {sequence_len} tokens on {device_count} device(s)"
    )]
    Accumulation {
        /// Tokens a step.
        total_batch_size: u64,
        /// Sequences a micro-step and device.
        device_batch_size: u64,
        /// Context length.
        sequence_len: u64,
        /// Devices.
        device_count: u64,
    },
}

impl PlanError {
    /// The dotted key of the spec that causes the error.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Shape(
                ShapeError::Zero { .. }
                | ShapeError::TooLarge { .. }
                | ShapeError::HeadsDontDivide { .. }
                | ShapeError::TooNarrow { .. },
            ) => "model.n_embd",
            Self::Shape(ShapeError::OddHead { .. }) => "model.head_dim",
            Self::Shape(ShapeError::GroupsDontDivide { .. }) => "model.n_kv_head",
            Self::Shape(ShapeError::WindowPattern { .. }) => "model.window_pattern",
            Self::EmptyBatch | Self::Accumulation { .. } => "optimizer.total_batch_size",
            Self::NoSteps { .. } | Self::TooLong { .. } => "budget",
            Self::Memory { .. } => "hardware.device_batch_size",
            Self::Evaluation { .. } => "eval.tokens",
            Self::WallClock { .. } => "budget.wall_clock",
        }
    }

    /// What to change.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoSteps { .. } => Some("raise the budget, or lower optimizer.total_batch_size".to_owned()),
            Self::Memory { batch: Some(batch), .. } => Some(format!(
                "set hardware.device_batch_size to {}, the largest that fits ({:.1} GiB): the step stays at {} tokens, in {} \
                 micro-steps; or lower model.depth or model.sequence_len, or choose a larger device",
                batch.device_batch_size, batch.memory_gib, batch.total_batch_size, batch.grad_accum_steps
            )),
            Self::Memory { depth, .. } => {
                let depth = depth.map(|depth| format!(" (to {depth})")).unwrap_or_default();
                Some(format!(
                    "no smaller hardware.device_batch_size fits: lower model.depth{depth} or model.sequence_len, or choose a \
                     larger device"
                ))
            }
            Self::Evaluation { batch, .. } => {
                Some(format!("set eval.tokens to {batch} at least, or hardware.device_batch_size lower"))
            }
            Self::TooLong { .. } => Some("lower the budget".to_owned()),
            Self::WallClock { .. } => Some(
                "lower the budget or raise the limit; without `refuse` the run stops there and can be continued"
                    .to_owned(),
            ),
            Self::Accumulation { total_batch_size, device_batch_size, sequence_len, device_count } => {
                Some(divisors(*total_batch_size, *device_batch_size, *sequence_len, *device_count))
            }
            _ => None,
        }
    }
}

/// Device batch sizes and total batch sizes near the given ones that divide.
fn divisors(total: u64, device_batch: u64, sequence_len: u64, devices: u64) -> String {
    let row = sequence_len.saturating_mul(devices).max(1);
    let micro = row.saturating_mul(device_batch).max(1);
    let below = total / micro * micro;
    let above = below.saturating_add(micro);
    let set_total = if below == 0 {
        format!("set optimizer.total_batch_size to {above}")
    } else {
        format!("set optimizer.total_batch_size to {below} or {above}")
    };
    let fitting = (1..=device_batch).rev().find(|&rows| total.is_multiple_of(row.saturating_mul(rows)));
    match fitting {
        Some(rows) => format!("set hardware.device_batch_size to {rows}, or {set_total}"),
        None => format!("{set_total}, or shorten model.sequence_len"),
    }
}

fn describe(budget: &BudgetPlan, target_tokens: u64) -> String {
    match budget {
        BudgetPlan::Iterations(steps) => format!("a budget of {steps} iterations"),
        BudgetPlan::Tokens(tokens) => format!("a budget of {tokens} tokens"),
        BudgetPlan::Flops(flops) => format!("a budget of {flops:e} FLOPs"),
        BudgetPlan::ParamDataRatio(ratio) => {
            format!("a budget of {ratio} tokens per scaling parameter ({target_tokens} tokens)")
        }
    }
}
