//! The baseline as the other arm of an experiment: alternating blocks, each with one run of both arms on this machine. The
//! order changes from block to block, so that drift over a session (heat, other programs) affects both arms alike.

use nanochat_artifacts::{BaselineBlock, ResultsRoot};
use nanochat_experiment::Experiment;
use nanochat_plan::RunPlan;

use super::arm::{Matching, Variant};
use super::session::{one_of_each_budget, same_budget};
use super::{BaselineError, Recording, Report, Session, recording_name};
use crate::run::{OtherArm, Resources, Stop};

/// Whether the baseline goes first in a block, counted from 1: it does in the odd ones.
fn baseline_goes_first(block: u64) -> bool {
    block % 2 == 1
}

/// In each block one run of the baseline in every variant, recorded with the block.
pub struct BaselineArm<'a> {
    session: &'a Session,
    experiment: &'a Experiment,
    recording: Recording,
    /// One plan of each budget; the baseline runs these.
    plans: Vec<&'a RunPlan>,
    /// What the base folder is laid out for, as an index into `plans`.
    laid_out: Option<(usize, Matching)>,
    report: &'a mut dyn FnMut(&RunPlan, Report<'_>),
}

impl<'a> BaselineArm<'a> {
    /// The arm for runs of `plans`, with the recording that the spec names.
    ///
    /// # Errors
    /// The recording can't be read.
    pub fn new(
        session: &'a Session,
        experiment: &'a Experiment,
        plans: &'a [RunPlan],
        root: &ResultsRoot,
        report: &'a mut dyn FnMut(&RunPlan, Report<'_>),
    ) -> Result<Self, BaselineError> {
        let commit = &experiment.baseline_commit;
        let name = recording_name(experiment.baseline_results.as_deref(), commit, &experiment.name);
        let recording = Recording::open(root, commit, &name, false)?;
        Ok(Self { session, experiment, recording, plans: one_of_each_budget(plans), laid_out: None, report })
    }

    /// Runs the baseline in the block of `plan`. A run that fails is recorded and not an error.
    fn run_block(
        &mut self,
        (plan, place): (&RunPlan, usize),
        number: u64,
        resources: &mut Resources,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), BaselineError> {
        let Some(budget) = self.plans.get(place).copied() else { return Ok(()) };
        let mut report = |event: Report<'_>| (self.report)(budget, event);
        let matching = match self.laid_out.take() {
            Some((laid_out, matching)) if laid_out == place => matching,
            _ => self.session.prepare(budget, resources, stop, &mut report)?,
        };
        for variant in Variant::of_experiment(self.experiment, budget) {
            report(Report::Doing(&format!("block {number}, {}", variant.name())));
            let block = BaselineBlock {
                number,
                baseline_first: baseline_goes_first(number),
                candidate_run: Some(plan.run_id.clone()),
                of_arms: None,
            };
            let run = self.session.run_once(budget, &matching, variant, Some(block), stop, &mut report)?;
            self.recording.add(run)?;
        }
        self.laid_out = Some((place, matching));
        Ok(())
    }
}

impl OtherArm for BaselineArm<'_> {
    fn goes_first(&self, block: u64) -> bool {
        baseline_goes_first(block)
    }

    fn run(&mut self, plan: &RunPlan, block: u64, resources: &mut Resources, stop: &Stop) {
        let Some(place) = self.plans.iter().position(|budget| same_budget(budget, plan)) else { return };
        // With data that can't be read, this engine's own run fails and reports it.
        if resources.corpus(&plan.data).and_then(|corpus| resources.tokenizer(plan, &corpus)).is_err() {
            return;
        }
        let outcome = self.run_block((plan, place), block, resources, &|| stop.requested());
        let failure = outcome.err().filter(|error| !matches!(error, BaselineError::Stopped));
        (self.report)(plan, Report::BlockEnded(failure.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_take_turns_in_going_first() {
        assert_eq!([1, 2, 3, 4].map(baseline_goes_first), [true, false, true, false]);
    }
}
