//! A checkout of the baseline: at which commit it is, and whether anything in it was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nanochat_artifacts::ArtifactError;
use nanochat_artifacts::git::Git;

use super::BaselineError;
use super::objects::refuse_forged;

/// The script that trains, relative to the checkout.
const TRAINING_SCRIPT: &str = "scripts/base_train.py";

/// A git repository that holds the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Full commit, 40 hex digits.
    pub commit: String,
    /// Files that differ from the commit's: `M` changed, `T` of another kind, `D` gone, `??` added, `!!` added and
    /// ignored by git, yet something that Python could import. Empty when nothing was changed.
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
        let git = Git::at(&path);
        let commit = git.output(&["rev-parse", "--verify", "HEAD"]);
        let commit = commit.map_err(|error| no_checkout(error.to_string()))?;
        if !path.join(TRAINING_SCRIPT).is_file() {
            return Err(no_checkout(format!("it has no {TRAINING_SCRIPT}")));
        }
        let changes = changes(&git, &path).map_err(no_checkout)?;
        Ok(Self { path, commit: String::from_utf8_lossy(&commit).trim().to_string(), changes })
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

/// A file of the commit.
struct Committed {
    is_link: bool,
    object: String,
}

/// Compares the folder with the commit, file by file. The index isn't asked, since it can hide changes; of the files
/// that git would ignore, those count that Python could import.
fn changes(git: &Git, folder: &Path) -> Result<Vec<String>, String> {
    let listed = names(git.output(&["ls-tree", "-r", "-z", "HEAD"]))?;
    refuse_forged(git, &listed)?;
    let committed = committed(&listed)?;
    let ignored = names(git.output(&["ls-files", "-z", "--others", "--ignored", "--directory", IGNORE_FILE]))?;
    let ignored: BTreeSet<String> = ignored.into_iter().collect();
    let found = walk(folder, &ignored)?;
    let mut changes = differing(git, folder, &committed, &found)?;
    for (name, entry) in &found {
        let letters = if entry.is_ignored { "!!" } else { "??" };
        if !committed.contains_key(name) && (!entry.is_ignored || entry.is_link || is_importable(name)) {
            changes.insert(name.clone(), letters);
        }
    }
    Ok(changes.into_iter().map(|(name, letters)| format!("{letters} {name}")).collect())
}

/// Which files git would ignore is decided by the `.gitignore` files alone, which are part of the commit.
const IGNORE_FILE: &str = "--exclude-per-directory=.gitignore";

/// The files of the commit, as `git ls-tree -r` lists them.
fn committed(listed: &[String]) -> Result<BTreeMap<String, Committed>, String> {
    let file = |line: &String| {
        let (head, name) = line.split_once('\t')?;
        let mut words = head.split(' ');
        let (mode, object) = (words.next()?, words.nth(1)?);
        Some((name.to_string(), Committed { is_link: mode == "120000", object: object.to_string() }))
    };
    // The commits of submodules aren't files; whatever lies in their folders counts as added.
    listed
        .iter()
        .filter(|line| !line.starts_with("160000 "))
        .map(|line| file(line).ok_or_else(|| "git lists a commit in a way that makes no sense".into()))
        .collect()
}

/// Something in the folder that isn't a folder.
struct Found {
    is_link: bool,
    is_file: bool,
    is_ignored: bool,
}

/// All files and links below a folder, no link followed. What is ignored and hidden, such as a virtual environment, is
/// left out: no import reaches it.
fn walk(folder: &Path, ignored: &BTreeSet<String>) -> Result<BTreeMap<String, Found>, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![(String::new(), false)]);
    while let Some((prefix, in_ignored)) = folders.pop() {
        let entries = std::fs::read_dir(folder.join(&prefix)).map_err(|error| format!("{prefix}: {error}"))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{prefix}: {error}"))?;
            let kind = entry.file_type().map_err(|error| format!("{prefix}: {error}"))?;
            let own = entry.file_name().to_string_lossy().into_owned();
            let name = format!("{prefix}{own}");
            let is_ignored = in_ignored || ignored.contains(&name) || ignored.contains(&format!("{name}/"));
            let left_out = (prefix.is_empty() && own == ".git") || (is_ignored && own.starts_with('.'));
            if !kind.is_dir() {
                found.insert(name, Found { is_link: kind.is_symlink(), is_file: kind.is_file(), is_ignored });
            } else if !left_out {
                folders.push((format!("{name}/"), is_ignored));
            }
        }
    }
    Ok(found)
}

/// The committed files whose contents or kind differ, or that aren't there.
fn differing(
    git: &Git,
    folder: &Path,
    committed: &BTreeMap<String, Committed>,
    found: &BTreeMap<String, Found>,
) -> Result<BTreeMap<String, &'static str>, String> {
    let (mut changes, mut files) = (BTreeMap::new(), Vec::new());
    for (name, expected) in committed {
        match found.get(name) {
            None => drop(changes.insert(name.clone(), "D")),
            Some(entry) if entry.is_link && expected.is_link => {
                let target = std::fs::read_link(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
                let target = target.to_string_lossy().into_owned().into_bytes();
                let hashed = git.output_of(&["hash-object", "--no-filters", "--stdin"], &target);
                let hashed = hashed.map_err(|error| error.to_string())?;
                if String::from_utf8_lossy(&hashed).trim() != expected.object {
                    changes.insert(name.clone(), "M");
                }
            }
            Some(entry) if entry.is_file && !expected.is_link && !name.contains('\n') => files.push((name, expected)),
            Some(_) => drop(changes.insert(name.clone(), "T")),
        }
    }
    let asked: String = files.iter().map(|(name, _)| format!("{name}\n")).collect();
    let hashed = git.output_of(&["hash-object", "--no-filters", "--stdin-paths"], asked.as_bytes());
    let hashed = hashed.map_err(|error| error.to_string())?;
    let hashed = String::from_utf8_lossy(&hashed);
    let mut hashes = hashed.lines();
    for (name, expected) in files {
        if hashes.next() != Some(&expected.object) {
            changes.insert(name.clone(), "M");
        }
    }
    Ok(changes)
}

/// Whether Python takes a file of this name for a module, as source, compiled, or as a library.
fn is_importable(name: &str) -> bool {
    let endings = [".py", ".pyc", ".pyo", ".pyw", ".so", ".pyd", ".dylib", ".dll", ".pth", ".zip", ".egg"];
    endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
}

/// A list as `-z` prints it.
fn names(printed: Result<Vec<u8>, ArtifactError>) -> Result<Vec<String>, String> {
    let printed = String::from_utf8(printed.map_err(|error| error.to_string())?);
    let printed = printed.map_err(|_| "git printed a name that is not UTF-8".to_string())?;
    Ok(printed.split('\0').filter(|name| !name.is_empty()).map(str::to_string).collect())
}
