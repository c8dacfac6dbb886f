//! A first spec: from what is compared, on which data, in how much time, to a commented YAML file that `run` brings to a
//! verdict. The engine is measured here for some seconds, and model, budget, evaluation and seeds follow from that.

mod error;
mod fit;
mod measure;
mod noise;
mod question;
mod sizes;
mod spec;

use std::path::{Component, Path, PathBuf};

use nanochat_artifacts::{ResultsRoot, create_folder, files};
use nanochat_experiment::{self as experiment, LoadOptions};
use nanochat_plan::RunPlan;

pub use error::InitError;
pub use noise::Deviation;
pub use question::{Compared, Question, Template, default_file, source};

use fit::Fit;
use measure::Bench;

/// How git treats results: text has the same bytes on every system, and tables are binary.
const ATTRIBUTES: &str = "\
# Results are held against their canonical form: their text has the same bytes everywhere.
* text=auto eol=lf
*.parquet binary
";

/// What a run needs while it goes on, and what can be made anew: nothing to commit.
const IGNORED: &str = "\
/results/*/*/checkpoints/
/results/*/*/log.jsonl
/results/*/*/output.log
/results/*/*/.lock
/results/*/*/.lease-*
/results/*/*/owners.jsonl
/results/*/.slurm/
/results/*/.timing/
/results/baselines/*/weights/
/.nanochat-cache
.tmp-*
";

/// A spec that was written, and what is expected of it.
#[derive(Debug)]
pub struct Written {
    /// The spec's file.
    pub file: PathBuf,
    /// The schema that was written for editors, where the project had none.
    pub schema: Option<PathBuf>,
    /// The list of what git leaves out, where the project had none.
    pub ignored: Option<PathBuf>,
    /// The `.gitattributes`, where the project had none.
    pub attributes: Option<PathBuf>,
    /// The runs.
    pub runs: Vec<RunPlan>,
    /// Seeds of each cell.
    pub seeds: u64,
    /// Expected seconds of all runs together.
    pub seconds: f64,
    /// Measured rate of the engine in tokens a second.
    pub tokens_per_second: f64,
    /// What is known of the noise between seeds.
    pub deviation: Deviation,
    /// Smallest true difference in bits per byte that the seeds show with 80% probability.
    pub detects: f64,
}

/// Measures the engine, and writes the spec and, where the project has none, the schema that editors use.
///
/// # Errors
/// The file is there already, the question can't be answered in the time, or the data can't be used.
pub fn write(question: &Question, root: &ResultsRoot) -> Result<Written, InitError> {
    let file = &question.file;
    if files::is_there(file) {
        return Err(InitError::Exists { path: file.clone() });
    }
    let name = question.name()?;
    let profile = measure::profile(question.profile.as_deref())?;
    let deviation = noise::deviation(root, question.cells(), question.template != Template::Scaling);
    let seeds = fit::seeds(question.difference, &deviation)?;
    let mut bench = Bench::new(question, root, &name, profile);
    let fitted = fit::fit(question, seeds, &mut bench)?;
    let text = spec::render(question, &name, &fitted.draft(question, seeds, &bench, &deviation));
    // What is wrong with the question, such as a key that no spec has, is said as of any spec.
    let checked = experiment::load_bytes(file, text.as_bytes(), &LoadOptions::default())?;
    let runs = experiment::expand(&checked).map_err(InitError::plan)?;
    let schema = write_schema(file)?;
    create_folder(file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    files::write_new(file, text.as_bytes()).map_err(|error| InitError::unwritten(file, &error))?;
    let ignored = write_for_git(root, ".gitignore", IGNORED)?;
    let attributes = write_for_git(root, ".gitattributes", ATTRIBUTES)?;
    let Fit { seconds, tokens_per_second, .. } = fitted;
    let detects = deviation.detects(seeds);
    Ok(Written {
        file: file.clone(),
        schema,
        ignored,
        attributes,
        runs,
        seeds,
        seconds,
        tokens_per_second,
        deviation,
        detects,
    })
}

/// Where editors look for the schema of a spec: in `schemas/` of the project, from the spec's own folder.
fn schema_beside(file: &Path) -> (PathBuf, String) {
    let named = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let up = "../".repeat(file.parent().map_or(0, |folder| folder.components().filter(named).count()));
    let name = "schemas/experiment.schema.json";
    match file.is_absolute() {
        // The project is where the program was started; of a file elsewhere nothing is known.
        true => (file.with_file_name("experiment.schema.json"), "experiment.schema.json".to_owned()),
        false => (PathBuf::from(name), format!("{up}{name}")),
    }
}

fn write_schema(file: &Path) -> Result<Option<PathBuf>, InitError> {
    let (path, _) = schema_beside(file);
    if files::is_there(&path) {
        return Ok(None);
    }
    nanochat_lab::schemas::write_spec_schema(&path)?;
    Ok(Some(path))
}

/// Writes a file that git reads, where the project has none.
fn write_for_git(root: &ResultsRoot, name: &str, text: &str) -> Result<Option<PathBuf>, InitError> {
    let path = root.project().join(name);
    match files::write_new(&path, text.as_bytes()) {
        Ok(()) => Ok(Some(path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(InitError::unwritten(&path, &error)),
    }
}
