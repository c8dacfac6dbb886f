//! What git ignores: results that lie here and aren't part of the project.

use std::path::Path;
use std::process::{Command, Stdio};

use super::ResultsRoot;

impl ResultsRoot {
    /// Whether git ignores a path of the project. Outside of a repository, or without git, the project's `.gitignore`
    /// counts, where it names the path itself.
    pub fn is_ignored(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(self.project()) else { return false };
        let project = if self.project().as_os_str().is_empty() { Path::new(".") } else { self.project() };
        let git = Command::new("git")
            .arg("-C")
            .arg(project)
            .args(["check-ignore", "--quiet", "--"])
            .arg(relative)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match git.ok().and_then(|status| status.code()) {
            Some(0) => true,
            Some(1) => false,
            _ => {
                let patterns = std::fs::read_to_string(project.join(".gitignore")).unwrap_or_default();
                let named = relative.to_string_lossy().replace('\\', "/");
                patterns.lines().any(|line| line.trim().trim_matches('/') == named)
            }
        }
    }
}
