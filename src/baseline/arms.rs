//! The arms that checkouts carry out: each with its checkout, environment and base folder, and the runs of all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nanochat_artifacts::{ExperimentFolder, ResultsRoot, RunFolder, RunStatus, Summary, create_folder, write_document};
use nanochat_experiment::{Arm, Experiment, resolve_path};
use nanochat_plan::{ArmPlan, InitPlan, RunPlan};

use super::arm::{Matching, Request, Variant, carry_out};
use super::session::same_budget;
use super::{BaselineError, Place, Report, Session, arm_summary, record_arms, write_initial_weights};
use crate::run::{ForeignArms, Resources, RunError, RunState, Stop, state_of, with_help};

/// Where the checkouts of a spec's arms are, and how to run them.
#[derive(Debug, Default)]
pub struct Places {
    /// Folders of checkouts by the name of the arm; they win over the spec's.
    pub checkouts: BTreeMap<String, PathBuf>,
    /// Interpreters by the name of the arm.
    pub pythons: BTreeMap<String, PathBuf>,
    /// Folder below which each arm has its base folder; temporary ones by default.
    pub base_dir: Option<PathBuf>,
    /// The longest time of one run.
    pub timeout: Duration,
    /// The machine matches the profile.
    pub hardware_matches: bool,
}

impl Places {
    /// The checkout of an arm.
    ///
    /// # Errors
    /// Neither the user nor the spec names one, or the spec names one inside the project.
    pub fn checkout(&self, arm: &Arm) -> Result<PathBuf, BaselineError> {
        let name = &arm.plan.name;
        if let Some(named) = self.checkouts.get(name) {
            return Ok(named.clone());
        }
        let lacking = || BaselineError::NoPlace { arm: name.clone() };
        let folder = resolve_path(arm.checkout.as_ref().ok_or_else(lacking)?);
        // What a spec names could have come along with it, and its code would be run.
        let inside = match (folder.canonicalize(), Path::new(".").canonicalize()) {
            (Ok(folder), Ok(project)) => folder.starts_with(project),
            _ => false,
        };
        if inside { Err(BaselineError::CheckoutInProject { arm: name.clone(), path: folder }) } else { Ok(folder) }
    }

    /// The interpreter of an arm: the one that is named, else that of the checkout's own environment.
    pub fn python(&self, arm: &Arm, checkout: &Path) -> PathBuf {
        let own = if cfg!(windows) { ".venv/Scripts/python.exe" } else { ".venv/bin/python" };
        self.pythons.get(&arm.plan.name).cloned().unwrap_or_else(|| checkout.join(own))
    }
}

/// Two arguments about the same arm.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("two arguments name a place for {whom}: `{first}` and `{second}`")]
#[diagnostic(help("write NAME=PATH, once for each arm"))]
pub struct ArmArgumentError {
    whom: String,
    first: String,
    second: String,
}

/// Paths by the name of the arm, from arguments such as `candidate=../fork`; one without a name is for every arm that
/// has none of its own.
///
/// # Errors
/// An arm is named twice.
pub fn by_arm(arguments: &[String], names: &[&str]) -> Result<BTreeMap<String, PathBuf>, ArmArgumentError> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut for_all: Option<&String> = None;
    for argument in arguments {
        let named = argument.split_once('=').filter(|(name, _)| names.contains(name));
        let (whom, path) = named.map_or((None, argument.as_str()), |(name, path)| (Some(name), path));
        let earlier = match whom {
            Some(name) => found.insert(name.to_string(), PathBuf::from(path)).map(|path| path.display().to_string()),
            None => for_all.replace(argument).cloned(),
        };
        if let Some(first) = earlier {
            let whom = whom.map_or("all arms".to_string(), |name| format!("the arm `{name}`"));
            return Err(ArmArgumentError { whom, first, second: path.to_string() });
        }
    }
    for name in names {
        if let Some(path) = for_all {
            found.entry((*name).to_string()).or_insert_with(|| PathBuf::from(path));
        }
    }
    Ok(found)
}

/// A checkout that carries an arm out.
struct Opened {
    session: Session,
    /// What the base folder is laid out for.
    laid_out: Option<(RunPlan, Matching)>,
}

/// The arms of an experiment that checkouts carry out.
pub struct Arms<'a> {
    opened: BTreeMap<String, Opened>,
    plans: &'a [RunPlan],
    folder: ExperimentFolder,
    report: &'a mut dyn FnMut(&RunPlan, Report<'_>),
}

/// Which runs of an experiment are to be carried out.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// The runs, of all arms.
    pub plans: &'a [RunPlan],
    /// Also those that are done.
    pub force: bool,
}

impl<'a> Arms<'a> {
    /// Opens the checkout of every arm that has runs to carry out, refuses what can't serve, writes how the arms differ,
    /// and the control's initial weights where runs of this program start from them. None where no checkout is needed.
    ///
    /// # Errors
    /// As [`Session::open`]; an arm has no checkout, or the weights can't be written.
    pub fn open(
        wanted: &Wanted<'a>,
        places: &Places,
        root: &ResultsRoot,
        stop: &dyn Fn() -> bool,
        report: &'a mut dyn FnMut(&RunPlan, Report<'_>),
    ) -> Result<Option<Self>, BaselineError> {
        let Wanted { experiment, plans, force } = *wanted;
        let folder = root.experiment(&experiment.name)?;
        let mut opened = BTreeMap::new();
        for arm in experiment.arms.iter().filter(|arm| arm.plan.is_foreign()) {
            let of_arm: Vec<&RunPlan> = plans.iter().filter(|plan| plan.arm.as_ref() == Some(&arm.plan)).collect();
            let control_weights =
                experiment.is_control(&arm.plan.name) && needs_weights(plans, arm.plan.commit.as_deref(), root);
            if of_arm.is_empty() && !control_weights {
                continue;
            }
            if !control_weights && !force && of_arm.iter().all(|plan| is_done(plan, &folder)) {
                continue;
            }
            let checkout = places.checkout(arm)?;
            let python = places.python(arm, &checkout);
            let base = places.base_dir.as_ref().map(|base| base.join(&arm.plan.name));
            let place = Place {
                checkout: &checkout,
                python: &python,
                base_dir: base.as_deref(),
                timeout: places.timeout,
                hardware_matches: places.hardware_matches,
            };
            let commit = arm.plan.commit.as_deref().unwrap_or_default();
            let session = Session::open(&place, commit, &of_arm, stop)?;
            if control_weights {
                let started: Vec<RunPlan> = with_control_weights(plans).cloned().collect();
                write_initial_weights(&started, (&session.checkout, &session.python, &session.base), root, stop)?;
            }
            opened.insert(arm.plan.name.clone(), Opened { session, laid_out: None });
        }
        let arms = Self { opened, plans, folder, report };
        record_arms(experiment, &arms.checkouts(), &arms.folder)?;
        Ok((!arms.opened.is_empty()).then_some(arms))
    }

    /// The checkouts by the name of the arm.
    fn checkouts(&self) -> BTreeMap<String, super::Checkout> {
        self.opened.iter().map(|(name, opened)| (name.clone(), opened.session.checkout.clone())).collect()
    }

    fn carry_out(
        &mut self,
        plan: &RunPlan,
        arm: &ArmPlan,
        folder: &RunFolder,
        resources: &mut Resources,
        stop: &Stop,
    ) -> Result<Summary, BaselineError> {
        let mut report = |event: Report<'_>| (self.report)(plan, event);
        let lacking = || BaselineError::NoPlace { arm: arm.name.clone() };
        let Opened { session, laid_out } = self.opened.get_mut(&arm.name).ok_or_else(lacking)?;
        let stopped = || stop.requested();
        let matching = match laid_out.take() {
            Some((earlier, matching)) if same_budget(&earlier, plan) => matching,
            _ => session.prepare(plan, resources, &stopped, &mut report)?,
        };
        write_document(&folder.plan(), plan)?;
        report(Report::Doing(&format!("{}, seed {}", arm.name, plan.seed)));
        let output = folder.output();
        let request = Request {
            plan,
            checkout: &session.checkout,
            python: &session.python,
            environment: &session.environment,
            base: &session.base,
            matching: &matching,
            machine: &session.machine,
            variant: Variant::of(plan),
            timeout: session.timeout,
            block: None,
            arm: Some(arm),
            output: Some(&output),
        };
        let carried = carry_out(&request, &stopped, &mut |event| report(Report::Run(event)))?;
        report(Report::Ended(&carried.run));
        // The run may not have changed what the next one is measured by.
        let unchanged = super::Checkout::open(&session.checkout.path)?.require(&session.checkout.commit);
        let mut summary = arm_summary::summarize(plan, folder, &carried, &matching)?;
        let environment = arm_summary::environment(plan, &session.environment, session.hardware_matches);
        write_document(&folder.environment(), &environment)?;
        *laid_out = Some((plan.clone(), matching));
        if let Err(error) = unchanged {
            fail(&mut summary, with_help(&error), &carried.last_lines);
        } else if summary.status == RunStatus::Finished
            && let Some(reason) = arm_summary::ignored_seed(plan, &summary, &self.other_seeds(plan))
        {
            fail(&mut summary, reason, &carried.last_lines);
        }
        arm_summary::write(folder, &summary)?;
        Ok(summary)
    }

    /// What the arm's finished runs under other seeds recorded.
    fn other_seeds(&self, plan: &RunPlan) -> Vec<(u64, Summary)> {
        let others = self.plans.iter().filter(|other| other.axes == plan.axes && other.seed != plan.seed);
        let finished = others.filter_map(|other| match state_of(other, &self.folder.run(&other.run_id).ok()?) {
            RunState::Done { summary, .. } => Some((other.seed, *summary)),
            _ => None,
        });
        finished.collect()
    }
}

/// Makes a failure of a run that came to its end.
fn fail(summary: &mut Summary, reason: String, last_lines: &[String]) {
    if let Some(evidence) = &mut summary.arm {
        evidence.last_lines = last_lines.to_vec();
    }
    summary.status = RunStatus::Failed;
    summary.reason = Some(reason);
}

/// Whether a run that starts from the control's weights lacks them.
fn needs_weights(plans: &[RunPlan], commit: Option<&str>, root: &ResultsRoot) -> bool {
    let lacks =
        |plan: &RunPlan| root.baseline_weights(commit.unwrap_or_default(), plan).is_ok_and(|path| !path.is_file());
    with_control_weights(plans).any(lacks)
}

/// The runs that start from the control's weights.
fn with_control_weights(plans: &[RunPlan]) -> impl Iterator<Item = &RunPlan> {
    plans.iter().filter(|plan| plan.init == InitPlan::Control)
}

fn is_done(plan: &RunPlan, folder: &ExperimentFolder) -> bool {
    folder.run(&plan.run_id).is_ok_and(|run| matches!(state_of(plan, &run), RunState::Done { .. }))
}

impl ForeignArms for Arms<'_> {
    fn run(
        &mut self,
        plan: &RunPlan,
        folder: &RunFolder,
        resources: &mut Resources,
        stop: &Stop,
    ) -> Result<Summary, RunError> {
        let Some(arm) = plan.arm.clone() else { return Err(RunError::NoArm { run_id: plan.run_id.clone() }) };
        create_folder(folder.path())?;
        self.carry_out(plan, &arm, folder, resources, stop).map_err(|error| match error {
            BaselineError::Resources(error) => error,
            BaselineError::Stopped => RunError::Stopped,
            error => RunError::Arm { arm: arm.name, reason: with_help(&error) },
        })
    }
}
