//! What was submitted for an experiment: `results/<experiment>/.slurm/`, not in git.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ArtifactError, ExperimentFolder, canonical_json, check_name, files, write_atomic};

/// The longest record and list that are read, in bytes.
const LONGEST: u64 = 64 << 20;

/// What stands for the timing session in the list of a submission's elements; no run is called so.
pub const TIMING: &str = ":timing";

/// The jobs of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Submissions {
    /// Submissions, in order.
    pub submissions: Vec<Submission>,
}

/// What one command submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// File of its elements: a line each, with ids of runs, or [`TIMING`].
    pub list: String,
    /// Its arrays.
    pub arrays: Vec<Array>,
    /// The job that judges after them.
    pub judging: Option<String>,
    /// When, UTC.
    pub submitted_at: String,
    /// All its jobs have ended or were cancelled.
    pub ended: bool,
}

/// An array of jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Array {
    /// Its number.
    pub job: String,
    /// Line of its first element.
    pub first: usize,
    /// Number of its elements.
    pub count: usize,
}

/// The folder of an experiment's submissions.
#[derive(Debug, Clone)]
pub struct SubmissionFolder {
    path: PathBuf,
}

impl SubmissionFolder {
    /// That of an experiment.
    ///
    /// # Errors
    /// A link in its place.
    pub fn of(experiment: &ExperimentFolder) -> Result<Self, ArtifactError> {
        Ok(Self { path: files::beneath(experiment.path(), ".slurm")? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&self) -> PathBuf {
        self.path.join("jobs.json")
    }

    /// What is recorded; nothing where there is no record, or one that can't be read.
    pub fn read(&self) -> Submissions {
        let bytes = files::read(&self.record(), LONGEST).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, submissions: &Submissions) -> Result<(), ArtifactError> {
        let path = self.record();
        write_atomic(&path, canonical_json(&path, submissions)?.as_bytes())
    }

    /// Writes the list of a new submission's elements; returns its name.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_list(&self, elements: &[Vec<String>]) -> Result<String, ArtifactError> {
        let taken = |number: &usize| files::is_there(&self.path.join(format!("elements-{number}")));
        let number = (1..).find(|number| !taken(number)).unwrap_or(1);
        let name = format!("elements-{number}");
        let lines: Vec<String> = elements.iter().map(|runs| runs.join(" ") + "\n").collect();
        write_atomic(&self.path.join(&name), lines.concat().as_bytes())?;
        Ok(name)
    }

    /// The elements of a list.
    pub fn list(&self, name: &str) -> Vec<Vec<String>> {
        if check_name("the list", name).is_err() {
            return Vec::new();
        }
        elements(&self.path.join(name))
    }
}

fn elements(path: &Path) -> Vec<Vec<String>> {
    let text = files::read_text(path, LONGEST).unwrap_or_default();
    text.lines().map(|line| line.split_whitespace().map(str::to_string).collect()).collect()
}

/// The runs of an element, given as FILE:LINE with lines from 0; none where there is no such line.
pub fn runs_of_element(element: &str) -> Option<BTreeSet<String>> {
    let (file, number) = element.rsplit_once(':')?;
    let line = elements(Path::new(file)).into_iter().nth(number.parse().ok()?)?;
    (!line.is_empty()).then(|| line.into_iter().collect())
}

impl Submission {
    /// The numbers of its jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &String> {
        self.arrays.iter().map(|array| &array.job).chain(&self.judging)
    }

    /// The line of its list that an element of a job stands for.
    fn line(&self, job: &str, element: usize) -> Option<usize> {
        let array = self.arrays.iter().find(|array| array.job == job && element < array.count)?;
        Some(array.first + element)
    }
}

impl Submissions {
    /// Submissions that haven't ended, as far as is recorded.
    pub fn open(&self) -> impl Iterator<Item = &Submission> {
        self.submissions.iter().filter(|submission| !submission.ended)
    }

    /// The runs that these elements of jobs stand for.
    pub fn runs_of(&self, folder: &SubmissionFolder, elements: &[(String, usize)]) -> BTreeSet<String> {
        let mut runs = BTreeSet::new();
        for submission in self.open() {
            let list = folder.list(&submission.list);
            let lines = elements.iter().filter_map(|(job, element)| submission.line(job, *element));
            runs.extend(lines.filter_map(|line| list.get(line).cloned()).flatten());
        }
        runs
    }

    /// The runs of all elements that were submitted, as far as nothing says that their jobs have ended.
    pub fn submitted_runs(&self, folder: &SubmissionFolder) -> BTreeSet<String> {
        self.open().flat_map(|submission| folder.list(&submission.list)).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_jobs_stand_for_runs() {
        let folder = tempfile::tempdir().unwrap();
        let folder = SubmissionFolder::of(&ExperimentFolder::at(folder.path())).unwrap();
        let elements = [vec!["a".to_string()], vec!["b".into(), "c".into()], vec!["d".into()]];
        let list = folder.write_list(&elements).unwrap();
        assert_eq!(folder.write_list(&elements).unwrap(), "elements-2");
        let array = |job: &str, first, count| Array { job: job.into(), first, count };
        let submission = Submission {
            list: list.clone(),
            arrays: vec![array("7", 0, 2), array("8", 2, 1)],
            judging: Some("9".into()),
            submitted_at: String::new(),
            ended: false,
        };
        let mut all = Submissions { submissions: vec![submission] };
        folder.write(&all).unwrap();
        assert_eq!(folder.read(), all);
        let runs = all.runs_of(&folder, &[("7".into(), 1), ("8".into(), 0), ("8".into(), 5), ("1".into(), 0)]);
        assert_eq!(runs.into_iter().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(all.submitted_runs(&folder).len(), 4);
        let element = |line: usize| runs_of_element(&format!("{}:{line}", folder.path().join(&list).display()));
        assert_eq!(element(1).unwrap().into_iter().collect::<Vec<_>>(), ["b", "c"]);
        assert!(element(3).is_none() && runs_of_element("nowhere:0").is_none() && runs_of_element("x").is_none());
        all.submissions[0].ended = true;
        assert!(all.submitted_runs(&folder).is_empty());
    }
}
