//! Where the files that a spec builds on may lie: below the folder that the program was started in, or the spec's own.
//! A spec may come from a stranger, and messages show lines of the files that it names.

use std::path::{Component, Path, PathBuf};

use super::Diagnostic;

/// The folders.
#[derive(Debug, Default)]
pub struct Inside {
    folders: Vec<PathBuf>,
    anywhere: bool,
}

impl Inside {
    /// The folders for a spec.
    pub fn of(spec: &Path, anywhere: bool) -> Self {
        let own = spec.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folders = [Path::new("."), own.unwrap_or(Path::new("."))];
        Self { folders: folders.into_iter().filter_map(|folder| folder.canonicalize().ok()).collect(), anywhere }
    }

    /// No bounds, for files that the user named himself.
    pub fn anywhere() -> Self {
        Self { folders: Vec::new(), anywhere: true }
    }

    /// Refuses a file that lies elsewhere, is hidden, or isn't called YAML. `real` is where `path` leads.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(&self, path: &Path, real: &Path) -> Result<(), Diagnostic> {
        if self.anywhere {
            return Ok(());
        }
        let refuse = |why: &str| {
            let error = Diagnostic::error("outside", format!("{} {why}, so it is not read", path.display()));
            Err(error.help("move it into the project, or pass --allow-outside if you trust this spec"))
        };
        let Some(below) = self.folders.iter().find_map(|folder| real.strip_prefix(folder).ok()) else {
            return refuse("lies outside the current folder and the spec's");
        };
        let hidden = |part: Component<'_>| part.as_os_str().to_string_lossy().starts_with('.');
        if below.components().any(hidden) {
            return refuse("is hidden");
        }
        let is_yaml = real.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml { Ok(()) } else { refuse("is not called `.yaml` or `.yml`") }
    }
}
