//! A checkout of the baseline: at which commit it is, and whether anything in it was changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BaselineError;

/// The script that trains, relative to the checkout.
const TRAINING_SCRIPT: &str = "scripts/base_train.py";

/// A git repository that holds the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Full commit, 40 hex digits.
    pub commit: String,
    /// Changed and untracked files as `git status --porcelain` names them; empty when nothing was changed.
    pub changes: Vec<String>,
}

impl Checkout {
    /// Looks at a folder.
    ///
    /// # Errors
    /// It is no git repository, has no commit, or doesn't hold the training script.
    pub fn open(folder: &Path) -> Result<Self, BaselineError> {
        let no_checkout = |reason: String| BaselineError::NoCheckout { path: folder.to_path_buf(), reason };
        if !folder.is_dir() {
            return Err(no_checkout("there is no such folder".into()));
        }
        let path = folder.canonicalize().map_err(|error| no_checkout(error.to_string()))?;
        let commit = git(&path, &["rev-parse", "--verify", "HEAD"]).map_err(no_checkout)?;
        if !path.join(TRAINING_SCRIPT).is_file() {
            return Err(no_checkout(format!("it has no {TRAINING_SCRIPT}")));
        }
        let status = git(&path, &["status", "--porcelain", "--untracked-files=all", "--", "."]).map_err(no_checkout)?;
        Ok(Self {
            path,
            commit: commit.trim().to_string(),
            changes: status.lines().map(|line| line.trim().to_string()).collect(),
        })
    }

    /// What is wrong with it: another commit, changed files, or both.
    pub fn problems(&self, commit: &str) -> Vec<BaselineError> {
        let path = || self.path.clone();
        let mut problems = Vec::new();
        if self.commit != commit {
            let (found, wanted) = (self.commit.clone(), commit.to_string());
            problems.push(BaselineError::WrongCommit { path: path(), found, wanted });
        }
        if !self.changes.is_empty() {
            problems.push(BaselineError::Changed { path: path(), changes: self.changes.clone() });
        }
        problems
    }

    /// Refuses a checkout at another commit, or one that was changed.
    ///
    /// # Errors
    /// [`BaselineError::WrongCommit`], [`BaselineError::Changed`].
    pub fn require(&self, commit: &str) -> Result<(), BaselineError> {
        self.problems(commit).into_iter().next().map_or(Ok(()), Err)
    }
}

/// What git prints, or why it failed. Takes no lock and looks at no other repository than the one of `folder`.
fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null());
    command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    let output = command.output().map_err(|error| format!("git can't be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().next().unwrap_or("git failed without a word").to_string();
        return Err(said.trim_start_matches("fatal: ").to_string());
    }
    String::from_utf8(output.stdout).map_err(|_| "git printed a name that is not UTF-8".to_string())
}
