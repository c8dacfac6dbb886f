//! What git ignores: results that lie here and aren't part of the project.

use std::path::Path;

use super::ResultsRoot;
use super::files;
use super::git::Git;

/// The longest `.gitignore` that is read, in bytes.
const LONGEST: u64 = 1 << 20;

impl ResultsRoot {
    /// Whether git ignores a path of the project. Outside of a repository, or without git, the project's `.gitignore`
    /// counts, where it names the path itself.
    pub fn is_ignored(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(self.project()) else { return false };
        match Git::at(self.project()).code(&["check-ignore", "--quiet", "--", &relative.to_string_lossy()]) {
            Some(0) => true,
            Some(1) => false,
            _ => {
                let patterns = files::read_text(&self.project().join(".gitignore"), LONGEST).unwrap_or_default();
                let named = relative.to_string_lossy().replace('\\', "/");
                patterns.lines().any(|line| line.trim().trim_matches('/') == named)
            }
        }
    }
}
