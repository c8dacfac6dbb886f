//! Arguments that name a spec or a checkpoint, and what they open.

use std::path::{Path, PathBuf};

use candle_core::Device;

use nanochat_engine::trained::Trained;
use nanochat_experiment::LoadOptions;
use nanochat_plan::DeviceKind;

use super::CliError;
use super::device;
use super::names;
use crate::run::{MachineCheck, OpenError, Opened, Request, Scope, Warning};

/// A spec and what is laid over it.
#[derive(Debug, clap::Args)]
pub struct SpecArgs {
    /// The experiment spec
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    #[command(flatten)]
    pub overlay: Overlay,
    /// Only cells with this axis value, such as model.depth=12; several narrow further, values of one axis add up
    #[arg(long, value_name = "AXIS=VALUE", add = names::axes())]
    pub only: Vec<String>,
}

/// Values laid over a spec.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overlay {
    /// Set a value, as a dotted path and any YAML: --set model.depth=8
    #[arg(long = "set", value_name = "KEY=VALUE", add = names::keys())]
    pub set: Vec<String>,
    /// Use this hardware profile instead of the spec's own
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Read `extends` and profiles that lie outside the project, of a spec that you trust
    #[arg(long)]
    pub allow_outside: bool,
}

impl Overlay {
    /// The library's options, with the process's environment.
    pub fn options(&self) -> LoadOptions {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        LoadOptions {
            overrides: self.set.clone(),
            environment,
            profile: self.profile.clone(),
            vocabulary: Some(vocabulary_size),
            allow_outside: self.allow_outside,
        }
    }
}

/// A checkpoint and the device to use it on.
#[derive(Debug, clap::Args)]
pub struct CheckpointArgs {
    /// A run's folder, its checkpoints/, one of them, or the baseline's folder of model_….pt files or one of these
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// The step to use; the newest by default
    #[arg(long)]
    step: Option<u64>,
    /// The tokenizer, if none is stored with the checkpoint
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_parser = device::devices(), default_value_t)]
    device: DeviceKind,
}

impl CheckpointArgs {
    /// Opens the model.
    pub fn open(&self) -> Result<Trained, CliError> {
        open_trained(&self.checkpoint, self.step, self.tokenizer.as_deref(), &device::open(self.device)?)
    }
}

/// Opens a model and prints its remarks to standard error.
pub fn open_trained(
    path: &Path,
    step: Option<u64>,
    tokenizer: Option<&Path>,
    device: &Device,
) -> Result<Trained, CliError> {
    let trained = Trained::open(path, step, tokenizer, device).map_err(CliError::invalid)?;
    trained.remarks.iter().for_each(|remark| tell!("note: {remark}"));
    Ok(trained)
}

/// The vocabulary size of a stored tokenizer.
pub fn vocabulary_size(path: &Path) -> Result<usize, String> {
    // In a pool of its own: the process's is made only once the spec has said how many threads it has.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| error.to_string())?;
    alone.install(|| read_vocabulary_size(path))
}

fn read_vocabulary_size(path: &Path) -> Result<usize, String> {
    let tokenizer = nanochat_engine::tokenizer::Tokenizer::load(path).map_err(|error| error.to_string())?;
    Ok(tokenizer.vocab_size())
}

impl SpecArgs {
    /// Opens the spec for a command that runs it: its paths must exist.
    pub fn open(&self, scope: Scope, machine: MachineCheck) -> Result<Opened, CliError> {
        self.open_with(scope, machine, true)
    }

    /// Opens the spec for a command that only looks at it: missing paths are warnings.
    pub fn look(&self) -> Result<Opened, CliError> {
        self.open_with(Scope::All, MachineCheck::Skip, false)
    }

    fn open_with(&self, scope: Scope, machine: MachineCheck, needs_paths: bool) -> Result<Opened, CliError> {
        let options = self.overlay.options();
        let opened =
            Opened::open(&Request { spec: &self.spec, options, only: &self.only, scope, needs_paths, machine })?;
        opened.warnings.iter().for_each(warn);
        Ok(opened)
    }
}

/// Tells where the working folder lies in a project and is none itself, whatever the command: results would be looked for, and
/// written, in a place of their own.
pub fn warn_of_project_above() {
    if let Some(project) = crate::run::project_above() {
        tell!(
            "warning: this folder lies in the project {}, and results would go into a `results/` of its own; start from there to use \
             the project's",
            project.display()
        );
    }
}

fn warn(warning: &Warning) {
    match warning {
        Warning::MissingPath(missing) => super::output::report(&miette::Report::new(missing.as_ref().clone())),
        Warning::Machine(mismatch) => tell!("warning: {mismatch}; speed will not be judged"),
        Warning::TooLarge(too_large) => tell!("warning: {too_large}; the run starts all the same"),
        Warning::SameName(error) => tell!("warning: {error}; `run` refuses it"),
        Warning::Derived { from, to } => tell!(
            "warning: with these values the runs are other ones than those recorded as `{from}`, so they are recorded as `{to}`; \
             `--set name=…` gives another name"
        ),
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Threads { .. } => Self::failed(error),
            error => Self::invalid(error),
        }
    }
}
