//! The Python environment that the baseline runs in: what it has, and how it is asked.
//!
//! The only place where Python is started: isolated, so that no file of the current folder or of the surroundings is
//! imported. Our own small scripts are handed to the interpreter by `-c` and run in an empty folder. They answer with one
//! line of JSON after a mark, since imports may print what they like.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use nanochat_plan::DeviceKind;

use super::process::{Ending, Limits, Stream, run};
use super::{BaselineError, Checkout};

/// What the training script imports at the pinned commit: module and distribution.
const PACKAGES: [(&str, &str); 10] = [
    ("torch", "torch"),
    ("pyarrow.parquet", "pyarrow"),
    ("tiktoken", "tiktoken"),
    ("rustbpe", "rustbpe"),
    ("numpy", "numpy"),
    ("filelock", "filelock"),
    ("requests", "requests"),
    ("wandb", "wandb"),
    ("yaml", "PyYAML"),
    ("jinja2", "Jinja2"),
];

/// Before a script's answer.
const MARK: &str = "nanochat-answer ";
/// Most of a script's output that is kept.
const MOST_OUTPUT: usize = 1 << 20;
/// The longest that one of our own scripts may take; importing PyTorch from a cold disk takes most of it.
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// What an environment has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Environment {
    /// Version of Python.
    pub python: String,
    /// Versions by distribution.
    pub packages: BTreeMap<String, String>,
    /// Distributions that can't be imported, each with what Python said.
    pub missing: BTreeMap<String, String>,
    /// CUDA version that PyTorch was built for.
    pub cuda: Option<String>,
    /// Device types that PyTorch sees: `cpu`, `cuda`, `mps`.
    pub devices: Vec<String>,
    /// Names of the GPUs.
    pub accelerators: Vec<String>,
}

impl Environment {
    /// Versions of everything, Python included, for a result.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = self.packages.clone();
        versions.insert("python".to_string(), self.python.clone());
        if let Some(cuda) = &self.cuda {
            versions.insert("cuda".to_string(), cuda.clone());
        }
        versions
    }
}

/// Switches of the interpreter: isolation ignores Python's variables, so what they would set is said here: no buffers, no
/// compiled files left.
const ISOLATED: [&str; 5] = ["-I", "-u", "-B", "-X", "utf8"];

/// What the launcher is told.
pub(super) struct Launch<'a> {
    /// The file that it writes its evidence to.
    pub evidence: &'a Path,
    /// The seed that the module asks for, and the run's.
    pub seeds: (u64, u64),
    /// The module.
    pub module: &'a str,
    /// Number of processes.
    pub processes: u64,
}

/// An interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    path: PathBuf,
}

impl Python {
    /// An interpreter by its path, or by a name that is looked up where programs are.
    pub fn new(path: &Path) -> Self {
        // The child runs in another folder. A virtual environment's interpreter is a link that must not be followed.
        let named = path.components().count() == 1;
        let absolute = if named { None } else { std::path::absolute(path).ok() };
        Self { path: absolute.unwrap_or_else(|| path.to_path_buf()) }
    }

    /// The interpreter.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks what the environment has.
    ///
    /// # Errors
    /// Python can't be run, doesn't answer in time, or a stop was requested. Missing packages are part of the answer.
    pub fn probe(&self, timeout: Duration, stop: &dyn Fn() -> bool) -> Result<Environment, BaselineError> {
        let mut command = self.isolated();
        command
            .args(["-c", include_str!("scripts/probe.py"), "probe"])
            .args(PACKAGES.map(|(module, distribution)| format!("{module}={distribution}")));
        self.answer_of(command, timeout, stop).map_err(|failure| match failure {
            Failure::Stopped => BaselineError::Stopped,
            Failure::Said(reason) => BaselineError::Python { path: self.path.clone(), reason },
        })
    }

    /// Refuses an environment that can't train the plan's model.
    ///
    /// # Errors
    /// [`BaselineError::MissingPackages`], [`BaselineError::NoDevice`].
    pub fn require(&self, environment: &Environment, device: DeviceKind) -> Result<(), BaselineError> {
        if !environment.missing.is_empty() {
            let missing = environment.missing.iter().map(|(package, said)| format!("{package} ({said})")).collect();
            return Err(BaselineError::MissingPackages { path: self.path.clone(), missing });
        }
        let wanted = device_type(device);
        if !environment.devices.iter().any(|found| found == wanted) {
            let version = environment.packages.get("torch").cloned().unwrap_or_default();
            return Err(BaselineError::NoDevice { wanted, version, found: environment.devices.join(", ") });
        }
        Ok(())
    }

    /// Runs one of our scripts, which imports the checkout's modules, with the variables of a run, and gives its answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        checkout: &Checkout,
        script: &Script<'_>,
        variables: &[(&str, String)],
        stop: &dyn Fn() -> bool,
    ) -> Result<T, BaselineError> {
        let mut command = self.isolated();
        command.args(["-c", &with_modules_of(checkout, script.text), script.name]).args(script.arguments);
        set_variables(&mut command, variables);
        self.answer_of(command, SCRIPT_TIMEOUT, stop).map_err(|failure| match failure {
            Failure::Stopped => BaselineError::Stopped,
            Failure::Said(reason) => BaselineError::Script { task: script.task, reason },
        })
    }

    /// A module of the checkout as the program, in the checkout's folder, where it may look for its own files. The
    /// checkout must have been found unmodified.
    pub(super) fn module(&self, checkout: &Checkout, module: &str) -> Command {
        let mut command = self.isolated();
        command.args(["-c", &with_modules_of(checkout, include_str!("scripts/module.py")), module]);
        command.current_dir(&checkout.path);
        command
    }

    /// A module of the checkout as the program, with the run's seed in the place of its fixed one, as one process or as many
    /// as there are devices. The checkout must have been found unmodified.
    pub(super) fn launcher(&self, checkout: &Checkout, launch: &Launch<'_>) -> Command {
        let script = with_modules_of(checkout, include_str!("scripts/seeded.py"));
        let mut command = self.isolated();
        if launch.processes > 1 {
            command.args(["-m", "torch.distributed.run", "--standalone"]);
            command.arg(format!("--nproc_per_node={}", launch.processes)).arg("--no-python");
            command.arg(&self.path).args(ISOLATED);
        }
        command.arg("-c").arg(script).arg(launch.evidence);
        command.args([launch.seeds.0.to_string(), launch.seeds.1.to_string()]).arg(launch.module);
        command.current_dir(&checkout.path);
        command
    }

    /// The interpreter, which finds modules in its own environment alone: not in the current folder, not in
    /// `PYTHONPATH`, not in the user's own packages.
    fn isolated(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(ISOLATED);
        command
    }

    /// Runs one of our scripts in an empty folder.
    fn answer_of<T: DeserializeOwned>(
        &self,
        mut command: Command,
        timeout: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<T, Failure> {
        let folder = tempfile::Builder::new().prefix("nanochat-python-").tempdir();
        let folder = folder.map_err(|error| Failure::Said(format!("no temporary folder can be made: {error}")))?;
        answer(command.current_dir(folder.path()), &Limits { timeout, stop })
    }
}

/// A script before which the checkout becomes the first place where modules are looked for.
fn with_modules_of(checkout: &Checkout, script: &str) -> String {
    // JSON's spelling of a text is one that Python reads.
    let place = serde_json::Value::from(checkout.path.to_string_lossy());
    format!("import sys\nsys.path.insert(0, {place})\n{script}")
}

/// One of our own scripts.
pub(super) struct Script<'a> {
    /// Its text.
    pub text: &'static str,
    /// Its name, the first argument that it sees.
    pub name: &'static str,
    /// What it does, for messages, as in "failed while …".
    pub task: &'static str,
    /// Its other arguments.
    pub arguments: &'a [String],
}

/// The baseline's name of a device.
pub(super) fn device_type(device: DeviceKind) -> &'static str {
    match device {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Cuda => "cuda",
        DeviceKind::Metal => "mps",
    }
}

/// Sets variables for a child, and clears those by which a launcher would make it one of several processes.
pub(super) fn set_variables(command: &mut Command, variables: &[(&str, String)]) {
    for variable in ["RANK", "LOCAL_RANK", "WORLD_SIZE"] {
        command.env_remove(variable);
    }
    for (name, value) in variables {
        command.env(name, value);
    }
}

enum Failure {
    Stopped,
    Said(String),
}

/// Runs a command and parses the line after the mark.
fn answer<T: DeserializeOwned>(command: &mut Command, limits: &Limits<'_>) -> Result<T, Failure> {
    let (mut printed, mut complaints) = (Vec::new(), Vec::new());
    let mut keep = |stream: Stream, bytes: &[u8], _: f64| {
        let kept = if stream == Stream::Out { &mut printed } else { &mut complaints };
        kept.extend_from_slice(bytes.get(..bytes.len().min(MOST_OUTPUT - kept.len())).unwrap_or_default());
    };
    let finished = run(command, limits, &mut keep).map_err(|error| Failure::Said(format!("can't be run: {error}")))?;
    let complaints = String::from_utf8_lossy(&complaints).into_owned();
    let last_words = complaints.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim();
    match finished.ending {
        Ending::Stopped => return Err(Failure::Stopped),
        Ending::TimedOut => {
            return Err(Failure::Said(format!("no answer within {} seconds", limits.timeout.as_secs())));
        }
        Ending::Killed(signal) => return Err(Failure::Said(format!("ended by signal {signal}: {last_words}"))),
        Ending::Exited(0) => {}
        Ending::Exited(code) => return Err(Failure::Said(format!("exit code {code}: {last_words}"))),
    }
    let printed = String::from_utf8_lossy(&printed);
    let line = printed.lines().rev().find_map(|line| line.strip_prefix(MARK));
    let line = line.ok_or_else(|| Failure::Said("it doesn't answer as Python does".into()))?;
    serde_json::from_str(line).map_err(|error| Failure::Said(format!("its answer can't be read: {error}")))
}
