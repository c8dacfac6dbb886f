//! All runs of an experiment, then its scorecard and reports.

use std::time::Duration;

use nanochat_artifacts::lease::Doing;
use nanochat_artifacts::{
    ArtifactError, Environment, ExperimentFolder, ResultsRoot, RunBlock, RunFolder, RunStatus, Scorecard, Summary,
    create_folder, files, read_document, write_document,
};
use nanochat_engine::checkpoint::{CheckpointError, Checkpoints, RunLock};
use nanochat_engine::device::DeviceError;
use nanochat_experiment::same_block;
use nanochat_lab::report;
use nanochat_lab::scorecard;
use nanochat_plan::{ArmPlan, DeviceKind, RunPlan};

use super::error::caught;
use super::execute::{self, Step};
use super::inputs::{self, Compared};
use super::originals::refuse_other_spec;
use super::pace::{Pace, note};
use super::part::Part;
use super::resources::{Resources, open_device};
use super::{Opened, RunError, RunState, Stop, failure, state_of, timing, with_help};

/// Between two looks at a run that another process has.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Options of an experiment's runs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Start every run over, whatever is on disk.
    pub force: bool,
    /// Stop at the first run that fails.
    pub fail_fast: bool,
    /// Go on from checkpoints that this user didn't write.
    pub trust_checkpoints: bool,
    /// The machine is what the profile says; else speed can't be judged.
    pub hardware_matches: bool,
    /// Which of the runs this process carries out.
    pub part: Part,
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
        /// FLOPs of the runs after it that are this process's and not done yet.
        flops_after: f64,
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
    /// Another process has the run; this one waits until it is done, or free.
    Waiting {
        /// Its plan.
        plan: &'a RunPlan,
        /// Who has it.
        error: &'a RunError,
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
    /// Another process makes the timing session; this one waits until it is made, or free.
    TimingWaits {
        /// Who makes it.
        error: &'a RunError,
    },
    /// The timing session failed; what the runs show is judged without it.
    TimingFailed {
        /// Why.
        error: &'a RunError,
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
    /// Runs that are neither finished nor failed, when this process only judges.
    pub unfinished: Vec<String>,
    /// Runs that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Why speed can't be judged for want of a timing session, where the spec wants one.
    pub no_timing: Option<String>,
    /// A signal or the wall clock stopped the work; the next call continues.
    pub interrupted: bool,
    /// A run was stopped before it came a step further than it was: stopping it again and again would never end it.
    pub no_progress: bool,
    /// Verdicts and reports, where this process makes them.
    pub judged: Option<Judged>,
}

/// Verdicts of an experiment.
pub struct Judged {
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

/// Runs the plans of an opened spec that are this process's, then judges and reports the experiment from everything on disk.
pub fn run_experiment(
    opened: &Opened,
    options: Options,
    stop: &Stop,
    others: Others<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, RunError> {
    let (plans, root) = (opened.plans(), &opened.root);
    let record = opened.record();
    let folder = root.experiment(&record.name)?;
    // Where the report will lie is looked at before the work, not after it.
    root.report_markdown(&record.name)?;
    let part = options.part.clone();
    let own: Vec<&RunPlan> = plans.iter().filter(|plan| options.part.has(&plan.run_id)).collect();
    if !options.force {
        refuse_other_spec(&folder, &record)?;
    }
    refuse_absent_device(&own, &folder, options.force)?;
    if part.judges() {
        write_document(&folder.record(), &record)?;
    }
    let session = if options.part == Part::Whole { now() } else { precisely_now() };
    let mut work = Work {
        folder: &folder,
        options,
        stop,
        tally: Tally::default(),
        block: 0,
        arms_block: None,
        session,
        others,
        resources: Resources::new(root).with_baseline(&record.baseline_commit),
    };
    for (index, plan) in own.iter().enumerate() {
        if stop.requested() {
            work.tally.interrupted = true;
            break;
        }
        let place = (index + 1, own.len(), work.flops_of(own.get(index + 1..).unwrap_or_default()));
        if !work.run_plan(plan, place, observe)? {
            break;
        }
    }
    let mut unfinished = Vec::new();
    if part.has_no_runs() {
        (unfinished, work.tally) = ends_of(plans, &folder)?;
    }
    let mut no_timing = None;
    if part.times() && unfinished.is_empty() && work.tally.is_whole() {
        no_timing = work.time(opened, observe);
    } else if part == Part::Judging && timing::is_absent(opened, &folder) {
        no_timing = Some("none was made".to_string());
    }
    let tally = work.tally;
    let _at_work = stop.at_work();
    Ok(Outcome {
        unfinished,
        finished: tally.finished,
        already_done: tally.already_done,
        failed: tally.failed,
        no_timing,
        interrupted: tally.interrupted,
        no_progress: tally.no_progress,
        judged: if part.judges() { Some(judge(root, &folder)?) } else { None },
    })
}

/// How the runs of an experiment ended that others have carried out: the unfinished ones, and a tally of the others.
fn ends_of(plans: &[RunPlan], folder: &ExperimentFolder) -> Result<(Vec<String>, Tally), RunError> {
    let (mut unfinished, mut tally) = (Vec::new(), Tally::default());
    for plan in plans {
        match state_of(plan, &folder.run(&plan.run_id)?) {
            RunState::Done { .. } => tally.already_done += 1,
            RunState::Failed { reason } => tally.failed.push((plan.run_id.clone(), reason)),
            _ => unfinished.push(plan.run_id.clone()),
        }
    }
    Ok((unfinished, tally))
}

/// Judges an experiment from what is on disk, and writes its reports and the leaderboard.
pub(super) fn judge(root: &ResultsRoot, folder: &ExperimentFolder) -> Result<Judged, RunError> {
    let scorecard = scorecard::update(folder, root.project())?;
    let reports = report::update(root, &scorecard.experiment, None)?;
    report::refresh_leaderboard(root)?;
    Ok(Judged { scorecard, reports })
}

/// Refuses the whole experiment if the GPU of its runs can't be used, before anything is written: each run would fail for
/// the same reason. An experiment whose runs are all done needs no GPU.
fn refuse_absent_device(plans: &[&RunPlan], folder: &ExperimentFolder, force: bool) -> Result<(), RunError> {
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
    no_progress: bool,
}

/// What is to be done with a run.
#[derive(PartialEq)]
enum Next {
    /// Nothing.
    Done,
    /// It starts, or goes on.
    Run,
    /// It starts over.
    Over,
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
    /// FLOPs of the runs that aren't done.
    fn flops_of(&self, plans: &[&RunPlan]) -> f64 {
        let is_open = |plan: &&&RunPlan| {
            let state = self.folder.run(&plan.run_id).map(|folder| state_of(plan, &folder));
            self.options.force || !matches!(state, Ok(RunState::Done { .. }))
        };
        plans.iter().filter(is_open).map(|plan| plan.total_flops as f64).sum()
    }

    /// Makes the timing session. Returns why there is none then: quality is judged all the same.
    fn time(&mut self, opened: &Opened, observe: &mut dyn FnMut(Event<'_>)) -> Option<String> {
        let mut tell = |told: timing::Told<'_>| match told {
            timing::Told::Block(block, attempt) => observe(Event::Timing { block, attempt }),
            timing::Told::Waiting(error) => observe(Event::TimingWaits { error }),
        };
        let (options, resources) = (&self.options, &mut self.resources);
        match timing::time_cells(opened, self.folder, options, resources, self.stop, &mut tell) {
            Ok(ended) => {
                self.tally.interrupted = self.stop.requested();
                self.tally.no_progress |= ended == timing::Ended::Stopped { further: false };
                None
            }
            Err(error) => {
                observe(Event::TimingFailed { error: &error });
                Some(with_help(&error))
            }
        }
    }

    /// Runs one plan if it isn't done. Returns whether to continue with the next one. `place` is its number, of how many, and
    /// the FLOPs after it.
    fn run_plan(
        &mut self,
        plan: &RunPlan,
        place: (usize, usize, f64),
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, RunError> {
        let folder = self.folder.run(&plan.run_id)?;
        let next = self.next(plan, &folder, observe);
        if next == Next::Done {
            return Ok(true);
        }
        let lock = match self.own(plan, &folder, observe) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(false),
            Err(error) => return Ok(self.fail(plan, &folder, &error, observe)),
        };
        // Whoever had it may have finished it.
        if next == Next::Run && self.next(plan, &folder, observe) == Next::Done {
            return Ok(true);
        }
        if next == Next::Over {
            clear(&folder)?;
        }
        self.block += 1;
        self.run_other_arm(plan, true);
        if self.stop.requested() {
            self.tally.interrupted = true;
            return Ok(false);
        }
        let (number, total, flops_after) = place;
        observe(Event::Preparing { plan, number, total, flops_after });
        let began_at = step_of(plan, &folder);
        let goes_on = match self.attempt(plan, &lock, observe) {
            Ok(summary) => {
                observe(Event::Ended { plan, summary: &summary });
                match summary.status {
                    RunStatus::Finished => self.tally.finished += 1,
                    RunStatus::Failed => {
                        let reason = summary.reason.clone().unwrap_or_default();
                        self.tally.failed.push((plan.run_id.clone(), reason));
                    }
                    RunStatus::Interrupted => {
                        self.tally.interrupted = true;
                        self.tally.no_progress |= summary.steps <= began_at;
                    }
                }
                summary.status != RunStatus::Failed || !self.options.fail_fast
            }
            Err(RunError::Stopped) => {
                self.tally.interrupted = true;
                false
            }
            Err(error) => self.fail(plan, &folder, &error, observe),
        };
        drop(lock);
        if goes_on {
            self.run_other_arm(plan, false);
        }
        Ok(goes_on && !self.stop.requested())
    }

    /// What is to be done with a run, by what is on disk.
    fn next(&mut self, plan: &RunPlan, folder: &RunFolder, observe: &mut dyn FnMut(Event<'_>)) -> Next {
        let state = state_of(plan, folder);
        if self.options.force || matches!(state, RunState::Changed { .. }) {
            return Next::Over;
        }
        let RunState::Done { summary, environment } = &state else { return Next::Run };
        let compared = inputs::compare(plan, summary, &mut self.resources);
        if let Compared::Other(what) = &compared {
            observe(Event::OtherInputs { plan, what });
            return Next::Over;
        }
        let unchecked = if let Compared::Unread(reason) = &compared { Some(reason.as_str()) } else { None };
        observe(Event::AlreadyDone { plan, summary, environment: environment.as_deref(), unchecked });
        self.tally.already_done += 1;
        Next::Done
    }

    /// Takes a run for this process, when the part says so after whoever has it; none when a stop was requested before.
    fn own(
        &mut self,
        plan: &RunPlan,
        folder: &RunFolder,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<RunLock>, RunError> {
        create_folder(folder.path())?;
        let mut told = false;
        loop {
            match RunLock::acquire_for(folder.path(), self.options.part.job()) {
                Ok(lock) => return Ok(Some(lock)),
                Err(error @ CheckpointError::Locked { .. }) if self.options.part.waits() => {
                    if !told {
                        observe(Event::Waiting { plan, error: &error.into() });
                    }
                    told = true;
                }
                Err(error) => return Err(error.into()),
            }
            if self.stop.requested() {
                self.tally.interrupted = true;
                return Ok(None);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Records a failure. Returns whether to continue with the next run.
    fn fail(
        &mut self,
        plan: &RunPlan,
        folder: &RunFolder,
        error: &RunError,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        observe(Event::Failed { plan, error });
        let mut reason = with_help(error);
        if let Err(second) = failure::record(plan, folder, error, self.options.hardware_matches) {
            reason.push_str(&format!(" (the failure could not be recorded: {second})"));
        }
        self.tally.failed.push((plan.run_id.clone(), reason));
        !self.options.fail_fast
    }

    /// Runs the other arm, if there is one and it is its turn in the block.
    fn run_other_arm(&mut self, plan: &RunPlan, first: bool) {
        if let Some(other) = &mut self.others.other_arm
            && other.goes_first(self.block) == first
            && !self.stop.requested()
        {
            let _at_work = self.stop.at_work();
            other.run(plan, self.block, &mut self.resources, self.stop);
        }
    }

    /// Runs one plan; a panic becomes an error, so that the other runs continue.
    fn attempt(
        &mut self,
        plan: &RunPlan,
        lock: &RunLock,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let folder = self.folder.run(&plan.run_id)?;
        let block = self.next_in_block(plan);
        let summary = self.attempt_alone(plan, &folder, lock, observe)?;
        lock.require()?;
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
        lock: &RunLock,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let stop = &self.stop.or(lock.lost());
        lock.note(|progress| progress.steps = plan.num_iterations);
        if plan.arm.as_ref().is_some_and(ArmPlan::is_foreign) {
            let lacking = || RunError::NoArm { run_id: plan.run_id.clone() };
            let arms = self.others.arms.as_mut().ok_or_else(lacking)?;
            let _at_work = self.stop.at_work();
            lock.note(|progress| progress.doing = Doing::Training);
            lock.publish();
            return arms.run(plan, folder, &mut self.resources, stop);
        }
        let (resources, options) = (&mut self.resources, &self.options);
        let mut pace = Pace::new(plan);
        let mut forward = |step: Step<'_>| {
            note(lock, plan, &mut pace, &step);
            observe(Event::Run { plan, step });
        };
        let run = || execute::execute(plan, folder, resources, options, (stop, lock), &mut forward);
        caught(run)
    }
}

/// Steps that an interrupted run has behind it.
fn step_of(plan: &RunPlan, folder: &RunFolder) -> u64 {
    match state_of(plan, folder) {
        RunState::Interrupted { step } => step,
        _ => 0,
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

/// Sessions of several processes begin at different times, as far as this tells.
fn precisely_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

/// Removes the files of an earlier run from its folder, which this process holds, checkpoints included; whatever else lies there
/// stays.
fn clear(folder: &RunFolder) -> Result<(), RunError> {
    if !folder.path().is_dir() {
        return Ok(());
    }
    Checkpoints::open(&folder.checkpoints())?.clear()?;
    for file in folder.files() {
        files::remove(&file).map_err(|error| ArtifactError::io("remove", &file, error))?;
    }
    Ok(())
}
