//! The commits that touched a file, with the file as each of them left it.

use std::path::Path;

use super::git::{Git, Object};
use super::{ArtifactError, LONGEST_DOCUMENT};

/// Most commits of a file that are read.
const MOST: &str = "--max-count=200";

/// A commit that touched a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Full hash.
    pub commit: String,
    /// When it was committed, as ISO 8601.
    pub date: String,
    /// First line of its message.
    pub subject: String,
    /// The file; none where the commit removed it.
    pub contents: Option<Vec<u8>>,
}

/// The commits up to the one that is checked out which touched a file, the oldest first; none outside of a repository.
/// `path` is relative to `project`, as git has it.
///
/// # Errors
/// Git answers with what makes no sense, or the file was longer than any document.
pub fn history(project: &Path, path: &str) -> Result<Vec<Revision>, ArtifactError> {
    let git = Git::at(project);
    let format = "--format=%H%x00%cI%x00%s";
    // A folder that is no repository, and a repository without commits, have no history.
    let Ok(listed) = git.output(&["log", MOST, "--no-show-signature", "--no-color", format, "HEAD", "--", path]) else {
        return Ok(Vec::new());
    };
    let listed = String::from_utf8_lossy(&listed);
    let mut objects = git.objects()?;
    let mut found = Vec::new();
    for line in listed.lines().rev() {
        let mut parts = line.splitn(3, '\0').map(str::to_owned);
        let (Some(commit), Some(date), Some(subject)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let contents = match objects.read(&format!("{commit}:./{path}"), LONGEST_DOCUMENT)? {
            Object::File(bytes) => Some(bytes),
            Object::Absent if git.files(&commit)?.contains(path) => return Err(git.lacks(path, &commit)),
            Object::Absent => None,
            Object::TooLong(bytes) => {
                return Err(ArtifactError::TooLong { path: path.into(), bytes: Some(bytes), limit: LONGEST_DOCUMENT });
            }
        };
        found.push(Revision { commit, date, subject, contents });
    }
    Ok(found)
}

/// Why a project's history is missing or begins late, where git says so; none outside of a repository.
pub fn shortcoming(project: &Path) -> Option<String> {
    let git = Git::at(project);
    match git.output(&["rev-parse", "--is-shallow-repository"]) {
        Ok(said) if said.starts_with(b"true") => Some(
            "this clone is shallow, so the history begins late; `git fetch --unshallow` brings the rest".to_string(),
        ),
        Ok(_) => None,
        Err(error) => Some(error.to_string()).filter(|said| !said.contains("not a git repository")),
    }
}

/// What a file's text gained and lost between two commits, drawn by git itself: no driver or filter that the repository names.
/// Nothing where it is the same, or git can't say. `path` is relative to `project`.
pub fn file_diff(project: &Path, path: &str, [from, to]: [&str; 2]) -> String {
    let plain = ["--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--relative", "--unified=1"];
    let arguments = [&["diff-tree", "-r", "-p"], &plain[..], &[from, to, "--", path]].concat();
    let drawn = Git::at(project).output(&arguments).unwrap_or_default();
    let drawn = String::from_utf8_lossy(&drawn).into_owned();
    // What comes before the first hunk names files and hashes.
    drawn.find("\n@@").map(|hunk| drawn[hunk + 1..].to_owned()).unwrap_or_default()
}
