//! Run folders that nothing plans any more: neither a spec of the project nor the record of their experiment.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nanochat_artifacts::{ArtifactError, ExperimentRecord, ResultsRoot, RunFolder, files, read_document};
use nanochat_engine::checkpoint::{Checkpoints, RunLock};
use nanochat_experiment as experiment;
use nanochat_experiment::LoadOptions;

use super::RunError;

/// The run folders that nothing plans any more, experiment by experiment.
///
/// # Errors
/// A spec that can't be read, since what it plans isn't known; results that can't be listed.
pub fn unplanned(root: &ResultsRoot, options: &LoadOptions) -> Result<Vec<RunFolder>, RunError> {
    let planned = planned_by_specs(root, options)?;
    let mut found = Vec::new();
    for folder in root.experiments()? {
        // A record that can't be read would name its runs, so that nothing is removed beside it.
        let record: ExperimentRecord = read_document(&folder.record())?;
        let keeps =
            |run: &RunFolder| record.runs.contains(&run.name()) || planned.contains(&(folder.name(), run.name()));
        found.extend(folder.run_folders()?.into_iter().filter(|run| !keeps(run)));
    }
    Ok(found)
}

/// Names of experiments and run ids.
fn planned_by_specs(root: &ResultsRoot, options: &LoadOptions) -> Result<BTreeSet<(String, String)>, RunError> {
    let mut planned = BTreeSet::new();
    for path in super::stale::spec_files(&root.project().join("experiments")) {
        let unread = |reason: String| RunError::UnreadSpec { path: path.display().to_string(), reason };
        let spec = experiment::load(&path, options).map_err(|error| unread(error.to_string()))?;
        let plans = experiment::expand(&spec).map_err(|error| unread(error.to_string()))?;
        planned.extend(plans.into_iter().map(|plan| (spec.name.clone(), plan.run_id)));
    }
    Ok(planned)
}

/// Removes a run's own files and checkpoints, and its folder where nothing else lies in it. What else lies there is given back.
///
/// # Errors
/// Another process is at work there, a link is in the way, or the system refuses.
pub fn prune(folder: &RunFolder) -> Result<Vec<PathBuf>, RunError> {
    files::refuse_link(folder.path()).map_err(|error| ArtifactError::io("remove", folder.path(), error))?;
    let lock = RunLock::acquire(folder.path())?;
    Checkpoints::open(&folder.checkpoints())?.clear()?;
    for file in folder.files() {
        files::remove(&file).map_err(|error| ArtifactError::io("remove", &file, error))?;
    }
    lock.remove()?;
    let mut left = Vec::new();
    for inner in [folder.checkpoints(), folder.path().to_path_buf()] {
        left = files::remove_empty_folder(&inner).map_err(|error| ArtifactError::io("remove", &inner, error))?;
    }
    Ok(left)
}
