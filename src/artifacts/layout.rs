//! Where each document lies. The one place, with `checkpoint`, that knows file names.
//!
//! Paths stay the same when a run is repeated, so that a diff in git shows old against new figures. Names that come
//! from specs are checked before they become parts of paths: no separators, no dots in front, no device names.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ArtifactError, MAX_NAME_BYTES, files};
use nanochat_plan::RunPlan;

/// Checks that a name can be one part of a path on every system.
///
/// # Errors
/// [`ArtifactError::Name`] saying why not.
pub fn check_name<'a>(what: &'static str, name: &'a str) -> Result<&'a str, ArtifactError> {
    let refuse = |why| Err(ArtifactError::Name { what, name: name.to_string(), why });
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse("it is too long");
    }
    if !name.chars().all(allowed) {
        return refuse("it has characters other than letters, digits, `-`, `_` and `.`");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it doesn't begin with a letter or digit");
    }
    if name.ends_with('.') {
        return refuse("it ends in a dot");
    }
    if is_device_name(name) {
        return refuse("it is a device name on Windows");
    }
    Ok(name)
}

/// `con`, `nul`, `com1` and their kind, with or without an extension.
fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    match stem.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        _ => {
            let numbered = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
            numbered.is_some_and(|digits| digits.len() == 1 && digits.bytes().all(|b| b.is_ascii_digit()))
        }
    }
}

/// A project's folder: the root that `results/` and `reports/` lie under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsRoot {
    project: PathBuf,
    cache: Option<PathBuf>,
}

impl ResultsRoot {
    /// The layout under a project's folder.
    pub fn new(project: impl Into<PathBuf>) -> Self {
        let project = project.into();
        let cache = Some(project.join(".nanochat-cache"));
        Self { project, cache }
    }

    /// The layout whose `results/` is this folder.
    ///
    /// # Errors
    /// A folder that can't be resolved or isn't called `results`.
    pub fn of_results(results: &Path) -> Result<Self, ArtifactError> {
        files::refuse_link(results).map_err(|e| ArtifactError::io("use", results, e))?;
        let resolved = results.canonicalize().map_err(|e| ArtifactError::io("resolve", results, e))?;
        let parent = resolved.parent().filter(|_| resolved.file_name().is_some_and(|name| name == "results"));
        let misplaced =
            || ArtifactError::Misplaced { path: results.to_path_buf(), expected: "a folder named `results`" };
        parent.map(Self::new).ok_or_else(misplaced)
    }

    /// The same with another folder for what can be made anew, or with none.
    pub fn with_cache(self, cache: Option<PathBuf>) -> Self {
        Self { cache, ..self }
    }

    /// `.nanochat-cache/`, not in git: what can be made anew. None when nothing is to be kept.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// The project's folder.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// `results/`.
    pub fn results(&self) -> PathBuf {
        self.project.join("results")
    }

    /// `reports/`.
    pub fn reports(&self) -> PathBuf {
        self.project.join("reports")
    }

    /// `results/<experiment>/`; the name is checked.
    pub fn experiment(&self, name: &str) -> Result<ExperimentFolder, ArtifactError> {
        let place = Path::new("results").join(check_name("the experiment name", name)?);
        Ok(ExperimentFolder::at(files::beneath(&self.project, place)?))
    }

    /// `experiments/noise.json`: the noise that plans count with where an experiment has recorded none of its own.
    pub fn noise(&self) -> PathBuf {
        self.project.join("experiments").join("noise.json")
    }

    /// `results/LEADERBOARD.md`.
    pub fn leaderboard(&self) -> PathBuf {
        self.results().join("LEADERBOARD.md")
    }

    /// `reports/<experiment>.md`; the name is checked.
    pub fn report_markdown(&self, experiment: &str) -> Result<PathBuf, ArtifactError> {
        self.report(experiment, "md")
    }

    /// `reports/<experiment>.html`; the name is checked.
    pub fn report_html(&self, experiment: &str) -> Result<PathBuf, ArtifactError> {
        self.report(experiment, "html")
    }

    fn report(&self, experiment: &str, extension: &str) -> Result<PathBuf, ArtifactError> {
        let file = format!("{}.{extension}", check_name("the experiment name", experiment)?);
        files::beneath(&self.project, "reports").map(|reports| reports.join(file))
    }

    /// `results/baselines/<first 12 digits of the commit>/<name>.json`.
    pub fn baseline(&self, commit: &str, name: &str) -> Result<PathBuf, ArtifactError> {
        let commit = check_name("the baseline commit", commit.get(..12).unwrap_or(commit))?;
        let file = format!("{}.json", check_name("the recording's name", name)?);
        Ok(files::beneath(&self.project, Path::new("results/baselines").join(commit))?.join(file))
    }

    /// `results/baselines/<first 12 digits of the commit>/weights/<name>.safetensors`, not in git: what the baseline
    /// starts from for the plan's shape, seed and arithmetic. The name tells these apart.
    pub fn baseline_weights(&self, commit: &str, plan: &RunPlan) -> Result<PathBuf, ArtifactError> {
        let commit = check_name("the baseline commit", commit.get(..12).unwrap_or(commit))?;
        let decides = format!("{:?} {:?} {:?} {}", plan.model, plan.dtype, plan.device, plan.seed);
        let digest = super::bytes_sha256(decides.as_bytes());
        let digits = digest.get(..12).unwrap_or_default();
        let file = format!("d{}-seed{}-{digits}.safetensors", plan.model.n_layer, plan.seed);
        let folder = Path::new("results/baselines").join(commit).join("weights");
        Ok(files::beneath(&self.project, folder)?.join(file))
    }

    /// All experiment folders that hold a record, sorted by name. None when `results/` isn't there.
    pub fn experiments(&self) -> Result<Vec<ExperimentFolder>, ArtifactError> {
        let results = files::beneath(&self.project, "results")?;
        if !results.is_dir() {
            return Ok(Vec::new());
        }
        let folders = subfolders(&results)?.into_iter().map(ExperimentFolder::at);
        Ok(folders.filter(|folder| files::is_there(&folder.record())).collect())
    }

    /// All recorded baseline results, sorted by path.
    pub fn baselines(&self) -> Result<Vec<PathBuf>, ArtifactError> {
        let folder = files::beneath(&self.project, "results/baselines")?;
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for commit in subfolders(&folder)? {
            files.extend(entries(&commit)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")));
        }
        Ok(files)
    }
}

/// `results/<experiment>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExperimentFolder {
    path: PathBuf,
}

impl ExperimentFolder {
    /// Takes a folder for an experiment's, wherever it lies.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// `experiment.json`.
    pub fn record(&self) -> PathBuf {
        self.path.join("experiment.json")
    }

    /// `scorecard.json`.
    pub fn scorecard(&self) -> PathBuf {
        self.path.join("scorecard.json")
    }

    /// `arms.json`: the arms and how they differ.
    pub fn arms(&self) -> PathBuf {
        self.path.join("arms.json")
    }

    /// `timing.json`: the timing session that speed is judged from.
    pub fn timing(&self) -> PathBuf {
        self.path.join("timing.json")
    }

    /// `.timing/`, not in git: who makes the timing session, and what is made of it.
    ///
    /// # Errors
    /// A link in its place.
    pub fn timing_work(&self) -> Result<PathBuf, ArtifactError> {
        files::beneath(&self.path, ".timing")
    }

    /// `.timing/blocks.json`: the blocks of a timing session that isn't whole.
    ///
    /// # Errors
    /// A link in its folder's place.
    pub fn timing_blocks(&self) -> Result<PathBuf, ArtifactError> {
        Ok(self.timing_work()?.join("blocks.json"))
    }

    /// `noise.json`: what A/A runs of the experiment showed.
    pub fn noise(&self) -> PathBuf {
        self.path.join("noise.json")
    }

    /// `<run-id>/`; the id is checked.
    pub fn run(&self, run_id: &str) -> Result<RunFolder, ArtifactError> {
        Ok(RunFolder::at(files::beneath(&self.path, check_name("the run id", run_id)?)?))
    }

    /// Folders of runs that lie here, planned or not, sorted by name.
    pub fn run_folders(&self) -> Result<Vec<RunFolder>, ArtifactError> {
        let folders = subfolders(&self.path)?.into_iter().map(RunFolder::at);
        Ok(folders.filter(|run| files::is_there(&run.plan()) || files::is_there(&run.summary())).collect())
    }
}

/// `results/<experiment>/<run-id>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Takes a folder for a run's, wherever it lies.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name, which is the run id.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// `plan.json`.
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// `summary.json`.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// `environment.json`.
    pub fn environment(&self) -> PathBuf {
        self.path.join("environment.json")
    }

    /// `steps.parquet`.
    pub fn steps(&self) -> PathBuf {
        self.path.join("steps.parquet")
    }

    /// `evals.parquet`.
    pub fn evals(&self) -> PathBuf {
        self.path.join("evals.parquet")
    }

    /// `log.jsonl`; not in git.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// `output.log`: what the script of another program printed; not in git.
    pub fn output(&self) -> PathBuf {
        self.path.join("output.log")
    }

    /// The files of a run, in git or not; what else lies in its folder is not from this program.
    pub fn files(&self) -> [PathBuf; 7] {
        [self.plan(), self.summary(), self.environment(), self.steps(), self.evals(), self.log(), self.output()]
    }

    /// `checkpoints/`; not in git.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

/// The entries of a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    let read = fs::read_dir(folder).map_err(|e| ArtifactError::io("list", folder, e))?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.map_err(|e| ArtifactError::io("list", folder, e))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The folders inside a folder, hidden ones left out, sorted by name. A link to a folder is an error.
pub(crate) fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let folders: Vec<_> = entries(folder)?.into_iter().filter(|path| path.is_dir() && !hidden(path)).collect();
    for path in &folders {
        files::refuse_link(path).map_err(|e| ArtifactError::io("use", path, e))?;
    }
    Ok(folders)
}
