//! The settings of one cell of an experiment, and the run that they come to with a seed.

use std::collections::BTreeMap;

use super::{
    ArmPlan, CheckpointPlan, DataPlan, DeriveInputs, Derived, EvalPlan, FittingBatch, InitPlan, OnDivergence,
    OptimizerPlan, PlanError, Profile, RUN_PLAN_SCHEMA, RunPlan, ScalingPlan, TokenizerPlan, derive, estimate,
    plan_hash,
};

/// Everything that an experiment decides of a run, seed aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The arm, where the spec names arms.
    pub arm: Option<ArmPlan>,
    /// Where documents come from.
    pub data: DataPlan,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerPlan,
    /// The dials of shape, batch and budget.
    pub dials: DeriveInputs,
    /// Optimizer settings before scaling.
    pub optimizer: OptimizerPlan,
    /// Starting weights.
    pub init: InitPlan,
    /// Evaluation.
    pub eval: EvalPlan,
    /// Checkpoints.
    pub checkpoint: CheckpointPlan,
    /// What follows a divergence.
    pub on_divergence: OnDivergence,
    /// Cap on wall clock in seconds.
    pub wall_clock_seconds: Option<f64>,
    /// A run that is estimated to take longer than the cap is refused, in the place of being stopped.
    pub refuse_longer: bool,
    /// The hardware profile.
    pub profile: Profile,
}

impl Settings {
    /// The baseline's settings, evaluated and stored at the end alone.
    pub fn baseline(dials: DeriveInputs, data: DataPlan, tokenizer: TokenizerPlan, profile: Profile) -> Self {
        Self {
            arm: None,
            data,
            tokenizer,
            optimizer: OptimizerPlan { weight_decay: dials.weight_decay, ..OptimizerPlan::BASELINE },
            dials,
            init: InitPlan::Random,
            eval: EvalPlan { every: 0, tokens: 80 * 524_288, core: None },
            checkpoint: CheckpointPlan { every: 0, keep: 1 },
            on_divergence: OnDivergence::Stop,
            wall_clock_seconds: None,
            refuse_longer: false,
            profile,
        }
    }

    /// The run that these settings and a seed make. Its `run_id` is empty: only an experiment knows what varies in it.
    ///
    /// # Errors
    /// An impossible shape, an empty budget, a batch that isn't a whole number of micro-steps, a run that the profile's
    /// memory or the cap on wall clock don't allow.
    pub fn plan(
        &self,
        experiment: &str,
        axes: &BTreeMap<String, serde_json::Value>,
        seed: u64,
    ) -> Result<RunPlan, PlanError> {
        let Self { dials, profile, .. } = self;
        let derived = derive(dials)?;
        let grad_accum_steps = self.micro_steps(derived.total_batch_size)?;
        self.afford(&derived)?;
        let mut plan = RunPlan {
            schema: RUN_PLAN_SCHEMA.to_owned(),
            experiment: experiment.to_owned(),
            run_id: String::new(),
            plan_hash: String::new(),
            seed,
            repeat: 0,
            arm: self.arm.clone(),
            axes: axes.clone(),
            data: self.data.clone(),
            tokenizer: self.tokenizer.clone(),
            budget: dials.budget,
            scaling: ScalingPlan {
                aspect_ratio: dials.aspect_ratio as u64,
                head_dim: dials.head_dim as u64,
                target_param_data_ratio: dials.target_param_data_ratio(),
                reference_tokens: derived.reference_tokens,
            },
            device_batch_size: profile.device_batch_size,
            grad_accum_steps,
            optimizer: self.optimizer.clone(),
            init: self.init.clone(),
            eval: self.eval.clone(),
            checkpoint: self.checkpoint.clone(),
            on_divergence: self.on_divergence,
            wall_clock_seconds: self.wall_clock_seconds,
            hardware: profile.name.clone(),
            device: profile.device,
            device_count: profile.device_count,
            dtype: profile.dtype,
            threads: profile.threads,
            estimate: estimate(&derived, profile, &self.eval),
            flops_per_token: derived.flops_per_token,
            total_batch_size: derived.total_batch_size,
            num_iterations: derived.num_iterations,
            total_tokens: derived.total_tokens,
            total_flops: derived.total_flops,
            target_tokens: derived.target_tokens,
            lr_scale: derived.lr_scale,
            weight_decay: derived.weight_decay,
            model: derived.model,
            parameters: derived.parameters,
        };
        plan.plan_hash = plan_hash(&plan);
        Ok(plan)
    }

    /// Micro-steps that a step of so many tokens takes.
    fn micro_steps(&self, total_batch_size: u64) -> Result<u64, PlanError> {
        let sequence_len = self.dials.sequence_len as u64;
        let Profile { device_count, device_batch_size, .. } = self.profile;
        let micro = sequence_len.saturating_mul(device_count).saturating_mul(device_batch_size);
        if micro == 0 || !total_batch_size.is_multiple_of(micro) {
            return Err(PlanError::Accumulation { total_batch_size, device_batch_size, sequence_len, device_count });
        }
        Ok(total_batch_size / micro)
    }

    /// Refuses what doesn't fit in the profile's memory, and evaluations smaller than a batch. A cap on wall clock refuses nothing
    /// unless the spec says so: it stops a run, which then can be continued.
    fn afford(&self, derived: &Derived) -> Result<(), PlanError> {
        let cost = estimate(derived, &self.profile, &self.eval);
        if let Some(available) = self.profile.memory_gib.filter(|&available| cost.memory_gib > available) {
            let batch = self.largest_batch(derived, available);
            let depth = if batch.is_none() { self.deepest(available) } else { None };
            return Err(PlanError::Memory { needed: cost.memory_gib, available, batch, depth });
        }
        let batch = self.profile.device_batch_size.saturating_mul(self.dials.sequence_len as u64);
        if self.eval.tokens < batch {
            return Err(PlanError::Evaluation { tokens: self.eval.tokens, batch });
        }
        match (self.wall_clock_seconds.filter(|_| self.refuse_longer), cost.seconds) {
            (Some(limit), Some(seconds)) if seconds > limit => Err(PlanError::WallClock { seconds, limit }),
            _ => Ok(()),
        }
    }

    /// The largest smaller batch a device that fits into `available` GiB, with whole micro-steps.
    fn largest_batch(&self, derived: &Derived, available: f64) -> Option<FittingBatch> {
        let total_batch_size = derived.total_batch_size;
        let row = (self.dials.sequence_len as u64).saturating_mul(self.profile.device_count);
        let divides = |rows: &u64| total_batch_size.is_multiple_of(row.saturating_mul(*rows));
        (1..self.profile.device_batch_size).rev().filter(divides).find_map(|device_batch_size| {
            let memory_gib = self.memory_with(derived, device_batch_size);
            let grad_accum_steps = total_batch_size / (row * device_batch_size);
            let batch = FittingBatch { device_batch_size, grad_accum_steps, total_batch_size, memory_gib };
            (memory_gib <= available).then_some(batch)
        })
    }

    /// The most layers with which the model fits into `available` GiB, one sequence at a time.
    fn deepest(&self, available: f64) -> Option<usize> {
        (1..self.dials.depth).rev().find(|&depth| {
            let shallower = derive(&DeriveInputs { depth, ..self.dials.clone() });
            shallower.is_ok_and(|derived| self.memory_with(&derived, 1) <= available)
        })
    }

    /// Memory in GiB with another batch a device.
    fn memory_with(&self, derived: &Derived, device_batch_size: u64) -> f64 {
        let profile = Profile { device_batch_size, ..self.profile.clone() };
        estimate(derived, &profile, &self.eval).memory_gib
    }
}
