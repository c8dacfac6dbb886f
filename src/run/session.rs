//! All runs of an experiment, then its scorecard and reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nanochat_artifacts::{
    ArtifactError, Environment, ExperimentFolder, RunBlock, RunFolder, RunStatus, Scorecard, Summary, files,
    read_document, write_document,
};
use nanochat_engine::checkpoint::{Checkpoints, RunLock};
use nanochat_engine::device::DeviceError;
use nanochat_experiment::same_block;
use nanochat_lab::report;
use nanochat_lab::scorecard;
use nanochat_plan::{ArmPlan, DeviceKind, RunPlan};

use super::execute::{self, Step};
use super::inputs::{self, Compared};
use super::resources::{Resources, open_device};
use super::{Opened, RunError, RunState, Stop, failure, state_of, timing, with_help};

/// Options of an experiment's runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Start every run over, whatever is on disk.
    pub force: bool,
    /// Stop at the first run that fails.
    pub fail_fast: bool,
    /// The machine is what the profile says; else speed can't be judged.
    pub hardware_matches: bool,
}

/// Progress of an experiment.
pub enum Event<'a> {
    /// A run is being prepared: data, tokenizer, weights.
    Preparing {
        /// Its plan.
        plan: &'a RunPlan,
        /// Its place, from 1.
        number: usize,
        /// How many runs there are.
        total: usize,
    },
    /// What happens inside a run.
    Run {
        /// Its plan.
        plan: &'a RunPlan,
        /// What happens.
        step: Step<'a>,
    },
    /// A run was done before.
    AlreadyDone {
        /// Its plan.
        plan: &'a RunPlan,
        /// Its summary.
        summary: &'a Summary,
        /// Where it was made.
        environment: Option<&'a Environment>,
        /// Why its inputs couldn't be compared with those that it was made with.
        unchecked: Option<&'a str>,
    },
    /// A run was done before, with other inputs than there are now: it is made again.
    OtherInputs {
        /// Its plan.
        plan: &'a RunPlan,
        /// Which inputs differ.
        what: &'a [&'static str],
    },
    /// A block of the timing session begins.
    Timing {
        /// Its number, from 1.
        block: u64,
        /// Which attempt at it this is, from 1.
        attempt: u64,
    },
    /// A run ended.
    Ended {
        /// Its plan.
        plan: &'a RunPlan,
        /// Its summary.
        summary: &'a Summary,
    },
    /// A run failed; the others continue.
    Failed {
        /// Its plan.
        plan: &'a RunPlan,
        /// Why.
        error: &'a RunError,
    },
}

/// Result of an experiment's runs.
pub struct Outcome {
    /// Runs that finished now.
    pub finished: usize,
    /// Runs that were done before.
    pub already_done: usize,
    /// Runs that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// A signal or the wall clock stopped the work; the next call continues.
    pub interrupted: bool,
    /// The verdicts.
    pub scorecard: Scorecard,
    /// The reports.
    pub reports: report::Written,
}

/// The other arm of a comparison, run with each of this engine's runs in alternating blocks.
pub trait OtherArm {
    /// Whether it goes first in this block; blocks are counted from 1.
    fn goes_first(&self, block: u64) -> bool;

    /// Runs it in the block of `plan`. Its failures don't stop this engine's run.
    fn run(&mut self, plan: &RunPlan, block: u64, resources: &mut Resources, stop: &Stop);
}

/// Carries out the runs of arms that belong to other programs.
pub trait ForeignArms {
    /// Runs one plan to its documents. What fails inside the other program is a summary with that status.
    ///
    /// # Errors
    /// The run couldn't be started, its documents can't be written, or a stop was requested.
    fn run(
        &mut self,
        plan: &RunPlan,
        folder: &RunFolder,
        resources: &mut Resources,
        stop: &Stop,
    ) -> Result<Summary, RunError>;
}

/// Who else takes part in an experiment's runs.
#[derive(Default)]
pub struct Others<'a> {
    /// The other arm of a comparison with a recording.
    pub other_arm: Option<&'a mut dyn OtherArm>,
    /// The arms of a spec that checkouts carry out.
    pub arms: Option<&'a mut dyn ForeignArms>,
}

/// Runs the plans of an opened spec, then judges and reports the experiment from everything on disk.
pub fn run_experiment(
    opened: &Opened,
    options: Options,
    stop: &Stop,
    others: Others<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, RunError> {
    let (plans, root) = (opened.plans(), &opened.root);
    let record = opened.experiment.record(plans);
    let folder = root.experiment(&record.name)?;
    // Where the report will lie is looked at before the work, not after it.
    root.report_markdown(&record.name)?;
    refuse_absent_device(plans, &folder, options.force)?;
    write_document(&folder.record(), &record)?;
    let mut work = Work {
        folder: &folder,
        options,
        stop,
        tally: Tally::default(),
        block: 0,
        arms_block: None,
        session: now(),
        others,
        resources: Resources::new(root).with_baseline(&record.baseline_commit),
    };
    for (index, plan) in plans.iter().enumerate() {
        if stop.requested() {
            work.tally.interrupted = true;
            break;
        }
        if !work.run_plan(plan, index + 1, plans.len(), observe)? {
            break;
        }
    }
    if work.tally.is_whole() {
        let mut tell = |block, attempt| observe(Event::Timing { block, attempt });
        timing::time_cells(opened, &folder, options.force, &mut work.resources, stop, &mut tell)?;
        work.tally.interrupted = stop.requested();
    }
    let tally = work.tally;
    let scorecard = scorecard::update(&folder, root.project())?;
    let reports = report::update(root, &record.name, None)?;
    report::refresh_leaderboard(root)?;
    Ok(Outcome {
        finished: tally.finished,
        already_done: tally.already_done,
        failed: tally.failed,
        interrupted: tally.interrupted,
        scorecard,
        reports,
    })
}

/// Refuses the whole experiment if the GPU of its runs can't be used, before anything is written: each run would fail for
/// the same reason. An experiment whose runs are all done needs no GPU.
fn refuse_absent_device(plans: &[RunPlan], folder: &ExperimentFolder, force: bool) -> Result<(), RunError> {
    for plan in plans.iter().filter(|plan| plan.device != DeviceKind::Cpu) {
        let done = !force && matches!(state_of(plan, &folder.run(&plan.run_id)?), RunState::Done { .. });
        if done {
            continue;
        }
        return match open_device(plan) {
            // Another run may be smaller.
            Err(RunError::Device(DeviceError::LittleMemory { .. })) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    finished: usize,
    already_done: usize,
    failed: Vec<(String, String)>,
    interrupted: bool,
}

impl Tally {
    /// Every run is done.
    fn is_whole(&self) -> bool {
        self.failed.is_empty() && !self.interrupted
    }
}

struct Work<'a, 'o> {
    folder: &'a ExperimentFolder,
    options: Options,
    stop: &'a Stop,
    tally: Tally,
    block: u64,
    /// The first plan of the block that is going on, and what its runs are stamped with.
    arms_block: Option<(RunPlan, RunBlock)>,
    session: String,
    others: Others<'o>,
    resources: Resources,
}

impl Work<'_, '_> {
    /// Runs one plan if it isn't done. Returns whether to continue with the next one.
    fn run_plan(
        &mut self,
        plan: &RunPlan,
        number: usize,
        total: usize,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, RunError> {
        let folder = self.folder.run(&plan.run_id)?;
        let state = state_of(plan, &folder);
        if self.options.force || matches!(state, RunState::Changed { .. }) {
            clear(&folder)?;
        } else if let RunState::Done { summary, environment } = &state {
            let compared = inputs::compare(plan, summary, &mut self.resources);
            if let Compared::Other(what) = &compared {
                observe(Event::OtherInputs { plan, what });
                clear(&folder)?;
            } else {
                let unchecked = if let Compared::Unread(reason) = &compared { Some(reason.as_str()) } else { None };
                observe(Event::AlreadyDone { plan, summary, environment: environment.as_deref(), unchecked });
                self.tally.already_done += 1;
                return Ok(true);
            }
        }
        self.block += 1;
        self.run_other_arm(plan, true);
        if self.stop.requested() {
            self.tally.interrupted = true;
            return Ok(false);
        }
        observe(Event::Preparing { plan, number, total });
        let goes_on = match self.attempt(plan, observe) {
            Ok(summary) => {
                observe(Event::Ended { plan, summary: &summary });
                match summary.status {
                    RunStatus::Finished => self.tally.finished += 1,
                    RunStatus::Failed => {
                        let reason = summary.reason.clone().unwrap_or_default();
                        self.tally.failed.push((plan.run_id.clone(), reason));
                    }
                    RunStatus::Interrupted => self.tally.interrupted = true,
                }
                summary.status != RunStatus::Failed || !self.options.fail_fast
            }
            Err(RunError::Stopped) => {
                self.tally.interrupted = true;
                false
            }
            Err(error) => {
                observe(Event::Failed { plan, error: &error });
                let mut reason = with_help(&error);
                if let Err(second) = failure::record(plan, &folder, &error, self.options.hardware_matches) {
                    reason.push_str(&format!(" (the failure could not be recorded: {second})"));
                }
                self.tally.failed.push((plan.run_id.clone(), reason));
                !self.options.fail_fast
            }
        };
        if goes_on {
            self.run_other_arm(plan, false);
        }
        Ok(goes_on && !self.stop.requested())
    }

    /// Runs the other arm, if there is one and it is its turn in the block.
    fn run_other_arm(&mut self, plan: &RunPlan, first: bool) {
        if let Some(other) = &mut self.others.other_arm
            && other.goes_first(self.block) == first
            && !self.stop.requested()
        {
            other.run(plan, self.block, &mut self.resources, self.stop);
        }
    }

    /// Runs one plan; a panic becomes an error, so that the other runs continue.
    fn attempt(&mut self, plan: &RunPlan, observe: &mut dyn FnMut(Event<'_>)) -> Result<Summary, RunError> {
        let folder = self.folder.run(&plan.run_id)?;
        let block = self.next_in_block(plan);
        let summary = self.attempt_alone(plan, &folder, observe)?;
        if let Some(block) = block {
            stamp(&folder, block)?;
        }
        Ok(summary)
    }

    /// Place of a run in the blocks of arms; none where there are no arms.
    fn next_in_block(&mut self, plan: &RunPlan) -> Option<RunBlock> {
        plan.arm.as_ref()?;
        let block = match self.arms_block.take() {
            Some((first, block)) if same_block(&first, plan) => (first, RunBlock { place: block.place + 1, ..block }),
            earlier => {
                let number = earlier.map_or(0, |(_, block)| block.number) + 1;
                (plan.clone(), RunBlock { session: self.session.clone(), number, place: 1 })
            }
        };
        let stamped = block.1.clone();
        self.arms_block = Some(block);
        Some(stamped)
    }

    fn attempt_alone(
        &mut self,
        plan: &RunPlan,
        folder: &RunFolder,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        if plan.arm.as_ref().is_some_and(ArmPlan::is_foreign) {
            let lacking = || RunError::NoArm { run_id: plan.run_id.clone() };
            let arms = self.others.arms.as_mut().ok_or_else(lacking)?;
            return arms.run(plan, folder, &mut self.resources, self.stop);
        }
        let (resources, stop, matches) = (&mut self.resources, self.stop, self.options.hardware_matches);
        let mut forward = |step: Step<'_>| observe(Event::Run { plan, step });
        let run = || execute::execute(plan, folder, resources, matches, stop, &mut forward);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(RunError::Panicked(message.unwrap_or_else(|| "unknown".to_string())))
        })
    }
}

/// Writes into the environment of a run which block it was part of.
fn stamp(folder: &RunFolder, block: RunBlock) -> Result<(), RunError> {
    let environment: Environment = read_document(&folder.environment())?;
    Ok(write_document(&folder.environment(), &Environment { block: Some(block), ..environment })?)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes the files of an earlier run from its folder, checkpoints included, unless another process is at work there; whatever
/// else lies there stays.
fn clear(folder: &RunFolder) -> Result<(), RunError> {
    if !folder.path().is_dir() {
        return Ok(());
    }
    let _lock = RunLock::acquire(folder.path())?;
    Checkpoints::open(&folder.checkpoints())?.clear()?;
    for file in folder.files() {
        files::remove(&file).map_err(|error| ArtifactError::io("remove", &file, error))?;
    }
    Ok(())
}
