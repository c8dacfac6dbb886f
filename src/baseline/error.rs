//! Why the baseline can't be run or its results can't be read.

use std::path::PathBuf;

use nanochat_artifacts::ArtifactError;
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_engine::data::DataError;
use nanochat_engine::tokenizer::TokenizerError;

use crate::run::RunError;

/// Why the baseline can't be run or its results can't be read. A run that was started and fails is not an error: it gives
/// a result with the status `failed`.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BaselineError {
    /// The plan can't be expressed in the baseline's flags.
    #[error("the baseline has no flags for {what}")]
    #[diagnostic(help("change the spec so that both arms can train it"))]
    NoFlag {
        /// The setting.
        what: String,
    },
    /// A file can't be read.
    #[error("can't read {}: {reason}", path.display())]
    #[diagnostic(help("check that the file is what it should be, and its permissions"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The recording of that name belongs to another commit.
    #[error("{}: it was recorded at commit {found}, not {wanted}", path.display())]
    #[diagnostic(help("give another --name"))]
    ForeignRecording {
        /// The recording.
        path: PathBuf,
        /// Its commit.
        found: String,
        /// The spec's commit.
        wanted: String,
    },
    /// The experiment has no baseline arm.
    #[error("this spec compares its runs with a cell of its own, not the baseline")]
    #[diagnostic(help("leave `--with-baseline` out, or replace `baseline.cell` by `baseline.results`"))]
    NoBaselineArm,
    /// A step of setting a checkout up failed.
    #[error("{step} failed: {reason}")]
    #[diagnostic(help(
        "without a network, name a clone that is here with --repository and an environment with --python; else mend the cause and run the same command again"
    ))]
    Setup {
        /// The step.
        step: String,
        /// What it said.
        reason: String,
    },
    /// The repository has no such commit.
    #[error("{}: it has no commit {commit}", path.display())]
    #[diagnostic(help("run `git fetch` there, or clone the fork that has it with --repository"))]
    NoCommit {
        /// The checkout.
        path: PathBuf,
        /// The commit.
        commit: String,
    },
    /// Nobody says where the checkout of an arm is.
    #[error("the arm `{arm}` has no checkout here")]
    #[diagnostic(help("name it with `--checkout {arm}=FOLDER`; `nanochat arm setup FOLDER` makes one"))]
    NoPlace {
        /// The arm.
        arm: String,
    },
    /// The spec names a checkout inside the project.
    #[error("the arm `{arm}`: the spec names a checkout inside the project, {}", path.display())]
    #[diagnostic(help(
        "its code would be run, and it may have come along with the spec: if you trust it, name it with `--checkout {arm}=FOLDER`"
    ))]
    CheckoutInProject {
        /// The arm.
        arm: String,
        /// The folder.
        path: PathBuf,
    },
    /// The folder isn't a checkout of the baseline.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(help("clone karpathy/nanochat there, and check out the spec's commit"))]
    NoCheckout {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The checkout is at another commit.
    #[error("{}: it is at commit {found}, the spec pins {wanted}", path.display())]
    #[diagnostic(help("run `git checkout {wanted}` there"))]
    WrongCommit {
        /// The checkout.
        path: PathBuf,
        /// Its commit.
        found: String,
        /// The spec's commit.
        wanted: String,
    },
    /// The checkout was changed.
    #[error("{}: the baseline must be unmodified, but these files were changed: {}", path.display(), changes.join(", "))]
    #[diagnostic(help("restore them and remove what was added (`git clean -fdx -e .venv`), or make a fresh clone"))]
    Changed {
        /// The checkout.
        path: PathBuf,
        /// Changed and untracked files, with git's status letters.
        changes: Vec<String>,
    },
    /// Python can't be run.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(help("--python must name the interpreter of an environment with the baseline's packages"))]
    Python {
        /// The interpreter.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Packages that the baseline imports are missing.
    #[error("{}: these packages of the baseline can't be imported: {}", path.display(), missing.join("; "))]
    #[diagnostic(help("install them into that environment"))]
    MissingPackages {
        /// The interpreter.
        path: PathBuf,
        /// Packages, each with Python's error.
        missing: Vec<String>,
    },
    /// PyTorch doesn't find the plan's device.
    #[error("the plan asks for {wanted}, but PyTorch {version} in that environment finds {found}")]
    #[diagnostic(help("choose another profile, or install the build of PyTorch for that device"))]
    NoDevice {
        /// The plan's device.
        wanted: &'static str,
        /// PyTorch's version.
        version: String,
        /// The devices that it finds.
        found: String,
    },
    /// The base folder holds files of another program.
    #[error("{}: it is not empty and was not made by this program", path.display())]
    #[diagnostic(help("name a new folder with --base-dir, so that no file of yours is overwritten"))]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or file for the baseline can't be written.
    #[error("can't {operation} {}: {source}", path.display())]
    #[diagnostic(help("check free space and permissions"))]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Documents written for the baseline read back differently.
    #[error("{}: the data written for the baseline reads back differently", path.display())]
    #[diagnostic(help("check whether the disk is full or damaged"))]
    DataDiffer {
        /// The folder.
        path: PathBuf,
    },
    /// One of this program's scripts failed in the baseline's environment.
    #[error("the baseline's own code failed while {task}: {reason}")]
    #[diagnostic(help("see `nanochat baseline check` for the checkout and its environment"))]
    Script {
        /// The task of the script.
        task: &'static str,
        /// Python's error.
        reason: String,
    },
    /// The files of a finished run don't fit together.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(help("give what `scripts.base_train` printed, and the meta_<step>.json of the same run"))]
    Import {
        /// The malformed file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No run of that name is planned.
    #[error("the spec plans no run `{run_id}`")]
    #[diagnostic(help("{nearest}`nanochat plan SPEC` names its runs"))]
    NoRun {
        /// The name.
        run_id: String,
        /// The nearest one that is planned, as a question.
        nearest: String,
    },
    /// The files of a run that was made elsewhere can't be recorded as a planned run.
    #[error("`{run_id}` can't be imported: {reason}")]
    #[diagnostic(help(
        "`nanochat plan SPEC` names the runs with their arms and seeds; `nanochat plan SPEC --explain` says \
                       where each value comes from; without `--spec` the run is recorded as a baseline's"
    ))]
    NotOfArm {
        /// The planned run.
        run_id: String,
        /// Why.
        reason: String,
    },
    /// A stop was requested.
    #[error("stopped by a signal")]
    #[diagnostic(help("finished runs stay recorded; the same command starts again"))]
    Stopped,
    /// Data or tokenizer of a plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Resources(#[from] RunError),
    /// Data.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// Tokenizer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The baseline's checkpoint.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A result.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
}

impl BaselineError {
    /// Wraps a system error about `path`.
    pub(super) fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }
}
