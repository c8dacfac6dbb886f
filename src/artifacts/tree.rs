//! Results as they lie in a folder or in a git commit, read the same way. Git objects are read through the `git` command,
//! and the work tree is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::git::{Git, Object, Objects};
use super::{
    ArtifactError, DECIDING, Document, Environment, EvalRow, ExperimentRecord, LONGEST_DOCUMENT, LONGEST_TABLE,
    RunDocuments, RunFolder, StepRow, Summary, check_name, decides, deciding_digest, files, layout, parse_document,
    rows::Table, write_atomic,
};
use nanochat_plan::RunPlan;

/// Longest spec that is copied out of a commit.
const LONGEST_SPEC: u64 = 1 << 20;

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
        let git = Git::at(repository);
        // Git's own reason comes first: no repository, or one of another user's.
        git.output(&["rev-parse", "--git-dir"])?;
        let commit = git
            .output(&["rev-parse", "--verify", "--quiet", "--end-of-options", &object])
            .map_err(|_| missing(&git, &format!("there is no commit `{revision}` here"), &[revision]))?;
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
        let git = Git::at(repository);
        let nothing = |_| missing(&git, &format!("`{one}` and `{other}` have no commit in common"), &[]);
        let found = git.output(&["merge-base", "--end-of-options", one, other]).map_err(nothing)?;
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
        let (mut experiments, mut reader) = (BTreeMap::new(), self.reader()?);
        for (name, folder) in self.folders()? {
            let record_path = join(&folder, "experiment.json");
            let Some(record) = reader.document::<ExperimentRecord>(&record_path)? else { continue };
            for run in &record.runs {
                check_name("the run id", run)?;
                if let Self::Folder(_) = self {
                    files::beneath(Path::new(&folder), run)?;
                }
            }
            let runs = reader.runs(&folder, &record.runs)?;
            experiments.insert(name, Snapshot { record, runs });
        }
        Ok(experiments)
    }

    /// The rows of a run's `steps.parquet`, none where it isn't there.
    pub fn steps(&self, run: &RunDocuments) -> Result<Option<Vec<StepRow>>, ArtifactError> {
        let path = run.folder.steps();
        let bytes = self.reader()?.file(&path.to_string_lossy(), LONGEST_TABLE)?;
        bytes.map(|bytes| Table::parse(&path, bytes)?.step_rows()).transpose()
    }

    /// The rows of a run's `evals.parquet`, none where it isn't there.
    pub fn evals(&self, run: &RunDocuments) -> Result<Option<Vec<EvalRow>>, ArtifactError> {
        let path = run.folder.evals();
        let bytes = self.reader()?.file(&path.to_string_lossy(), LONGEST_TABLE)?;
        bytes.map(|bytes| Table::parse(&path, bytes)?.eval_rows()).transpose()
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
        self.reader()?.file(&path, LONGEST_DOCUMENT)
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
        let listed = ["ls-tree", "-r", "-z", "--name-only", commit, "--", "experiments/"];
        let listed = Git::at(repository).output(&listed)?;
        let listed = String::from_utf8_lossy(&listed);
        let specs = listed.split('\0').filter(|path| path.ends_with(".yaml") && is_plain(Path::new(path)));
        let paths: Vec<String> = specs.map(str::to_string).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let copy = tempfile::tempdir().map_err(|e| ArtifactError::io("create", "a temporary folder", e))?;
        let mut reader = self.reader()?;
        for path in paths {
            let target = copy.path().join(&path);
            write_atomic(&target, &reader.file(&path, LONGEST_SPEC)?.unwrap_or_default())?;
        }
        Ok(Some(Specs::Copied(copy, Path::new("experiments").to_path_buf())))
    }

    /// Digest of the sources that decide figures, of a commit that holds this program; none where it doesn't, and for a folder.
    ///
    /// # Errors
    /// Git objects that can't be read.
    pub fn deciding_code(&self) -> Result<Option<String>, ArtifactError> {
        let Self::Commit { repository, commit, .. } = self else { return Ok(None) };
        let listed = [&["ls-tree", "-r", "-z", "--name-only", commit, "--"][..], &DECIDING].concat();
        let listed = Git::at(repository).output(&listed)?;
        let listed = String::from_utf8_lossy(&listed);
        let mut reader = self.reader()?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty() && decides(path)) {
            files.push((path.to_string(), reader.file(path, LONGEST_DOCUMENT)?.unwrap_or_default()));
        }
        let is_program = files.iter().any(|(path, _)| path == "src/kernels/lib.rs");
        Ok(is_program.then(|| deciding_digest(files)))
    }

    /// Folders that hold a record, by experiment name; paths as [`Reader::file`] takes them.
    fn folders(&self) -> Result<Vec<(String, String)>, ArtifactError> {
        match self {
            Self::Folder(path) => {
                if files::is_there(&path.join("experiment.json")) {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    return Ok(vec![(name, path.to_string_lossy().into_owned())]);
                }
                let inner = files::beneath(path, "results")?;
                let results = if inner.is_dir() { inner } else { path.clone() };
                let mut found = Vec::new();
                for entry in layout::subfolders(&results)? {
                    if let Some(name) = entry.file_name().filter(|_| files::is_there(&entry.join("experiment.json"))) {
                        found.push((name.to_string_lossy().into_owned(), entry.to_string_lossy().into_owned()));
                    }
                }
                found.sort();
                checked(found)
            }
            Self::Commit { repository, commit, .. } => {
                let listed =
                    Git::at(repository).output(&["ls-tree", "-r", "-z", "--name-only", commit, "--", "results/"])?;
                let listed = String::from_utf8_lossy(&listed);
                let records = listed.split('\0').filter_map(|path| path.strip_suffix("/experiment.json"));
                let named =
                    records.filter_map(|folder| Some((folder.rsplit('/').next()?.to_string(), folder.to_string())));
                checked(named.filter(|(_, folder)| folder.matches('/').count() == 1).collect())
            }
        }
    }

    /// Opens its files for reading.
    fn reader(&self) -> Result<Reader<'_>, ArtifactError> {
        match self {
            Self::Folder(_) => Ok(Reader::Folder),
            Self::Commit { repository, commit, .. } => {
                let git = Git::at(repository);
                Ok(Reader::Commit { objects: git.objects()?, git, commit, listed: None })
            }
        }
    }
}

/// Reads the files of a tree, one at a time.
enum Reader<'t> {
    Folder,
    Commit {
        objects: Objects,
        git: Git,
        commit: &'t str,
        /// The commit's files, once one of them wasn't found.
        listed: Option<BTreeSet<String>>,
    },
}

impl Reader<'_> {
    fn runs(&mut self, folder: &str, ids: &[String]) -> Result<Vec<RunDocuments>, ArtifactError> {
        let mut runs = Vec::new();
        for id in ids {
            let place = join(folder, id);
            let plan = self.document::<RunPlan>(&join(&place, "plan.json"))?;
            let summary = self.document::<Summary>(&join(&place, "summary.json"))?;
            let environment = self.document::<Environment>(&join(&place, "environment.json"))?;
            runs.extend(plan.map(|plan| RunDocuments { folder: RunFolder::at(place), plan, summary, environment }));
        }
        Ok(runs)
    }

    fn document<T: Document>(&mut self, path: &str) -> Result<Option<T>, ArtifactError> {
        let text = self.file(path, T::LONGEST)?;
        text.map(|text| parse_document(Path::new(path), &text)).transpose()
    }

    /// The contents of a file of at most `limit` bytes; none where it isn't there.
    fn file(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ArtifactError> {
        match self {
            Self::Folder => match files::read(Path::new(path), limit) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(ArtifactError::io("read", path, error)),
            },
            Self::Commit { objects, git, commit, listed } => {
                match objects.read(&format!("{commit}:./{path}"), limit)? {
                    Object::Absent => {
                        let listed = match listed {
                            Some(listed) => listed,
                            None => listed.insert(git.files(commit)?),
                        };
                        if listed.contains(path) { Err(git.lacks(path, commit)) } else { Ok(None) }
                    }
                    Object::File(bytes) => Ok(Some(bytes)),
                    Object::TooLong(bytes) => {
                        Err(ArtifactError::TooLong { path: path.into(), bytes: Some(bytes), limit })
                    }
                }
            }
        }
    }
}

/// Folders of experiments, none of which has a name that no experiment has.
fn checked(folders: Vec<(String, String)>) -> Result<Vec<(String, String)>, ArtifactError> {
    for (name, _) in &folders {
        check_name("the experiment's folder", name)?;
    }
    Ok(folders)
}

/// What isn't there, and what may bring it: the branch, and in a shallow clone the rest.
fn missing(git: &Git, what: &str, revisions: &[&str]) -> ArtifactError {
    let mut ways = Vec::new();
    let has_origin = git.output(&["remote"]).is_ok_and(|said| String::from_utf8_lossy(&said).lines().any(is_origin));
    if has_origin {
        ways.extend(revisions.iter().filter_map(|revision| fetching(revision)));
    }
    let shallow = git.output(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|said| said.starts_with(b"true"));
    if shallow {
        ways.push("this clone is shallow, `git fetch --unshallow` brings the rest of its history".to_string());
    }
    let ways = if ways.is_empty() { String::new() } else { format!(": {}", ways.join("; ")) };
    ArtifactError::Git { message: format!("{what}{ways}") }
}

fn is_origin(remote: &str) -> bool {
    remote == "origin"
}

/// How a branch is fetched that a revision may begin with: clones of one branch alone don't have the others. None of commits
/// and of `HEAD`.
fn fetching(revision: &str) -> Option<String> {
    let name = revision.split(['~', '^', '@']).next().unwrap_or_default();
    let is_commit = name.len() >= 7 && name.chars().all(|digit| digit.is_ascii_hexdigit());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if name.is_empty() || name == "HEAD" || is_commit || name.starts_with('-') || !name.chars().all(plain) {
        return None;
    }
    let (branch, target) = match name.strip_prefix("origin/") {
        Some(branch) => (branch, format!("refs/remotes/{name}")),
        None => (name, name.to_string()),
    };
    Some(format!("`git fetch origin {branch}:{target}` brings a branch of that name"))
}

/// Whether a path goes down alone.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn join(folder: &str, file: &str) -> String {
    format!("{folder}/{file}")
}
