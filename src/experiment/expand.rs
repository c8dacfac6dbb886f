//! From an experiment to its runs: cells × seeds, and the repeats of each cell's first seed.

use std::collections::{BTreeMap, HashMap};

use nanochat_plan::{
    Derived, ModelShape, ParameterCounts, PlanError, RUN_PLAN_SCHEMA, RunPlan, ScalingPlan, derive, estimate, plan_hash,
};

use super::{Cell, Experiment, Settings, run_id};

/// What a cell's settings come to, seed aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Shape, batch, scaling, steps.
    pub derived: Derived,
    /// Micro-steps per optimizer step.
    pub grad_accum_steps: u64,
}

/// Derives everything that a cell's settings imply.
///
/// # Errors
/// An impossible shape, an empty budget, a batch that micro-batches don't add up to.
pub fn resolve(settings: &Settings) -> Result<Resolved, PlanError> {
    let derived = derive(&settings.dials)?;
    let profile = &settings.profile;
    let row = (settings.dials.sequence_len as u64).saturating_mul(profile.device_count);
    let micro = row.saturating_mul(profile.device_batch_size);
    if !derived.total_batch_size.is_multiple_of(micro) {
        return Err(PlanError::Accumulation {
            total_batch_size: derived.total_batch_size,
            device_batch_size: profile.device_batch_size,
            sequence_len: settings.dials.sequence_len as u64,
            device_count: profile.device_count,
        });
    }
    let grad_accum_steps = derived.total_batch_size / micro;
    affordable(&derived, settings)?;
    Ok(Resolved { derived, grad_accum_steps })
}

/// Refuses what can't fit in the profile's memory, or would go past the cap on wall clock.
fn affordable(derived: &Derived, settings: &Settings) -> Result<(), PlanError> {
    let cost = estimate(derived, &settings.profile);
    if let Some(available) = settings.profile.memory_gib.filter(|&available| cost.memory_gib > available) {
        return Err(PlanError::Memory { needed: cost.memory_gib, available });
    }
    match (cost.seconds, settings.wall_clock_seconds) {
        (Some(needed), Some(cap)) if needed > cap => Err(PlanError::WallClock { needed, cap }),
        _ => Ok(()),
    }
}

/// The runs, and cells that turned out to be the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expansion {
    /// The runs in order of the matrix, then the seeds, then the repeats.
    pub runs: Vec<RunPlan>,
    /// Cells that came to a plan that an earlier cell has: their axes, and the earlier run's id.
    pub merged: Vec<(BTreeMap<String, serde_json::Value>, String)>,
}

/// Expands an experiment into its runs.
///
/// # Errors
/// As [`resolve`]; a loaded experiment has passed it already.
pub fn expand(experiment: &Experiment) -> Result<Vec<RunPlan>, PlanError> {
    expand_cells(experiment, &experiment.cells).map(|expansion| expansion.runs)
}

/// Expands some of an experiment's cells.
///
/// # Errors
/// As [`expand`].
pub fn expand_cells<'a>(
    experiment: &Experiment,
    cells: impl IntoIterator<Item = &'a Cell>,
) -> Result<Expansion, PlanError> {
    let mut expansion = Expansion::default();
    let mut by_hash: HashMap<String, String> = HashMap::new();
    for cell in cells {
        let resolved = resolve(&cell.settings)?;
        for (number, &seed) in experiment.seeds.iter().enumerate() {
            let plan = run_plan(experiment, cell, &resolved, seed);
            if let Some(earlier) = by_hash.get(&plan.plan_hash) {
                if number == 0 {
                    expansion.merged.push((cell.axes.clone(), earlier.clone()));
                }
                continue;
            }
            by_hash.insert(plan.plan_hash.clone(), plan.run_id.clone());
            let repeats = if number == 0 { experiment.reproducibility.repeats } else { 0 };
            let repeat = |repeat: u64| {
                let run_id = run_id::run_id(cell, &plan.model, seed, repeat, &plan.plan_hash);
                RunPlan { repeat, run_id, ..plan.clone() }
            };
            let copies: Vec<RunPlan> = (1..=repeats).map(repeat).collect();
            expansion.runs.push(plan);
            expansion.runs.extend(copies);
        }
    }
    Ok(expansion)
}

fn run_plan(experiment: &Experiment, cell: &Cell, resolved: &Resolved, seed: u64) -> RunPlan {
    let Settings { dials, profile, .. } = &cell.settings;
    let derived = &resolved.derived;
    let model: ModelShape = derived.model.clone();
    let parameters: ParameterCounts = derived.parameters.clone();
    let mut plan = RunPlan {
        schema: RUN_PLAN_SCHEMA.to_owned(),
        experiment: experiment.name.clone(),
        run_id: String::new(),
        plan_hash: String::new(),
        seed,
        repeat: 0,
        axes: cell.axes.clone(),
        data: cell.settings.data.clone(),
        tokenizer: cell.settings.tokenizer.clone(),
        model,
        budget: dials.budget,
        scaling: ScalingPlan {
            aspect_ratio: dials.aspect_ratio as u64,
            head_dim: dials.head_dim as u64,
            target_param_data_ratio: dials.target_param_data_ratio(),
            reference_tokens: derived.reference_tokens,
        },
        parameters,
        flops_per_token: derived.flops_per_token,
        device_batch_size: profile.device_batch_size,
        total_batch_size: derived.total_batch_size,
        grad_accum_steps: resolved.grad_accum_steps,
        num_iterations: derived.num_iterations,
        total_tokens: derived.total_tokens,
        total_flops: derived.total_flops,
        target_tokens: derived.target_tokens,
        lr_scale: derived.lr_scale,
        weight_decay: derived.weight_decay,
        optimizer: cell.settings.optimizer.clone(),
        init: cell.settings.init.clone(),
        eval: cell.settings.eval.clone(),
        checkpoint: cell.settings.checkpoint.clone(),
        on_divergence: cell.settings.on_divergence,
        wall_clock_seconds: cell.settings.wall_clock_seconds,
        hardware: profile.name.clone(),
        device: profile.device,
        device_count: profile.device_count,
        dtype: profile.dtype,
        threads: profile.threads,
        estimate: estimate(derived, profile),
    };
    plan.plan_hash = plan_hash(&plan);
    plan.run_id = run_id::run_id(cell, &plan.model, seed, 0, &plan.plan_hash);
    plan
}
