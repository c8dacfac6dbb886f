//! Results as they lie in a folder or in a git commit, read the same way. Git objects are read through the `git` command,
//! and the work tree is never touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{
    ArtifactError, Document, Environment, ExperimentRecord, RunDocuments, RunFolder, StepRow, Summary, check_name,
    parse_document, rows::Table,
};
use nanochat_plan::RunPlan;

/// Where results are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A folder: a project, its `results/`, or one experiment.
    Folder(PathBuf),
    /// `results/` of a commit.
    Commit {
        /// A folder inside the repository; results are looked for beneath it.
        repository: PathBuf,
        /// The revision as it was named.
        revision: String,
        /// Its full commit.
        commit: String,
    },
}

/// A folder of specs.
#[derive(Debug)]
pub enum Specs {
    /// In the tree itself.
    There(PathBuf),
    /// A copy that goes when this does, and the folder inside it.
    Copied(tempfile::TempDir, PathBuf),
}

impl Specs {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::There(path) => path.clone(),
            Self::Copied(copy, inside) => copy.path().join(inside),
        }
    }
}

/// The documents of one experiment in a tree, by run id.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The record.
    pub record: ExperimentRecord,
    /// Its runs that have a plan.
    pub runs: Vec<RunDocuments>,
}

impl Tree {
    /// Takes a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn folder(path: &Path) -> Result<Self, ArtifactError> {
        fs::read_dir(path).map_err(|e| ArtifactError::io("list", path, e))?;
        Ok(Self::Folder(path.to_path_buf()))
    }

    /// Takes a revision of the repository that `repository` lies in.
    ///
    /// # Errors
    /// When git isn't installed, there is no repository, or it has no such commit.
    pub fn revision(repository: &Path, revision: &str) -> Result<Self, ArtifactError> {
        let object = format!("{revision}^{{commit}}");
        let commit = git(repository, &["rev-parse", "--verify", "--quiet", "--end-of-options", &object])
            .map_err(|_| ArtifactError::Git { message: format!("there is no commit `{revision}` here") })?;
        let commit = String::from_utf8_lossy(&commit).lines().last().unwrap_or_default().to_string();
        Ok(Self::Commit { repository: repository.to_path_buf(), revision: revision.to_string(), commit })
    }

    /// The commit that two revisions have grown from, as `A...B` means it.
    ///
    /// # Errors
    /// As [`Tree::revision`], or revisions without a common commit.
    pub fn merge_base(repository: &Path, one: &str, other: &str) -> Result<Self, ArtifactError> {
        for revision in [one, other] {
            Self::revision(repository, revision)?;
        }
        let nothing = |_| ArtifactError::Git { message: format!("`{one}` and `{other}` have no commit in common") };
        let found = git(repository, &["merge-base", "--end-of-options", one, other]).map_err(nothing)?;
        Self::revision(repository, String::from_utf8_lossy(&found).trim())
    }

    /// What to call it: the folder as it was named, the end of an absolute path, or the revision with the first digits of its commit.
    pub fn label(&self) -> String {
        match self {
            Self::Folder(path) if path.is_relative() => path.display().to_string(),
            Self::Folder(path) => {
                let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
                names.get(names.len().saturating_sub(2)..).unwrap_or_default().join("/")
            }
            Self::Commit { revision, commit, .. } => {
                let short = commit.get(..12).unwrap_or(commit);
                if commit.starts_with(revision.as_str()) { short.to_string() } else { format!("{revision} ({short})") }
            }
        }
    }

    /// All experiments, by name.
    pub fn experiments(&self) -> Result<BTreeMap<String, Snapshot>, ArtifactError> {
        let mut experiments = BTreeMap::new();
        for (name, folder) in self.folders()? {
            let record_path = join(&folder, "experiment.json");
            let Some(record) = self.documents::<ExperimentRecord>(std::slice::from_ref(&record_path))?.pop().flatten()
            else {
                continue;
            };
            for run in &record.runs {
                check_name("the run id", run)?;
            }
            let runs = self.runs(&folder, &record.runs)?;
            experiments.insert(name, Snapshot { record, runs });
        }
        Ok(experiments)
    }

    /// The rows of a run's `steps.parquet`, none where it isn't there.
    pub fn steps(&self, run: &RunDocuments) -> Result<Option<Vec<StepRow>>, ArtifactError> {
        let path = run.folder.steps();
        let bytes = self.read(&[path.to_string_lossy().into_owned()])?.pop().flatten();
        bytes.map(|bytes| Table::parse(&path, bytes)?.step_rows()).transpose()
    }

    /// A file by its path as git has it, relative to the folder or repository; none where it isn't there.
    ///
    /// # Errors
    /// What can't be read.
    pub fn file(&self, path: &str) -> Result<Option<Vec<u8>>, ArtifactError> {
        let path = match self {
            Self::Folder(folder) => folder.join(path).to_string_lossy().into_owned(),
            Self::Commit { .. } => path.to_string(),
        };
        Ok(self.read(&[path])?.pop().flatten())
    }

    /// The folder of specs beside the results: `experiments/` as it lies there, or a copy of the commit's. None where there is
    /// none.
    ///
    /// # Errors
    /// What can't be read, or copied.
    pub fn specs(&self) -> Result<Option<Specs>, ArtifactError> {
        let Self::Commit { repository, commit, .. } = self else {
            let Self::Folder(path) = self else { return Ok(None) };
            let beside = [path.join("experiments"), path.join("../experiments")];
            return Ok(beside.into_iter().find(|folder| folder.is_dir()).map(Specs::There));
        };
        let listed = git(repository, &["ls-tree", "-r", "-z", "--name-only", commit, "--", "experiments/"])?;
        let listed = String::from_utf8_lossy(&listed);
        let specs = listed.split('\0').filter(|path| path.ends_with(".yaml") && is_plain(Path::new(path)));
        let paths: Vec<String> = specs.map(str::to_string).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let copy = tempfile::tempdir().map_err(|e| ArtifactError::io("create", "a temporary folder", e))?;
        for (path, bytes) in paths.iter().zip(read_objects(repository, commit, &paths)?) {
            let target = copy.path().join(path);
            let folder = target.parent().unwrap_or(copy.path());
            fs::create_dir_all(folder).map_err(|e| ArtifactError::io("create", folder, e))?;
            fs::write(&target, bytes.unwrap_or_default()).map_err(|e| ArtifactError::io("write", &target, e))?;
        }
        Ok(Some(Specs::Copied(copy, Path::new("experiments").to_path_buf())))
    }

    fn runs(&self, folder: &str, ids: &[String]) -> Result<Vec<RunDocuments>, ArtifactError> {
        let paths = |file: &str| ids.iter().map(|id| join(&join(folder, id), file)).collect::<Vec<_>>();
        let plans = self.documents::<RunPlan>(&paths("plan.json"))?;
        let summaries = self.documents::<Summary>(&paths("summary.json"))?;
        let environments = self.documents::<Environment>(&paths("environment.json"))?;
        let together = ids.iter().zip(plans).zip(summaries).zip(environments);
        let run = |(((id, plan), summary), environment): (
            ((&String, Option<RunPlan>), Option<Summary>),
            Option<Environment>,
        )| {
            Some(RunDocuments { folder: RunFolder::at(join(folder, id)), plan: plan?, summary, environment })
        };
        Ok(together.filter_map(run).collect())
    }

    /// Folders that hold a record, by experiment name; paths as [`Tree::read`] takes them.
    fn folders(&self) -> Result<Vec<(String, String)>, ArtifactError> {
        match self {
            Self::Folder(path) => {
                if path.join("experiment.json").is_file() {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    return Ok(vec![(name, path.to_string_lossy().into_owned())]);
                }
                let results = if path.join("results").is_dir() { path.join("results") } else { path.clone() };
                let mut found = Vec::new();
                for entry in fs::read_dir(&results).map_err(|e| ArtifactError::io("list", &results, e))? {
                    let entry = entry.map_err(|e| ArtifactError::io("list", &results, e))?.path();
                    if let Some(name) = entry.file_name().filter(|_| entry.join("experiment.json").is_file()) {
                        found.push((name.to_string_lossy().into_owned(), entry.to_string_lossy().into_owned()));
                    }
                }
                found.sort();
                Ok(found)
            }
            Self::Commit { repository, commit, .. } => {
                let listed = git(repository, &["ls-tree", "-r", "-z", "--name-only", commit, "--", "results/"])?;
                let listed = String::from_utf8_lossy(&listed);
                let records = listed.split('\0').filter_map(|path| path.strip_suffix("/experiment.json"));
                let named =
                    records.filter_map(|folder| Some((folder.rsplit('/').next()?.to_string(), folder.to_string())));
                Ok(named.filter(|(_, folder)| folder.matches('/').count() == 1).collect())
            }
        }
    }

    fn documents<T: Document>(&self, paths: &[String]) -> Result<Vec<Option<T>>, ArtifactError> {
        let texts = self.read(paths)?;
        let parse = |(path, text): (&String, Option<Vec<u8>>)| {
            text.map(|text| parse_document(Path::new(path), &text)).transpose()
        };
        paths.iter().zip(texts).map(parse).collect()
    }

    /// The contents of files, none for those that aren't there.
    fn read(&self, paths: &[String]) -> Result<Vec<Option<Vec<u8>>>, ArtifactError> {
        match self {
            Self::Folder(_) => paths
                .iter()
                .map(|path| match fs::read(path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(ArtifactError::io("read", path, error)),
                })
                .collect(),
            Self::Commit { repository, commit, .. } => read_objects(repository, commit, paths),
        }
    }
}

/// Whether a path goes down alone.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn join(folder: &str, file: &str) -> String {
    format!("{folder}/{file}")
}

/// Runs git in a folder and gives its standard output.
fn git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, ArtifactError> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| ArtifactError::Git { message: format!("`git` can't be started: {e}") })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(ArtifactError::Git { message: format!("`git {}`: {message}", arguments.join(" ")) });
    }
    Ok(output.stdout)
}

/// Reads files of a commit through one `git cat-file --batch`. Paths are relative to the folder, as `ls-tree` prints them.
fn read_objects(folder: &Path, commit: &str, paths: &[String]) -> Result<Vec<Option<Vec<u8>>>, ArtifactError> {
    let broken = |what: &str| ArtifactError::Git { message: format!("`git cat-file --batch` {what}") };
    let mut child = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| ArtifactError::Git { message: format!("`git` can't be started: {e}") })?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(mut input), Some(mut output)) = (input, output) else { return Err(broken("has no pipes")) };
    let asked: String = paths.iter().map(|path| format!("{commit}:./{path}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let mut answer = Vec::new();
    output.read_to_end(&mut answer).map_err(|_| broken("can't be read"))?;
    let _ = writer.join();
    child.wait().map_err(|_| broken("didn't end"))?;
    let mut rest = answer.as_slice();
    paths.iter().map(|_| next_object(&mut rest).ok_or_else(|| broken("gave an answer that makes no sense"))).collect()
}

/// Takes the next answer off: `<hash> blob <size>`, the bytes and a newline, or `<name> missing`.
fn next_object(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (header, after) = (std::str::from_utf8(rest.get(..end)?).ok()?, rest.get(end + 1..)?);
    if header.ends_with(" missing") {
        *rest = after;
        return Some(None);
    }
    let size: usize = header.rsplit(' ').next()?.parse().ok()?;
    let bytes = after.get(..size)?.to_vec();
    *rest = after.get(size + 1..)?;
    Some(Some(bytes))
}
