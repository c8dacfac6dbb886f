//! Opens a spec for a command: loads it, selects cells, expands them to plans, and checks paths and machine.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{ExperimentRecord, ResultsRoot};
use nanochat_experiment::config::{Diagnostic, Severity, SpecErrors};
use nanochat_experiment::{self as experiment, Cell, Expansion, Experiment, LoadOptions};
use nanochat_plan::{PlanError, RunPlan};

use super::estimate::estimate;
use super::noise;
use super::originals;
use crate::hardware::{self, Mismatch, TooLarge};

/// Why a spec can't be opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OpenError {
    /// The spec is invalid, `--only` selects no cell, or a path that the spec names doesn't exist.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecErrors),
    /// A cell can't be planned.
    #[error("{error}")]
    Plan {
        /// Why.
        error: PlanError,
        /// What to change.
        #[help]
        help: Option<String>,
    },
    /// The command works on one run, and the spec has another number of them.
    #[error("the spec has {count} runs, and this command needs exactly one")]
    #[diagnostic(help("select one with --only AXIS=VALUE and --set seed=N, and set reproducibility.repeats to 0"))]
    NotOneRun {
        /// Number of runs.
        count: usize,
    },
    /// Another spec has the name, and so the place of the results.
    #[error("{} has the name `{name}` too, so its results would take each other's place", others.join(", "))]
    #[diagnostic(help("give one of them another `name`; `--set name=…` does for this time"))]
    SameName {
        /// The name.
        name: String,
        /// The other specs.
        others: Vec<String>,
    },
    /// The machine doesn't match the hardware profile.
    #[error("{mismatch}")]
    Machine {
        /// The differences.
        mismatch: Mismatch,
        /// What to change, and what the runs would cost on the profile.
        #[help]
        help: String,
    },
    /// A run doesn't fit into this machine's memory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    TooLarge(#[from] TooLarge),
    /// The thread pool can't be made.
    #[error("the thread pool can't be made: {reason}")]
    #[diagnostic(help("set hardware.threads lower, or check the limit on threads (`ulimit -u`)"))]
    Threads {
        /// Message of the library.
        reason: String,
    },
}

/// A problem that doesn't stop the command.
#[derive(Debug)]
pub enum Warning {
    /// A path that the spec names doesn't exist.
    MissingPath(Box<Diagnostic>),
    /// The machine doesn't match the profile, so speed will not be judged.
    Machine(Mismatch),
    /// A run is estimated to need more memory than there is.
    TooLarge(TooLarge),
    /// Values laid over the spec change its recorded runs, so what they give is recorded under a name of its own.
    Derived {
        /// Name of the spec.
        from: String,
        /// The other name.
        to: String,
    },
    /// Another spec has the same name.
    SameName(Box<OpenError>),
}

/// Which runs of the spec a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All runs of the selected cells.
    All,
    /// The first run of the first selected cell.
    FirstRun,
    /// The first selected cell with this many seeds, against itself.
    Noise {
        /// Number of seeds.
        seeds: u64,
    },
}

/// What a command needs of the machine before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineCheck {
    /// Nothing.
    Skip,
    /// The machine matches the profile.
    Profile {
        /// A mismatch is a warning.
        allow_mismatch: bool,
    },
    /// The machine matches the profile, and its memory holds each run.
    ProfileAndMemory {
        /// A mismatch, or too little memory, is a warning.
        allow_mismatch: bool,
    },
}

/// What to open.
#[derive(Debug)]
pub struct Request<'a> {
    /// The spec.
    pub spec: &'a Path,
    /// Values laid over the spec, and the environment.
    pub options: LoadOptions,
    /// Filters such as `model.depth=12`.
    pub only: &'a [String],
    /// Which runs.
    pub scope: Scope,
    /// Missing paths are errors, else warnings.
    pub needs_paths: bool,
    /// What the machine must be.
    pub machine: MachineCheck,
}

/// A spec, opened for a command.
#[derive(Debug)]
pub struct Opened {
    /// The experiment; with [`Scope::Noise`] the one of the cell against itself.
    pub experiment: Experiment,
    /// The runs, and the cells that have the same plan.
    pub expansion: Expansion,
    /// The project.
    pub root: ResultsRoot,
    /// The machine matches the profile; else speed can't be judged.
    pub hardware_matches: bool,
    /// Problems that don't stop the command.
    pub warnings: Vec<Warning>,
    /// The spec, relative to the project, where it lies there.
    pub spec: Option<String>,
}

/// The project in the working folder. `NANOCHAT_CACHE` names another folder for the cache; an empty value disables it.
pub fn project() -> ResultsRoot {
    let root = ResultsRoot::new("");
    match std::env::var_os("NANOCHAT_CACHE") {
        None => root,
        Some(folder) if folder.is_empty() => root.with_cache(None),
        // The user named it, so it may be a link, unlike the project's own.
        Some(folder) => root.with_cache(Some(Path::new(&folder).canonicalize().unwrap_or_else(|_| folder.into()))),
    }
}

impl Opened {
    /// Opens a spec.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(request: &Request<'_>) -> Result<Self, OpenError> {
        let mut experiment = experiment::load(request.spec, &request.options)?;
        super::needs::memory_of_machine(&mut experiment);
        let mut warnings = missing_paths(&experiment, request)?;
        warnings.extend(same_name(&experiment, request)?);
        let selected: Vec<Cell> = experiment.select(request.only)?.into_iter().cloned().collect();
        let cells = match request.scope {
            Scope::All => selected.len(),
            Scope::FirstRun | Scope::Noise { .. } => 1,
        };
        let root = project();
        if request.scope == Scope::All {
            warnings.extend(derive_name(&mut experiment, request, &root)?);
        }
        if let Scope::Noise { seeds } = request.scope {
            noise::against_itself(&mut experiment, seeds);
        }
        let expanded = experiment::expand_cells(&experiment, selected.iter().take(cells));
        let mut expansion = expanded.map_err(unplannable)?;
        if request.scope == Scope::FirstRun {
            expansion.runs.truncate(1);
        }
        let hardware_matches = check_machine(&experiment, &expansion.runs, request.machine, &mut warnings)?;
        let spec = originals::recorded_path(request.spec);
        Ok(Self { experiment, expansion, root, hardware_matches, warnings, spec })
    }

    /// The record that lies beside the results.
    pub fn record(&self) -> ExperimentRecord {
        ExperimentRecord { spec: self.spec.clone(), ..self.experiment.record(self.plans()) }
    }

    /// The plans.
    pub fn plans(&self) -> &[RunPlan] {
        &self.expansion.runs
    }

    /// The plan of the only run.
    ///
    /// # Errors
    /// There are none or several.
    pub fn one_plan(&self) -> Result<&RunPlan, OpenError> {
        match self.plans() {
            [plan] => Ok(plan),
            plans => Err(OpenError::NotOneRun { count: plans.len() }),
        }
    }

    /// Makes the process's thread pool, with the number of threads of the profile.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn make_thread_pool(&self) -> Result<(), OpenError> {
        let threads = self.experiment.profile().map_or(0, |profile| profile.threads);
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global();
        built.map_err(|error| OpenError::Threads { reason: error.to_string() })
    }
}

fn unplannable(error: PlanError) -> OpenError {
    OpenError::Plan { help: error.help(), error }
}

/// Gives the experiment a name of its own where values laid over the spec would replace what is recorded: at once where results are
/// written or are there already; else it is only told, and the recorded runs are what the plans are compared with.
fn derive_name(
    experiment: &mut Experiment,
    request: &Request<'_>,
    root: &ResultsRoot,
) -> Result<Option<Warning>, OpenError> {
    if request.options.overrides.is_empty() && request.options.profile.is_none() {
        return Ok(None);
    }
    let whole = experiment::expand_cells(experiment, experiment.cells.iter()).map_err(unplannable)?.runs;
    let Some(to) = originals::derived_name(experiment, &whole, &request.options, root) else { return Ok(None) };
    let from = experiment.name.clone();
    if request.needs_paths || root.experiment(&to).is_ok_and(|folder| folder.record().is_file()) {
        experiment.name.clone_from(&to);
    }
    Ok(Some(Warning::Derived { from, to }))
}

/// The project that the working folder lies in, where it is none itself: results would grow beside those of the project.
pub fn project_above() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let is_project = |folder: &Path| folder.join("results").is_dir() && folder.join("experiments").is_dir();
    // Results alone don't make a project: they may have grown here by mistake.
    if here.join("experiments").is_dir() {
        return None;
    }
    here.ancestors().skip(1).find(|folder| is_project(folder)).map(Path::to_path_buf)
}

/// Other specs with the name of this one, beside it or among the project's: an error where its results are written.
fn same_name(experiment: &Experiment, request: &Request<'_>) -> Result<Option<Warning>, OpenError> {
    let beside = request.spec.parent().unwrap_or(Path::new(""));
    let beside = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    let others = experiment::namesakes(request.spec, &experiment.name, &[beside, Path::new("experiments")]);
    if others.is_empty() || request.scope != Scope::All {
        return Ok(None);
    }
    let others = others.iter().map(|path| path.display().to_string()).collect();
    let error = OpenError::SameName { name: experiment.name.clone(), others };
    if request.needs_paths { Err(error) } else { Ok(Some(Warning::SameName(Box::new(error)))) }
}

fn missing_paths(experiment: &Experiment, request: &Request<'_>) -> Result<Vec<Warning>, OpenError> {
    let missing = experiment::missing_paths(experiment);
    if request.needs_paths && !missing.is_empty() {
        return Err(SpecErrors::new(request.spec.display().to_string(), missing).into());
    }
    let warning = |missing| Warning::MissingPath(Box::new(Diagnostic { severity: Severity::Warning, ..missing }));
    Ok(missing.into_iter().map(warning).collect())
}

/// Whether the machine matches the profile. A profile that stands in for the spec's own never does.
fn check_machine(
    experiment: &Experiment,
    plans: &[RunPlan],
    check: MachineCheck,
    warnings: &mut Vec<Warning>,
) -> Result<bool, OpenError> {
    let (memory, allow_mismatch) = match check {
        MachineCheck::Skip => return Ok(true),
        MachineCheck::Profile { allow_mismatch } => (false, allow_mismatch),
        MachineCheck::ProfileAndMemory { allow_mismatch } => (true, allow_mismatch),
    };
    let Some(profile) = experiment.profile() else { return Ok(true) };
    let machine = hardware::this_machine();
    let mut matches = !experiment.stand_in;
    if let Err(mismatch) = hardware::check(profile, &machine) {
        if !allow_mismatch {
            let cost = estimate(plans, &profile.name).filter(|_| memory);
            return Err(refusal(mismatch, cost));
        }
        warnings.push(Warning::Machine(mismatch));
        matches = false;
    }
    if memory && let Err(too_large) = hardware::fits(plans, &machine) {
        if !allow_mismatch {
            return Err(too_large.into());
        }
        warnings.push(Warning::TooLarge(too_large));
    }
    Ok(matches)
}

fn refusal(mismatch: Mismatch, cost: Option<String>) -> OpenError {
    let help = miette::Diagnostic::help(&mismatch).map(|help| help.to_string());
    OpenError::Machine { mismatch, help: help.into_iter().chain(cost).collect::<Vec<_>>().join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "\
schema: nanochat.experiment/v1
name: case
seeds: [3, 4]
hardware: { device: cpu, device_batch_size: 2, dtype: f32, threads: 1, match: { cpu: Z80 } }
data: { source: parquet, path: nowhere }
tokenizer: { train: { vocab_size: 512 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 4 }
optimizer: { total_batch_size: 256 }
matrix: { axes: { optimizer.matrix_lr: [0.01, 0.02] } }
reproducibility: { repeats: 0 }
";

    fn open(only: &[String], change: impl FnOnce(&mut Request<'_>)) -> Result<Opened, OpenError> {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = folder.path().join("spec.yaml");
        std::fs::write(&spec, SPEC).expect("a spec");
        let options = LoadOptions::default();
        let machine = MachineCheck::Skip;
        let mut request = Request { spec: &spec, options, only, scope: Scope::All, needs_paths: false, machine };
        change(&mut request);
        Opened::open(&request)
    }

    #[test]
    fn a_scope_selects_runs() {
        let seeds = |opened: &Opened| opened.plans().iter().map(|plan| plan.seed).collect::<Vec<_>>();
        let all = open(&[], |_| {}).expect("opened");
        assert_eq!((seeds(&all), all.warnings.len()), (vec![3, 4, 3, 4], 1));
        assert!(matches!(all.one_plan(), Err(OpenError::NotOneRun { count: 4 })));
        let first = open(&[], |request| request.scope = Scope::FirstRun).expect("opened");
        assert_eq!(first.one_plan().expect("one run").seed, 3);
        let noise = open(&[], |request| request.scope = Scope::Noise { seeds: 3 }).expect("opened");
        assert_eq!((seeds(&noise), noise.experiment.name.as_str()), (vec![3, 4, 5], "case-noise"));
        let only = ["matrix_lr=0.02".to_string()];
        assert_eq!(open(&only, |_| {}).expect("opened").plans().len(), 2);
    }

    #[test]
    fn a_missing_path_is_an_error_if_the_command_needs_it() {
        let Err(OpenError::Spec(refused)) = open(&[], |request| request.needs_paths = true) else { panic!("opened") };
        assert_eq!(refused.diagnostics.iter().map(|found| found.code).collect::<Vec<_>>(), ["missing-path"]);
    }

    #[test]
    fn a_machine_that_does_not_match_is_an_error_or_a_warning() {
        let check =
            |allow_mismatch| open(&[], |request| request.machine = MachineCheck::ProfileAndMemory { allow_mismatch });
        let Err(OpenError::Machine { help, .. }) = check(false) else { panic!("opened") };
        assert!(help.contains("--profile") && help.contains("this is estimated to take"), "{help}");
        let opened = check(true).expect("opened");
        assert!(!opened.hardware_matches);
        assert!(matches!(opened.warnings.as_slice(), [Warning::MissingPath(_), Warning::Machine(_)]));
    }
}
