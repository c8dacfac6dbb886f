//! A session: runs of the baseline for one or more plans, each in every variant, block after block, recorded as they end.

use std::path::Path;
use std::time::Duration;

use nanochat_artifacts::{BaselineRun, ResultsRoot, RunStatus};
use nanochat_engine::data::resolve;
use nanochat_experiment::Experiment;
use nanochat_plan::{InitPlan, RunPlan};

use super::arm::{Event, Matching, Request, Variant, record_run};
use super::base_folder::BaseFolder;
use super::matching::compare_batches;
use super::python::{Environment, Python};
use super::{BaselineError, Checkout, Recording, flags_of, write_initial_weights};
use crate::hardware::{self, Machine};
use crate::run::Resources;

/// The baseline's checkout and environment, and how to run it.
#[derive(Debug)]
pub struct Place<'a> {
    /// The checkout.
    pub checkout: &'a Path,
    /// The interpreter.
    pub python: &'a Path,
    /// The base folder; a temporary one by default.
    pub base_dir: Option<&'a Path>,
    /// The longest time of one run.
    pub timeout: Duration,
    /// The machine matches the profile.
    pub hardware_matches: bool,
}

/// What all runs of a session share.
pub struct Session {
    /// The checkout, at the right commit and unchanged.
    pub checkout: Checkout,
    /// The interpreter.
    pub python: Python,
    /// Its packages and devices, checked.
    pub environment: Environment,
    /// The base folder.
    pub base: BaseFolder,
    /// This machine.
    pub machine: Machine,
    /// The longest time of one run.
    pub timeout: Duration,
    /// The machine matches the profile; else results name no machine, and their speed can't be judged.
    pub hardware_matches: bool,
}

/// Progress of a session.
pub enum Report<'a> {
    /// A long operation begins.
    Doing(&'a str),
    /// A problem that doesn't stop the session.
    Warning(String),
    /// What happens inside a run.
    Run(Event<'a>),
    /// A run ended.
    Ended(&'a BaselineRun),
    /// The baseline's part of a block ended, with its error.
    BlockEnded(Option<&'a BaselineError>),
}

/// Number of runs by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that finished.
    pub finished: u64,
    /// Runs that failed.
    pub failed: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { finished: self.finished + other.finished, failed: self.failed + other.failed }
    }
}

impl Session {
    /// Opens a checkout and an interpreter and refuses them unless both can train on `plans`, unmodified at `commit`.
    ///
    /// # Errors
    /// Everything that [`Checkout::require`], [`Python::require`] and [`flags_of`] refuse.
    pub fn open(
        place: &Place<'_>,
        commit: &str,
        plans: &[&RunPlan],
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, BaselineError> {
        let base = place.base_dir.map_or_else(BaseFolder::temporary, BaseFolder::at)?;
        let (checkout, python) = (Checkout::open(place.checkout)?, Python::new(place.python));
        checkout.require(commit)?;
        for plan in plans {
            flags_of(plan)?;
        }
        let environment = python.probe(super::SCRIPT_TIMEOUT, stop)?;
        for plan in plans {
            python.require(&environment, plan.device)?;
        }
        Ok(Self {
            checkout,
            python,
            environment,
            base,
            machine: hardware::this_machine(),
            timeout: place.timeout,
            hardware_matches: place.hardware_matches,
        })
    }

    /// Opens the baseline as the other arm of an experiment, and writes the initial weights that its plans start from.
    ///
    /// # Errors
    /// As [`Self::open`]; the experiment has no baseline arm, or the weights can't be written.
    pub fn for_experiment(
        place: &Place<'_>,
        experiment: &Experiment,
        plans: &[RunPlan],
        root: &ResultsRoot,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, BaselineError> {
        if experiment.control.is_some() {
            return Err(BaselineError::NoBaselineArm);
        }
        let session = Self::open(place, &experiment.baseline_commit, &one_of_each_budget(plans), stop)?;
        let from_baseline: Vec<RunPlan> =
            plans.iter().filter(|plan| plan.init == InitPlan::Baseline).cloned().collect();
        write_initial_weights(&from_baseline, (&session.checkout, &session.python, &session.base), root, stop)?;
        Ok(session)
    }

    /// Lays out the base folder for a plan and compares what both arms make of it.
    ///
    /// # Errors
    /// The folder can't be written, or the baseline's own loader fails on it.
    pub fn prepare(
        &self,
        plan: &RunPlan,
        resources: &mut Resources,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Matching, BaselineError> {
        let corpus = resources.corpus(&plan.data)?;
        let tokenizer = resources.tokenizer(plan, &corpus)?;
        report(Report::Doing("laying out data and tokenizer for the baseline"));
        // Relative paths in plans start at the working folder.
        let project = Path::new("");
        let bundle = plan.eval.core.as_ref().map(|core| resolve(&core.bundle, project));
        self.base.lay_out(&plan.data, &corpus, &tokenizer, bundle.as_deref(), project)?;
        report(Report::Doing("comparing the first micro-batches of both arms"));
        let place = (&self.checkout, &self.python, &self.base);
        let matching = compare_batches(plan, &corpus, &tokenizer, place, stop)?;
        for what in &matching.differences {
            report(Report::Warning(format!("the arms are not matched, and can't be compared: {what}")));
        }
        Ok(matching)
    }

    /// One run, in a variant.
    ///
    /// # Errors
    /// As [`record_run`].
    pub fn run_once(
        &self,
        plan: &RunPlan,
        matching: &Matching,
        variant: Variant,
        block: Option<nanochat_artifacts::BaselineBlock>,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<BaselineRun, BaselineError> {
        let request = Request {
            plan,
            checkout: &self.checkout,
            python: &self.python,
            environment: &self.environment,
            base: &self.base,
            matching,
            machine: &self.machine,
            variant,
            timeout: self.timeout,
            block,
            arm: None,
            output: None,
        };
        let mut run = record_run(&request, stop, &mut |event| report(Report::Run(event)))?;
        if !self.hardware_matches {
            run.machine_id = None;
        }
        report(Report::Ended(&run));
        Ok(run)
    }

    /// `count` runs of a plan in every variant, in turn, each recorded as it ends.
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`record_run`]; earlier runs stay recorded.
    pub fn record(
        &self,
        plan: &RunPlan,
        (variants, count): (&[Variant], u64),
        (resources, recording): (&mut Resources, &mut Recording),
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Tally, BaselineError> {
        let matching = self.prepare(plan, resources, stop, report)?;
        let mut tally = Tally::default();
        for number in 1..=count {
            for &variant in variants {
                let name = variant.name();
                report(Report::Doing(&format!("run {number} of {count}, {name}")));
                let run = self.run_once(plan, &matching, variant, None, stop, report)?;
                match run.status {
                    RunStatus::Finished => tally.finished += 1,
                    _ => tally.failed += 1,
                }
                recording.add(run)?;
            }
        }
        Ok(tally)
    }
}

/// The first plan of each budget: the baseline runs once for all seeds and variations of the candidate, and again for
/// another shape, budget, data, tokenizer or batch.
pub fn one_of_each_budget(plans: &[RunPlan]) -> Vec<&RunPlan> {
    let mut chosen: Vec<&RunPlan> = Vec::new();
    for plan in plans {
        if !chosen.iter().any(|earlier| same_budget(earlier, plan)) {
            chosen.push(plan);
        }
    }
    chosen
}

/// Whether the baseline trains the same for both plans.
pub(super) fn same_budget(a: &RunPlan, b: &RunPlan) -> bool {
    (&a.model, a.num_iterations, a.total_batch_size, a.device_batch_size)
        == (&b.model, b.num_iterations, b.total_batch_size, b.device_batch_size)
        && (&a.data, &a.tokenizer, &a.eval) == (&b.data, &b.tokenizer, &b.eval)
}
