//! Sets a checkout up: a clone at a commit, an environment from its own lock file, and a run of two steps.
//!
//! The programs that do this (git, `uv`, Python's `venv` and `pip`) are the user's, and so are the repository and the folder.
//! A folder that is a checkout already stays as it is but for its environment, `.venv`, which git ignores there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nanochat_artifacts::{ArtifactError, BaselineRun, ResultsRoot, RunStatus, files, git};
use nanochat_plan::{
    ArmEngine, ArmPlan, BudgetPlan, DataPlan, DeriveInputs, DeviceKind, EvalPlan, OptimizerPlan, Profile, RunPlan,
    Settings, TokenizerPlan,
};

use super::arm::{Request, Variant, record_run};
use super::process::{Ending, Limits, run};
use super::{BaselineError, Checkout, Place, Report, Session};
use crate::run::Resources;

/// Where the checkout is cloned from unless the user says otherwise.
pub const REPOSITORY: &str = "https://github.com/karpathy/nanochat";
/// The longest that the making of an environment may take: it loads gigabytes.
const INSTALLATION: Duration = Duration::from_secs(3 * 3600);
/// The longest that a run of two steps may take: the first one compiles.
const TWO_STEPS: Duration = Duration::from_secs(1800);
/// The longest project or lock file that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// What to set up.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The folder; it is made if need be.
    pub folder: &'a Path,
    /// The repository, by address or path.
    pub repository: &'a str,
    /// The commit; what the repository's main branch is at otherwise, or what the folder has checked out.
    pub commit: Option<&'a str>,
    /// Which build of PyTorch: `cpu` or `gpu`.
    pub extra: &'a str,
    /// An interpreter whose environment is used as it is.
    pub python: Option<&'a Path>,
}

/// What was set up.
#[derive(Debug)]
pub struct Ready {
    /// The checkout.
    pub checkout: Checkout,
    /// The interpreter.
    pub python: PathBuf,
    /// The run of two steps.
    pub run: BaselineRun,
}

/// Sets a checkout up and checks it by a run of two steps.
///
/// # Errors
/// A step fails: what it said, and what is missing.
pub fn set_up(
    setup: &Setup<'_>,
    device: DeviceKind,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report<'_>),
) -> Result<Ready, BaselineError> {
    let mut tell = |what: &str| report(Report::Doing(what));
    let checkout = clone(setup, &mut tell)?;
    let python = match setup.python {
        Some(python) => python.to_path_buf(),
        None => environment(&checkout.path, setup.extra, stop, &mut tell)?,
    };
    let run = two_steps(&checkout, &python, device, stop, report)?;
    if run.status != RunStatus::Finished {
        let reason = run.reason.unwrap_or_default();
        return Err(BaselineError::Setup { step: "a run of two steps".into(), reason });
    }
    Ok(Ready { checkout, python, run })
}

/// The checkout at the commit; cloned where the folder isn't one.
fn clone(setup: &Setup<'_>, tell: &mut dyn FnMut(&str)) -> Result<Checkout, BaselineError> {
    let failed = |step: &str| {
        let step = step.to_string();
        move |error: ArtifactError| BaselineError::Setup { step, reason: error.to_string() }
    };
    if !setup.folder.join(".git").exists() {
        tell(&format!("cloning {}", setup.repository));
        git::clone(setup.repository, setup.folder).map_err(failed("cloning the repository"))?;
    }
    if let Some(commit) = setup.commit {
        let git = git::Git::at(setup.folder);
        let has = git.output(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")]).is_ok();
        if !has {
            let (folder, commit) = (setup.folder.to_path_buf(), commit.to_string());
            return Err(BaselineError::NoCommit { path: folder, commit });
        }
        let there = Checkout::open(setup.folder).is_ok_and(|checkout| checkout.commit == commit);
        if !there {
            git.output(&["checkout", "--quiet", "--detach", commit]).map_err(failed("checking the commit out"))?;
        }
    }
    let checkout = Checkout::open(setup.folder)?;
    checkout.require(setup.commit.unwrap_or(&checkout.commit))?;
    Ok(checkout)
}

/// Makes the environment: by `uv` from the checkout's lock file, else by `venv` and `pip` with the versions of that file.
fn environment(
    folder: &Path,
    extra: &str,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&str),
) -> Result<PathBuf, BaselineError> {
    let own = if cfg!(windows) { ".venv/Scripts/python.exe" } else { ".venv/bin/python" };
    let python = folder.join(own);
    let has_uv = Command::new("uv").arg("--version").output().is_ok_and(|output| output.status.success());
    if has_uv {
        tell("making the environment with uv");
        let mut uv = Command::new("uv");
        uv.args(["sync", "--frozen", "--no-install-project", "--extra", extra]).current_dir(folder);
        finish("`uv sync`", &mut uv, stop)?;
        return Ok(python);
    }
    let packages = locked_packages(folder)?;
    tell("making the environment with venv and pip");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", ".venv"]).current_dir(folder);
    finish("`python3 -m venv`", &mut venv, stop)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(packages).current_dir(folder);
    finish("`pip install`", &mut pip, stop)?;
    Ok(python)
}

/// Runs a program to its end.
fn finish(what: &str, command: &mut Command, stop: &dyn Fn() -> bool) -> Result<(), BaselineError> {
    let failed = |reason: String| BaselineError::Setup { step: what.to_string(), reason };
    let mut said: Vec<u8> = Vec::new();
    let limits = Limits { timeout: INSTALLATION, stop };
    let finished = run(command, &limits, &mut |_, bytes, _| {
        said.extend_from_slice(bytes);
        let excess = said.len().saturating_sub(1 << 12);
        said.drain(..excess);
    });
    let finished = finished.map_err(|error| failed(format!("it can't be started: {error}")))?;
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ");
    match finished.ending {
        Ending::Exited(0) => Ok(()),
        Ending::Stopped => Err(BaselineError::Stopped),
        Ending::TimedOut => Err(failed("it took too long".to_string())),
        Ending::Exited(code) => Err(failed(format!("exit code {code}: {last}"))),
        Ending::Killed(signal) => Err(failed(format!("killed by signal {signal}: {last}"))),
    }
}

/// What the project depends on, each at the version of its lock file: `torch==2.9.1`.
fn locked_packages(folder: &Path) -> Result<Vec<String>, BaselineError> {
    let read = |name: &str| {
        let path = folder.join(name);
        files::read_text(&path, LONGEST)
            .map_err(|error| BaselineError::Setup { step: format!("reading its {name}"), reason: error.to_string() })
    };
    Ok(pinned(&dependencies(&read("pyproject.toml")?), &read("uv.lock")?))
}

/// Names in the list `dependencies` of a project file.
fn dependencies(project: &str) -> Vec<String> {
    let list = project.lines().skip_while(|line| !line.starts_with("dependencies = ["));
    let items = list.skip(1).take_while(|line| !line.starts_with(']'));
    let name = |line: &str| {
        let text = line.trim().trim_matches(|c| matches!(c, '"' | ','));
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
        text.get(..end.unwrap_or(text.len())).unwrap_or_default().to_string()
    };
    items.map(name).filter(|name| !name.is_empty()).collect()
}

/// Each name with its version in a lock file, builds for one device (`2.9.1+cpu`) left to the package index.
fn pinned(names: &[String], lock: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, &str> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(found) = value("name") {
            name = found;
        } else if let Some(version) = value("version").filter(|_| !name.is_empty()) {
            let plain = version.split('+').next().unwrap_or(version);
            versions.entry(name).or_insert(plain);
            name = "";
        }
    }
    names
        .iter()
        .map(|name| versions.get(name.as_str()).map_or(name.clone(), |version| format!("{name}=={version}")))
        .collect()
}

/// A run of two steps of a small model on generated data.
fn two_steps(
    checkout: &Checkout,
    python: &Path,
    device: DeviceKind,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report<'_>),
) -> Result<BaselineRun, BaselineError> {
    let arm = ArmPlan {
        name: "check".into(),
        engine: ArmEngine::Karpathy,
        commit: Some(checkout.commit.clone()),
        flags: BTreeMap::new(),
    };
    let plan = small_plan(&arm, device)?;
    let place = Place { checkout: &checkout.path, python, base_dir: None, timeout: TWO_STEPS, hardware_matches: false };
    let session = Session::open(&place, &checkout.commit, &[&plan], stop)?;
    let mut resources = Resources::new(&ResultsRoot::new("").with_cache(None));
    let matching = session.prepare(&plan, &mut resources, stop, report)?;
    report(Report::Doing("two steps of a small model"));
    let request = Request {
        plan: &plan,
        checkout: &session.checkout,
        python: &session.python,
        environment: &session.environment,
        base: &session.base,
        matching: &matching,
        machine: &session.machine,
        variant: Variant::of(&plan),
        timeout: session.timeout,
        block: None,
        arm: Some(&arm),
        output: None,
    };
    record_run(&request, stop, &mut |event| report(Report::Run(event)))
}

fn small_plan(arm: &ArmPlan, device: DeviceKind) -> Result<RunPlan, BaselineError> {
    let inputs = DeriveInputs {
        aspect_ratio: 64,
        head_dim: 64,
        sequence_len: 128,
        window_pattern: "L".into(),
        total_batch_size: Some(512),
        budget: BudgetPlan::Iterations(2),
        ..DeriveInputs::baseline(2, 512)
    };
    let data = DataPlan::Synthetic { seed: 1, bytes: 300_000 };
    let tokenizer = TokenizerPlan::Train { vocab_size: 512, max_chars_per_document: 10_000, max_chars: 200_000 };
    let settings = Settings {
        arm: Some(arm.clone()),
        optimizer: OptimizerPlan { warmup_steps: 1, ..OptimizerPlan::BASELINE },
        eval: EvalPlan { every: 2, tokens: 512, core: None },
        ..Settings::baseline(inputs, data, tokenizer, Profile { device, ..Profile::cpu(4, 0) })
    };
    let impossible = |error: nanochat_plan::PlanError| BaselineError::NoFlag { what: error.to_string() };
    settings.plan("check", &BTreeMap::new(), 43).map_err(impossible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_the_versions_of_the_lock_file() {
        let project = "[project]\nname = \"x\"\ndependencies = [\n    \"numpy>=1.26.0\",\n    \"torch==2.9.1\",\n    \"absent\",\n]\n\n[dependency-groups]\ndev = [\n    \"pytest\",\n]\n";
        let lock = "version = 1\n\n[[package]]\nname = \"numpy\"\nversion = \"2.2.6\"\n\n[[package]]\nname = \"torch\"\nversion = \"2.9.1+cpu\"\n\n[[package]]\nname = \"torch\"\nversion = \"2.9.1\"\n";
        assert_eq!(pinned(&dependencies(project), lock), ["numpy==2.2.6", "torch==2.9.1", "absent"]);
    }
}
