//! The timing session of an experiment that claims speed (rules v2): some steps of every cell in alternating blocks, each from
//! the same weights on the same batches, with nothing between the steps. Quality runs never decide speed.

use std::cell::Cell;

use nanochat_artifacts::{
    CellSeconds, Document, ExperimentFolder, SpeedClaim, TimedCell, TimingBlock, TimingRecord, read_document,
    write_document,
};
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::train::{Event, Inputs, NoCheckpoints, TrainError, Trainer};
use nanochat_lab::scorecard::timing::{disturbance, disturbed};
use nanochat_plan::RunPlan;

use super::resources::{Resources, open_device};
use super::{Opened, RunError, Stop, environment};
use crate::hardware::{self, ProcessorTime};

/// Blocks of a session.
const BLOCKS: u64 = 6;
/// How many disturbed blocks are taken again, over the whole session.
const RETAKES: u64 = 6;
/// Timed steps of a cell in a block.
const STEPS: u64 = 40;
/// Steps before them.
const WARMUP: u64 = 5;

/// Whether the spec's speed is judged from a session of this kind: it claims speed against a cell of its own.
fn is_wanted(opened: &Opened) -> bool {
    let experiment = &opened.experiment;
    let record = experiment.record(opened.plans());
    let claims = matches!(record.speed.claim, Some(SpeedClaim::Faster | SpeedClaim::NoSlower));
    claims && experiment.arms.is_empty() && record.control.is_some()
}

/// Makes the session of an opened spec, unless there is an undisturbed one of the same plans. `observe` is told the number of
/// each block and which attempt at it begins.
///
/// # Errors
/// What keeps a cell from training, or documents that can't be written.
pub(super) fn time_cells(
    opened: &Opened,
    folder: &ExperimentFolder,
    force: bool,
    resources: &mut Resources,
    stop: &Stop,
    observe: &mut dyn FnMut(u64, u64),
) -> Result<(), RunError> {
    if !is_wanted(opened) {
        return Ok(());
    }
    let plans = first_of_each_cell(opened.plans());
    let cells: Vec<TimedCell> = plans.iter().map(|plan| timed(plan)).collect();
    let earlier: Option<TimingRecord> = read_document(&folder.timing()).ok();
    if !force && earlier.is_some_and(|earlier| earlier.cells == cells && is_whole(&earlier)) {
        return Ok(());
    }
    let Some(first) = plans.first() else { return Ok(()) };
    let mut record = TimingRecord {
        schema: TimingRecord::SCHEMA.to_string(),
        session: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        boot: hardware::boot(),
        environment: environment(first, opened.hardware_matches),
        warmup_steps: warmup(first),
        wanted_blocks: BLOCKS,
        cells,
        blocks: Vec::new(),
    };
    let mut before = hardware::calibration();
    let mut left = RETAKES;
    let mut next = (1, 1);
    loop {
        let (number, attempt) = next;
        observe(number, attempt);
        let Some(block) = take(&plans, number, attempt, before, resources, stop)? else { return Ok(()) };
        before = block.calibration.1;
        record.blocks.push(block);
        if number < BLOCKS && attempt == 1 {
            next = (number + 1, 1);
            continue;
        }
        // A later second may show that an earlier one was slow, so all blocks are looked at again.
        let Some((number, _)) = disturbed(&record).into_iter().next().filter(|_| left > 0) else { break };
        left -= 1;
        next = (number, 1 + record.blocks.iter().filter(|block| block.number == number).count() as u64);
    }
    Ok(write_document(&folder.timing(), &record)?)
}

fn is_whole(record: &TimingRecord) -> bool {
    let blocks = record.last_attempts();
    blocks.len() as u64 == record.wanted_blocks && blocks.iter().all(|block| disturbance(record, block).is_none())
}

fn first_of_each_cell(plans: &[RunPlan]) -> Vec<&RunPlan> {
    let mut first: Vec<&RunPlan> = Vec::new();
    for plan in plans {
        if !first.iter().any(|other| other.axes == plan.axes) {
            first.push(plan);
        }
    }
    first
}

fn timed(plan: &RunPlan) -> TimedCell {
    TimedCell {
        axes: plan.axes.clone(),
        run: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        dtype: plan.dtype,
        tokens_per_step: plan.total_batch_size,
    }
}

/// A short run has a shorter warm-up.
fn warmup(plan: &RunPlan) -> u64 {
    WARMUP.min(plan.num_iterations / 4)
}

/// One block: every cell, in the planned order or, in every second block, the other way round. None when a stop was requested.
fn take(
    plans: &[&RunPlan],
    number: u64,
    attempt: u64,
    before: f64,
    resources: &mut Resources,
    stop: &Stop,
) -> Result<Option<TimingBlock>, RunError> {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    if number.is_multiple_of(2) {
        order.reverse();
    }
    let begun = hardware::processor_time();
    let mut cells = Vec::new();
    for cell in order {
        let Some(plan) = plans.get(cell) else { continue };
        let step_seconds = time_steps(plan, resources, stop)?;
        cells.push(CellSeconds { cell, step_seconds });
        if stop.requested() {
            return Ok(None);
        }
    }
    let load = begun.zip(hardware::processor_time()).and_then(|(a, b): (ProcessorTime, _)| a.load_until(&b));
    Ok(Some(TimingBlock { number, attempt, calibration: (before, hardware::calibration()), load, cells }))
}

/// Seconds of a plan's steps after the warm-up.
fn time_steps(plan: &RunPlan, resources: &mut Resources, stop: &Stop) -> Result<Vec<f64>, RunError> {
    let device = open_device(plan)?;
    let corpus = resources.corpus(&plan.data)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let engine = engines::open(resources.model(plan, &device)?, &Setup::of(plan)).map_err(TrainError::from)?;
    let plan = without_interruptions(plan);
    let mut trainer = Trainer::new(Inputs { plan: &plan, corpus, tokenizer, engine, device, bundle: None })?;
    let (warmup, done) = (warmup(&plan), Cell::new(0));
    let mut seconds = Vec::new();
    let is_done = || done.get() >= warmup + STEPS || stop.requested();
    trainer.run(&is_done, &mut NoCheckpoints, &mut |event| {
        if let Event::Step(row) = event {
            done.set(row.step + 1);
            if row.step >= warmup {
                seconds.push(row.seconds);
            }
        }
    })?;
    Ok(seconds)
}

/// The plan with nothing between its steps.
pub fn without_interruptions(plan: &RunPlan) -> RunPlan {
    let mut plan = plan.clone();
    plan.eval.every = 0;
    plan.eval.core = None;
    plan.checkpoint.every = 0;
    plan.wall_clock_seconds = None;
    plan
}
