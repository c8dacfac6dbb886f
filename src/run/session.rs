//! All runs of an experiment, then its scorecard and reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nanochat_artifacts::{
    ArtifactError, Environment, ExperimentFolder, ExperimentRecord, ResultsRoot, RunFolder, RunStatus, Scorecard,
    Summary, write_document,
};
use nanochat_engine::device::DeviceError;
use nanochat_lab::report;
use nanochat_lab::scorecard;
use nanochat_plan::{DeviceKind, RunPlan};

use super::execute::{self, Step};
use super::resources::{Resources, open_device};
use super::{RunError, RunState, Stop, failure, state_of};

/// How an experiment is carried out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Start every run over, whatever is on disk.
    pub force: bool,
    /// Stop at the first run that fails.
    pub fail_fast: bool,
    /// The machine is what the profile says; else speed can't be judged.
    pub hardware_matches: bool,
}

/// What happens, as it happens.
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
    },
    /// A run ended.
    Ended {
        /// Its plan.
        plan: &'a RunPlan,
        /// Its summary.
        summary: &'a Summary,
    },
    /// A run failed; the others go on.
    Failed {
        /// Its plan.
        plan: &'a RunPlan,
        /// Why.
        error: &'a RunError,
    },
}

/// What came out.
pub struct Outcome {
    /// Runs that were made now.
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

/// The other arm of a comparison, run beside each of ours in alternating blocks.
pub trait OtherArm {
    /// Whether it goes first in this block; blocks are counted from 1.
    fn goes_first(&self, block: u64) -> bool;

    /// Its run in the block of `plan`. Its failures are its own affair: ours goes on.
    fn run(&mut self, plan: &RunPlan, block: u64, resources: &mut Resources, stop: &Stop);
}

/// Carries out `plans`, then judges and reports the experiment over everything on disk.
pub fn carry_out(
    record: &ExperimentRecord,
    plans: &[RunPlan],
    root: &ResultsRoot,
    options: Options,
    stop: &Stop,
    other_arm: Option<&mut dyn OtherArm>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, RunError> {
    let folder = root.experiment(&record.name)?;
    refuse_absent_device(plans, &folder, options.force)?;
    write_document(&folder.record(), record)?;
    let mut work = Work {
        folder: &folder,
        options,
        stop,
        tally: Tally::default(),
        block: 0,
        other_arm,
        resources: Resources::new(root).with_baseline(&record.baseline_commit),
    };
    for (index, plan) in plans.iter().enumerate() {
        if stop.requested() {
            work.tally.interrupted = true;
            break;
        }
        if !work.take_up(plan, index + 1, plans.len(), observe)? {
            break;
        }
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

/// Refuses the whole experiment where the GPU that its runs want can't be used, before anything is written: each of them
/// would fail for the same reason. One whose runs are all done needs no GPU.
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

struct Work<'a, 'o> {
    folder: &'a ExperimentFolder,
    options: Options,
    stop: &'a Stop,
    tally: Tally,
    block: u64,
    other_arm: Option<&'a mut (dyn OtherArm + 'o)>,
    resources: Resources,
}

impl Work<'_, '_> {
    /// Does one plan if it isn't done. Returns whether the next one should follow.
    fn take_up(
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
            observe(Event::AlreadyDone { plan, summary, environment: environment.as_deref() });
            self.tally.already_done += 1;
            return Ok(true);
        }
        self.block += 1;
        self.run_other_arm(plan, true);
        if self.stop.requested() {
            self.tally.interrupted = true;
            return Ok(false);
        }
        observe(Event::Preparing { plan, number, total });
        let go_on = match self.attempt(plan, observe) {
            Ok(summary) => {
                observe(Event::Ended { plan, summary: &summary });
                match summary.status {
                    RunStatus::Finished => self.tally.finished += 1,
                    _ => self.tally.interrupted = true,
                }
                true
            }
            Err(error) => {
                observe(Event::Failed { plan, error: &error });
                let mut reason = error.to_string();
                if let Err(second) = failure::record(plan, &folder, &error, self.options.hardware_matches) {
                    reason.push_str(&format!(" (nor could the failure be recorded: {second})"));
                }
                self.tally.failed.push((plan.run_id.clone(), reason));
                !self.options.fail_fast
            }
        };
        if go_on {
            self.run_other_arm(plan, false);
        }
        Ok(go_on && !self.stop.requested())
    }

    /// Runs the other arm, when there is one and this is its place in the block.
    fn run_other_arm(&mut self, plan: &RunPlan, first: bool) {
        if let Some(other) = &mut self.other_arm
            && other.goes_first(self.block) == first
            && !self.stop.requested()
        {
            other.run(plan, self.block, &mut self.resources, self.stop);
        }
    }

    /// Carries one plan out; a panic becomes an error, so that the other runs go on.
    fn attempt(&mut self, plan: &RunPlan, observe: &mut dyn FnMut(Event<'_>)) -> Result<Summary, RunError> {
        let folder = self.folder.run(&plan.run_id)?;
        let (resources, stop, matches) = (&mut self.resources, self.stop, self.options.hardware_matches);
        let mut forward = |step: Step<'_>| observe(Event::Run { plan, step });
        let run = || execute::execute(plan, &folder, resources, matches, stop, &mut forward);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(RunError::Panicked(message.unwrap_or_else(|| "unknown".to_string())))
        })
    }
}

/// Removes what an earlier plan left in a run's folder, checkpoints included, so that nothing of it can be mixed in.
fn clear(folder: &RunFolder) -> Result<(), RunError> {
    match std::fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ArtifactError::io("remove", folder.path(), error).into())
        }
        _ => Ok(()),
    }
}
