//! `nanochat run --with-baseline`: the other arm beside each run, in alternating blocks.

use std::path::PathBuf;
use std::time::Duration;

use super::CliError;
use super::baseline::{failed, variants};
use super::baseline_progress::Progress;
use crate::baseline::blocks::{Arm, order};
use crate::baseline::{
    self, BaseFolder, BaselineError, Beside, Checkout, Python, Recording, Session, one_of_each_budget, recording_name,
};
use crate::hardware;
use crate::run::{OtherArm, Resources, Stop};
use nanochat_artifacts::ResultsRoot;
use nanochat_experiment::Experiment;
use nanochat_plan::{InitPlan, RunPlan};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run karpathy/nanochat beside each run, in alternating blocks on this machine, and record it
    #[arg(long, requires_all = ["checkout", "python"])]
    with_baseline: bool,
    /// The checkout of karpathy/nanochat
    #[arg(long, value_name = "FOLDER", requires = "with_baseline")]
    checkout: Option<PathBuf>,
    /// Interpreter of the environment with the baseline's packages
    #[arg(long, value_name = "PATH", requires = "with_baseline")]
    python: Option<PathBuf>,
    /// Folder for the baseline's data, checkpoints and compiled kernels, kept afterwards; a temporary one by default
    #[arg(long, value_name = "FOLDER", requires = "with_baseline")]
    base_dir: Option<PathBuf>,
    /// Stop a run of the baseline after so many seconds; it is recorded as failed
    #[arg(long, value_name = "SECONDS", requires = "with_baseline", default_value_t = 86400)]
    baseline_timeout: u64,
}

impl Args {
    /// Opens the baseline, when it is asked for, and has the initial weights written that plans start from.
    pub fn open(
        &self,
        experiment: &Experiment,
        plans: &[RunPlan],
        (root, hardware_matches, stop): (&ResultsRoot, bool, &Stop),
    ) -> Result<Option<Session>, CliError> {
        let (true, Some(checkout), Some(python)) = (self.with_baseline, &self.checkout, &self.python) else {
            return Ok(None);
        };
        if experiment.control.is_some() {
            let help = "leave `--with-baseline` out, or put `baseline.results` in the place of `baseline.cell`";
            return Err(CliError::usage(
                "this spec holds its runs against a cell of its own, not the baseline",
                Some(help),
            ));
        }
        let stopped = || stop.requested();
        let base = self.base_dir.as_deref().map_or_else(BaseFolder::temporary, BaseFolder::at).map_err(failed)?;
        let place = (Checkout::open(checkout).map_err(failed)?, Python::new(python));
        let chosen = one_of_each_budget(plans);
        let machine = hardware::this_machine();
        let mut session =
            Session::open(place, &experiment.baseline_commit, &chosen, base, machine, &stopped).map_err(failed)?;
        session.timeout = Duration::from_secs(self.baseline_timeout);
        session.hardware_matches = hardware_matches;
        let from_baseline: Vec<RunPlan> =
            plans.iter().filter(|plan| plan.init == InitPlan::Baseline).cloned().collect();
        let place = (&session.checkout, &session.python, &session.base);
        baseline::write_initial_weights(&from_baseline, place, root, &stopped).map_err(failed)?;
        Ok(Some(session))
    }
}

/// The baseline as the other arm, with its progress.
pub struct BaselineArm<'a> {
    beside: Beside<'a>,
    progress: Progress,
    /// Blocks that the baseline has no whole run of, with the reason.
    pub problems: Vec<String>,
}

/// The variants of each plan, as the experiment has them.
pub fn variants_of(experiment: &Experiment) -> impl Fn(&RunPlan) -> Vec<crate::baseline::Variant> + '_ {
    move |plan| variants(experiment, plan)
}

impl<'a> BaselineArm<'a> {
    /// Opens the recording that the spec names.
    pub fn new(
        session: &'a Session,
        experiment: &Experiment,
        plans: &'a [RunPlan],
        variants: &'a dyn Fn(&RunPlan) -> Vec<crate::baseline::Variant>,
        root: &ResultsRoot,
    ) -> Result<Self, CliError> {
        let commit = &experiment.baseline_commit;
        let name = recording_name(experiment.baseline_results.as_deref(), commit, &experiment.name);
        let recording = Recording::open(root, commit, &name, false).map_err(failed)?;
        let beside = Beside::new(session, recording, plans, variants);
        Ok(Self { beside, progress: Progress::default(), problems: Vec::new() })
    }
}

impl OtherArm for BaselineArm<'_> {
    fn goes_first(&self, block: u64) -> bool {
        order(block)[0] == Arm::Baseline
    }

    fn run(&mut self, plan: &RunPlan, block: u64, resources: &mut Resources, stop: &Stop) {
        let data = resources.corpus(&plan.data).and_then(|corpus| Ok((resources.tokenizer(plan, &corpus)?, corpus)));
        let (tokenizer, corpus) = match data {
            Ok(found) => found,
            // Our own run will say so, and fail.
            Err(error) => return self.problems.push(error.to_string()),
        };
        let budget = self.beside.budget_of(plan).unwrap_or(plan);
        let progress = &mut self.progress;
        let outcome = self.beside.run_block((plan, &corpus, &tokenizer), block, &|| stop.requested(), &mut |report| {
            progress.show(budget, report)
        });
        progress.end();
        match outcome {
            Ok(()) | Err(BaselineError::Stopped) => {}
            Err(error) => {
                progress.warn(&error.to_string());
                self.problems.push(error.to_string());
            }
        }
    }
}
