//! The timing session of an experiment that claims speed (rules v2): some steps of every cell in alternating blocks, each from
//! the same weights on the same batches, with nothing between the steps. Quality runs never decide speed.

use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

use nanochat_artifacts::lease::Doing;
use nanochat_artifacts::{
    ArtifactError, CellSeconds, Document, Environment, ExperimentFolder, SpeedClaim, TimedCell, TimingBlock,
    TimingRecord, create_folder, files, read_document, write_document,
};
use nanochat_engine::checkpoint::{CheckpointError, RunLock};
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::train::{Event, Inputs, NoCheckpoints, TrainError, Trainer};
use nanochat_lab::scorecard::timing::{disturbance, disturbed};
use nanochat_plan::RunPlan;

use super::error::caught;
use super::resources::{Resources, open_device};
use super::session::BETWEEN_LOOKS;
use super::{Opened, Options, RunError, Stop, environment};
use crate::hardware::{self, ProcessorTime};

/// Blocks of a session.
const BLOCKS: u64 = 6;
/// How many disturbed blocks are taken again, over the whole session.
const RETAKES: u64 = 6;
/// Timed steps of a cell in a block.
const STEPS: u64 = 40;
/// Steps before them.
const WARMUP: u64 = 5;

/// How an attempt at a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is made, or isn't wanted.
    Made,
    /// A stop was requested.
    Stopped {
        /// The session came further than it was.
        further: bool,
    },
}

/// What a session tells while it goes on.
pub(super) enum Told<'a> {
    /// This attempt at the block of this number begins.
    Block(u64, u64),
    /// Another process makes the session.
    Waiting(&'a RunError),
}

/// Whether the spec claims speed.
fn claims_speed(opened: &Opened) -> bool {
    let record = opened.experiment.record(opened.plans());
    matches!(record.speed.claim, Some(SpeedClaim::Faster | SpeedClaim::NoSlower))
}

/// Whether the spec's speed is judged from a session of this kind: it claims speed against a cell of its own.
fn is_wanted(opened: &Opened) -> bool {
    let experiment = &opened.experiment;
    experiment.arms.is_empty() && claims_speed(opened) && experiment.record(opened.plans()).control.is_some()
}

/// Whether speed is judged from the spec's arms in alternating blocks: then all blocks of a cell belong to one process.
pub fn arms_are_timed(opened: &Opened) -> bool {
    !opened.experiment.arms.is_empty() && claims_speed(opened)
}

/// Whether the spec's speed is judged from a session of its cells, and no undisturbed one of these plans is recorded.
pub fn lacks_session(opened: &Opened, folder: &ExperimentFolder) -> bool {
    is_wanted(opened) && recorded(opened, folder).is_none_or(|record| !is_whole(&record))
}

/// Whether a session is wanted, and none of these plans is recorded, disturbed or not.
pub(super) fn is_absent(opened: &Opened, folder: &ExperimentFolder) -> bool {
    is_wanted(opened) && recorded(opened, folder).is_none()
}

/// The recorded session of an opened spec's plans.
fn recorded(opened: &Opened, folder: &ExperimentFolder) -> Option<TimingRecord> {
    read_document(&folder.timing()).ok().filter(|record: &TimingRecord| record.cells == cells_of(opened))
}

/// Makes the session of an opened spec, unless there is an undisturbed one of the same plans. One that was stopped goes on
/// where it was, on the same machine since the same start of it; elsewhere it starts over.
///
/// # Errors
/// What keeps a cell from training, documents that can't be written, or another process that makes the session, where this
/// one doesn't wait.
pub(super) fn time_cells(
    opened: &Opened,
    folder: &ExperimentFolder,
    options: &Options,
    resources: &mut Resources,
    stop: &Stop,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Ended, RunError> {
    let is_made = || !is_wanted(opened) || (!options.force && !lacks_session(opened, folder));
    if is_made() {
        return Ok(Ended::Made);
    }
    let work = folder.timing_work()?;
    create_folder(&work)?;
    let Some(lock) = own(&work, options, stop, tell)? else { return Ok(Ended::Stopped { further: true }) };
    // Whoever had it may have made it.
    if is_made() {
        return Ok(Ended::Made);
    }
    let stop = &stop.or(lock.lost());
    // What was taken is kept block by block, so a stop in between loses nothing of it.
    let _at_work = stop.at_work();
    let mut session = Session::begin(opened, &lock, folder, options)?;
    let ended = caught(|| session.make(resources, stop, tell))?;
    lock.require()?;
    if ended == Ended::Made {
        write_document(&folder.timing(), &session.record)?;
        remove(&folder.timing_blocks()?)?;
    }
    Ok(ended)
}

/// Takes the session for this process, when the part says so after whoever has it; none when a stop was requested before.
fn own(
    work: &Path,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Option<RunLock>, RunError> {
    let mut told = false;
    while !stop.requested() {
        match RunLock::acquire_for(work, options.part.job()) {
            Ok(lock) => return Ok(Some(lock)),
            Err(error @ CheckpointError::Locked { .. }) if options.part.waits() => {
                if !told {
                    tell(Told::Waiting(&error.into()));
                }
                told = true;
            }
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(None)
}

fn remove(path: &Path) -> Result<(), ArtifactError> {
    files::remove(path).map_err(|error| ArtifactError::io("remove", path, error))
}

/// A session while it is made.
struct Session<'a> {
    plans: Vec<&'a RunPlan>,
    record: TimingRecord,
    lock: &'a RunLock,
    /// Where the blocks are kept until the session is whole.
    kept: std::path::PathBuf,
    /// Blocks that an earlier process kept, which the next has to exceed.
    before: usize,
}

impl<'a> Session<'a> {
    /// Goes on with what an earlier process kept, or starts over.
    fn begin(
        opened: &'a Opened,
        lock: &'a RunLock,
        folder: &ExperimentFolder,
        options: &Options,
    ) -> Result<Self, RunError> {
        let plans = first_of_each_cell(opened.plans());
        let Some(first) = plans.first() else { return Err(RunError::NothingToTime) };
        let new = TimingRecord {
            schema: TimingRecord::SCHEMA.to_string(),
            session: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            boot: hardware::boot(),
            environment: environment(first, opened.hardware_matches),
            warmup_steps: warmup(first),
            wanted_blocks: BLOCKS,
            cells: cells_of(opened),
            blocks: Vec::new(),
        };
        let kept = folder.timing_blocks()?;
        let earlier: Option<TimingRecord> = read_document(&kept).ok().filter(|_| !options.force);
        let before = earlier.as_ref().map_or(0, |earlier| earlier.blocks.len());
        let record = earlier.filter(|earlier| goes_on(earlier, &new)).unwrap_or(new);
        Ok(Self { plans, record, lock, kept, before })
    }

    /// Takes blocks until the session is whole or a stop is requested.
    fn make(
        &mut self,
        resources: &mut Resources,
        stop: &Stop,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Ended, RunError> {
        let mut before = hardware::calibration();
        while let Some((number, attempt)) = next(&self.record) {
            self.note(None);
            tell(Told::Block(number, attempt));
            let begun = Instant::now();
            let Some(block) = take(&self.plans, number, attempt, before, resources, stop)? else {
                return Ok(Ended::Stopped { further: self.record.blocks.len() > self.before });
            };
            before = block.calibration.1;
            self.record.blocks.push(block);
            self.lock.require()?;
            write_document(&self.kept, &self.record)?;
            self.note(Some(begun.elapsed().as_secs_f64()));
        }
        Ok(Ended::Made)
    }

    /// Writes into the lease how far the session is.
    fn note(&self, block_seconds: Option<f64>) {
        let (done, wanted) = (self.record.last_attempts().len() as u64, self.record.wanted_blocks);
        self.lock.note(|progress| {
            (progress.doing, progress.step, progress.steps) = (Doing::Timing, done, wanted);
            let left = block_seconds.map(|seconds| seconds * wanted.saturating_sub(done).max(1) as f64);
            progress.seconds_left = left.or(progress.seconds_left);
        });
        self.lock.publish();
    }
}

/// Whether a session that was stopped goes on here: the same cells, program and start of the machine.
fn goes_on(earlier: &TimingRecord, new: &TimingRecord) -> bool {
    let apart_from_time = |environment: &Environment| Environment { finished_at: String::new(), ..environment.clone() };
    earlier.boot.is_some()
        && earlier.boot == new.boot
        && earlier.cells == new.cells
        && (earlier.warmup_steps, earlier.wanted_blocks) == (new.warmup_steps, new.wanted_blocks)
        && apart_from_time(&earlier.environment) == apart_from_time(&new.environment)
}

/// The next block to take, and which attempt at it that is; none when the session is whole. A later second may show that an
/// earlier one was slow, so all blocks are looked at again.
fn next(record: &TimingRecord) -> Option<(u64, u64)> {
    let distinct = record.last_attempts().len() as u64;
    if distinct < record.wanted_blocks {
        return Some((distinct + 1, 1));
    }
    let retaken = record.blocks.len() as u64 - distinct;
    let (number, _) = disturbed(record).into_iter().next().filter(|_| retaken < RETAKES)?;
    Some((number, 1 + record.blocks.iter().filter(|block| block.number == number).count() as u64))
}

fn is_whole(record: &TimingRecord) -> bool {
    let blocks = record.last_attempts();
    blocks.len() as u64 == record.wanted_blocks && blocks.iter().all(|block| disturbance(record, block).is_none())
}

fn cells_of(opened: &Opened) -> Vec<TimedCell> {
    first_of_each_cell(opened.plans()).into_iter().map(timed).collect()
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
