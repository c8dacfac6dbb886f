//! A session: runs of the baseline for one or more plans, each in every variant, block after block, recorded as they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::arm::{Event, Matching, Request, Variant, record_run};
use super::base_folder::BaseFolder;
use super::matching::compare_batches;
use super::python::{Environment, Python};
use super::{BaselineError, Checkout, Recording, blocks, flags_of};
use crate::hardware::Machine;
use nanochat_artifacts::{BaselineRun, RunStatus};
use nanochat_engine::data::{Corpus, resolve};
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::RunPlan;

/// What all runs of a session share.
pub struct Session {
    /// The checkout, at the right commit and unchanged.
    pub checkout: Checkout,
    /// The interpreter.
    pub python: Python,
    /// What it has, found to be enough.
    pub environment: Environment,
    /// The base folder.
    pub base: BaseFolder,
    /// This machine.
    pub machine: Machine,
    /// Relative paths in plans start here.
    pub project: PathBuf,
    /// The longest that one run may take.
    pub timeout: Duration,
    /// The machine is what the profile says; else results name no machine, and their speed can't be judged.
    pub hardware_matches: bool,
}

/// What happens, as it happens.
pub enum Report<'a> {
    /// Something that takes a while begins, in words.
    Doing(&'a str),
    /// Something to know that doesn't stop the session.
    Warning(String),
    /// What happens inside a run.
    Run(Event<'a>),
    /// A run ended.
    Ended(&'a BaselineRun),
}

/// How runs ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that came to their end.
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
        (checkout, python): (Checkout, Python),
        commit: &str,
        plans: &[&RunPlan],
        base: BaseFolder,
        machine: Machine,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, BaselineError> {
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
            machine,
            project: PathBuf::new(),
            timeout: Duration::MAX,
            hardware_matches: true,
        })
    }

    /// Lays out the base folder for a plan and compares what both arms make of it.
    ///
    /// # Errors
    /// The folder can't be written, or the baseline's own loader fails on it.
    pub fn prepare(
        &self,
        plan: &RunPlan,
        corpus: &Arc<Corpus>,
        tokenizer: &Arc<Tokenizer>,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Matching, BaselineError> {
        report(Report::Doing("laying out data and tokenizer for the baseline"));
        let bundle = plan.eval.core.as_ref().map(|core| resolve(&core.bundle, &self.project));
        self.base.lay_out(&plan.data, corpus, tokenizer, bundle.as_deref(), &self.project)?;
        report(Report::Doing("comparing the first micro-batches of both arms"));
        let place = (&self.checkout, &self.python, &self.base);
        let matching = compare_batches(plan, corpus, tokenizer, place, stop)?;
        for what in &matching.differences {
            report(Report::Warning(format!("the arms are not matched, and won't be compared: {what}")));
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
    /// As [`Self::prepare`] and [`record_run`]; what was recorded before stays.
    pub fn carry_out(
        &self,
        (plan, corpus, tokenizer): (&RunPlan, &Arc<Corpus>, &Arc<Tokenizer>),
        (variants, count): (&[Variant], u64),
        recording: &mut Recording,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Tally, BaselineError> {
        let matching = self.prepare(plan, corpus, tokenizer, stop, report)?;
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

/// The baseline beside runs of ours: in each block one run in every variant, recorded with the block.
pub struct Beside<'a> {
    session: &'a Session,
    recording: Recording,
    variants: &'a dyn Fn(&RunPlan) -> Vec<Variant>,
    /// One plan of each budget, which the baseline is run on.
    plans: Vec<&'a RunPlan>,
    /// What the base folder is laid out for, as a place in `plans`.
    laid_out: Option<(usize, Matching)>,
}

impl<'a> Beside<'a> {
    /// For runs of `plans`.
    pub fn new(
        session: &'a Session,
        recording: Recording,
        plans: &'a [RunPlan],
        variants: &'a dyn Fn(&RunPlan) -> Vec<Variant>,
    ) -> Self {
        Self { session, recording, variants, plans: one_of_each_budget(plans), laid_out: None }
    }

    /// The plan that the baseline is run on in the block of `plan`.
    pub fn budget_of(&self, plan: &RunPlan) -> Option<&'a RunPlan> {
        self.plans.iter().copied().find(|budget| same_budget(budget, plan))
    }

    /// The baseline's runs in a block, beside our run of `plan`.
    ///
    /// # Errors
    /// As [`Session::prepare`] and [`record_run`]; a run that fails is recorded and no error.
    pub fn run_block(
        &mut self,
        (plan, corpus, tokenizer): (&RunPlan, &Arc<Corpus>, &Arc<Tokenizer>),
        number: u64,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<(), BaselineError> {
        let Some(place) = self.plans.iter().position(|budget| same_budget(budget, plan)) else { return Ok(()) };
        let Some(budget) = self.plans.get(place).copied() else { return Ok(()) };
        let matching = match self.laid_out.take() {
            Some((laid_out, matching)) if laid_out == place => matching,
            _ => self.session.prepare(budget, corpus, tokenizer, stop, report)?,
        };
        for variant in (self.variants)(budget) {
            report(Report::Doing(&format!("block {number}, {}", variant.name())));
            let block = Some(blocks::block(number, Some(&plan.run_id)));
            let run = self.session.run_once(budget, &matching, variant, block, stop, report)?;
            self.recording.add(run)?;
        }
        self.laid_out = Some((place, matching));
        Ok(())
    }
}

/// Of plans that ask for the same budget, the first: seeds and the candidate's variations don't make another baseline,
/// which is what the spec's first cell describes. Another shape, budget, data, tokenizer or batch does.
pub fn one_of_each_budget(plans: &[RunPlan]) -> Vec<&RunPlan> {
    let mut chosen: Vec<&RunPlan> = Vec::new();
    for plan in plans {
        if !chosen.iter().any(|earlier| same_budget(earlier, plan)) {
            chosen.push(plan);
        }
    }
    chosen
}

fn same_budget(a: &RunPlan, b: &RunPlan) -> bool {
    (&a.model, a.num_iterations, a.total_batch_size, a.device_batch_size)
        == (&b.model, b.num_iterations, b.total_batch_size, b.device_batch_size)
        && (&a.data, &a.tokenizer, &a.eval) == (&b.data, &b.tokenizer, &b.eval)
}
