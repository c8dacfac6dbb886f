//! From an experiment to its runs: cells × seeds, and the repeats of each cell's first seed.

use std::collections::{BTreeMap, HashMap};

use nanochat_plan::{ARM_AXIS, PlanError, RunPlan};

use super::{Cell, Experiment, run_id};

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
/// As [`nanochat_plan::Settings::plan`]; a loaded experiment has passed it already.
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
        for (number, &seed) in experiment.seeds.iter().enumerate() {
            let mut plan = cell.settings.plan(&experiment.name, &cell.axes, seed)?;
            if let Some(earlier) = by_hash.get(&plan.plan_hash) {
                if number == 0 {
                    expansion.merged.push((cell.axes.clone(), earlier.clone()));
                }
                continue;
            }
            plan.run_id = run_id::run_id(cell, &plan, 0);
            by_hash.insert(plan.plan_hash.clone(), plan.run_id.clone());
            let repeats = if number == 0 { experiment.reproducibility.repeats } else { 0 };
            let repeat = |repeat: u64| RunPlan { repeat, run_id: run_id::run_id(cell, &plan, repeat), ..plan.clone() };
            let copies: Vec<RunPlan> = (1..=repeats).map(repeat).collect();
            expansion.runs.push(plan);
            expansion.runs.extend(copies);
        }
    }
    if !experiment.arms.is_empty() {
        expansion.runs = in_blocks(expansion.runs);
    }
    Ok(expansion)
}

/// What the runs of a block have in common: everything but the arm, and what varies in one arm alone.
fn block_of(plan: &RunPlan) -> (BTreeMap<&String, String>, u64, u64) {
    let own = |key: &str| plan.arm.as_ref().is_some_and(|arm| arm.own_axis(key).is_some());
    let others = plan.axes.iter().filter(|(key, _)| *key != ARM_AXIS && !own(key));
    (others.map(|(key, value)| (key, value.to_string())).collect(), plan.seed, plan.repeat)
}

/// Whether two runs belong to the same block: one run of each arm, back to back.
pub fn same_block(a: &RunPlan, b: &RunPlan) -> bool {
    block_of(a) == block_of(b)
}

/// A text that is the same for the runs of a block, and for no other run of an experiment.
pub fn block_key(plan: &RunPlan) -> String {
    let (_, seed, repeat) = block_of(plan);
    format!("{}seed={seed}\nrepeat={repeat}", cell_key(plan))
}

/// A text that is the same for all blocks of a cell, and for no other run of an experiment.
pub fn cell_key(plan: &RunPlan) -> String {
    let (axes, ..) = block_of(plan);
    axes.into_iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// Runs of arms, block by block. The order of the arms is turned round from block to block, so that what drifts over a
/// session weighs on all of them alike.
fn in_blocks(runs: Vec<RunPlan>) -> Vec<RunPlan> {
    let mut blocks: Vec<Vec<RunPlan>> = Vec::new();
    for run in runs {
        match blocks.iter_mut().find(|block| block.first().is_some_and(|first| same_block(first, &run))) {
            Some(block) => block.push(run),
            None => blocks.push(vec![run]),
        }
    }
    for block in blocks.iter_mut().skip(1).step_by(2) {
        block.reverse();
    }
    blocks.into_iter().flatten().collect()
}
