//! A recording: the recorded results of one name.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{
    BaselineResult, BaselineRun, Document, ResultsRoot, RunStatus, read_document, write_document,
};

use super::BaselineError;

/// A recording that grows run by run, on disk after each.
///
/// Without `append`, a new session replaces what was recorded before as soon as one of its runs is finished; until then
/// earlier runs stay, so that a session that only fails destroys nothing.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    commit: String,
    name: String,
    earlier: Vec<BaselineRun>,
    new: Vec<BaselineRun>,
    append: bool,
}

impl Recording {
    /// The recording of that name for a commit, with the runs recorded before.
    ///
    /// # Errors
    /// The name is not a file name, or the existing recording can't be read.
    pub fn open(root: &ResultsRoot, commit: &str, name: &str, append: bool) -> Result<Self, BaselineError> {
        let path = root.baseline(commit, name)?;
        let earlier = match read_document::<BaselineResult>(&path) {
            Ok(result) if result.commit == commit => result.runs,
            Ok(result) => {
                let (found, wanted) = (result.commit, commit.to_string());
                return Err(BaselineError::ForeignRecording { path, found, wanted });
            }
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path, commit: commit.into(), name: name.into(), earlier, new: Vec::new(), append })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs of this session.
    pub fn runs(&self) -> &[BaselineRun] {
        &self.new
    }

    /// Adds a run and writes the document.
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, run: BaselineRun) -> Result<(), BaselineError> {
        self.new.push(run);
        write_document(&self.path, &self.document())?;
        Ok(())
    }

    fn document(&self) -> BaselineResult {
        let any_finished = self.new.iter().any(|run| run.status == RunStatus::Finished);
        let kept: &[BaselineRun] = if self.append || !any_finished { &self.earlier } else { &[] };
        BaselineResult {
            schema: BaselineResult::SCHEMA.to_string(),
            commit: self.commit.clone(),
            name: self.name.clone(),
            runs: kept.iter().chain(&self.new).cloned().collect(),
        }
    }
}

/// The name of an experiment's recording: that of the file that its spec names, else the experiment's own.
pub fn recording_name(named: Option<&str>, commit: &str, experiment: &str) -> String {
    let folder = format!("results/baselines/{}/", commit.get(..12).unwrap_or(commit));
    let stem = named.and_then(|path| path.strip_prefix(&folder)?.strip_suffix(".json"));
    stem.unwrap_or(experiment).to_string()
}
