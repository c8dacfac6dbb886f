//! What is recorded stays: a run with other values than the recorded ones, or by another spec of the same name, never takes the
//! place of a recorded experiment unasked.

use std::collections::BTreeSet;
use std::path::Path;

use nanochat_artifacts::{
    ArtifactError, ExperimentFolder, ExperimentRecord, ResultsRoot, bytes_sha256, files, read_document,
};
use nanochat_experiment::{Experiment, LoadOptions};
use nanochat_plan::RunPlan;

use super::RunError;

/// Digits of the overrides' digest in a derived name.
const DIGITS: usize = 8;

/// The name under which values laid over a spec are recorded, where a recorded experiment has finished runs that they don't plan;
/// none where nothing would be lost, or the user chose a name.
pub(super) fn derived_name(
    experiment: &Experiment,
    whole: &[RunPlan],
    options: &LoadOptions,
    root: &ResultsRoot,
) -> Option<String> {
    let laid_over = || options.overrides.iter().chain(&options.profile);
    if laid_over().next().is_none() || laid_over().any(|value| value.starts_with("name=")) {
        return None;
    }
    let folder = root.experiment(&experiment.name).ok()?;
    let record = read_document::<ExperimentRecord>(&folder.record()).ok()?;
    let planned: BTreeSet<&str> = whole.iter().map(|plan| plan.run_id.as_str()).collect();
    let would_be_lost =
        |id: &String| !planned.contains(id.as_str()) && folder.run(id).is_ok_and(|run| files::is_there(&run.summary()));
    if !record.runs.iter().any(would_be_lost) {
        return None;
    }
    let values: BTreeSet<&String> = laid_over().collect();
    let digest = bytes_sha256(format!("{values:?}").as_bytes());
    Some(format!("{}-set-{}", experiment.name, &digest[..DIGITS]))
}

/// The path of a spec, relative to the project in the working folder; none of what lies elsewhere or is no file.
pub(super) fn recorded_path(spec: &Path) -> Option<String> {
    let path = spec.canonicalize().ok().filter(|path| path.is_file())?;
    let project = std::env::current_dir().ok()?.canonicalize().ok()?;
    let parts = path.strip_prefix(project).ok()?.iter().map(|part| part.to_str());
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("/"))
}

/// Refuses to put a record in the place of one that another spec made, as long as that one is there.
pub(super) fn refuse_other_spec(folder: &ExperimentFolder, record: &ExperimentRecord) -> Result<(), RunError> {
    if !files::is_there(&folder.record()) {
        return Ok(());
    }
    // A record that can't be read is told where it is needed.
    let recorded: Result<ExperimentRecord, ArtifactError> = read_document(&folder.record());
    let before = recorded.ok().and_then(|recorded| recorded.spec);
    match (before, &record.spec) {
        (Some(other), Some(own)) if other != *own && Path::new(&other).is_file() => {
            let (name, own) = (record.name.clone(), own.clone());
            Err(RunError::OtherSpec { name, other, own })
        }
        _ => Ok(()),
    }
}
