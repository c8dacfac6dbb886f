//! Other specs of the same name: their results would take each other's place.

use std::path::{Path, PathBuf};

use crate::config::{parse, read_source};

/// Most files of a folder that are looked at.
const MOST: usize = 1000;

/// Spec files in `folders` that state `name`, but for `spec` itself; what can't be read states nothing.
pub fn namesakes(spec: &Path, name: &str, folders: &[&Path]) -> Vec<PathBuf> {
    let own = spec.canonicalize().ok();
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST);
        for path in entries.map(|entry| entry.path()) {
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            let same = |other: &Path| path.canonicalize().ok() == other.canonicalize().ok();
            if is_yaml
                && path.canonicalize().ok() != own
                && states(&path, name)
                && !found.iter().any(|other| same(other))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether a file is a spec that says this name; upper and lower case are one name, as they are one folder on some systems.
fn states(path: &Path, name: &str) -> bool {
    stated_name(path).is_some_and(|stated| stated.eq_ignore_ascii_case(name))
}

/// The name that a spec file states; none of what is no spec or can't be read.
pub fn stated_name(path: &Path) -> Option<String> {
    let source = read_source(path).ok()?;
    let root = parse(&source).ok()?;
    let says = |key: &str| root.entry(key).and_then(|entry| entry.value.text()).map(str::to_owned);
    says("schema").filter(|kind| kind.starts_with("nanochat.experiment/"))?;
    says("name")
}
