//! The schemas as files.

use std::path::Path;

use super::{KINDS, reference};
use nanochat_artifacts::{ArtifactError, LONGEST_DOCUMENT, canonical_json, create_folder, files, write_atomic};

/// A file that isn't what the types say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The file's name.
    pub file: String,
    /// How it differs.
    pub reason: &'static str,
}

/// The reference page's file.
const REFERENCE: &str = "README.md";

fn file_name(kind: &str) -> String {
    format!("{kind}.schema.json")
}

/// Writes the schemas of all kinds and the reference page into a folder; gives their file names.
///
/// # Errors
/// A folder or file that can't be written.
pub fn write(folder: &Path) -> Result<Vec<String>, ArtifactError> {
    create_folder(folder)?;
    let mut names = Vec::new();
    for kind in &KINDS {
        let name = file_name(kind.name);
        let path = folder.join(&name);
        write_atomic(&path, canonical_json(&path, &kind.schema())?.as_bytes())?;
        names.push(name);
    }
    write_atomic(&folder.join(REFERENCE), reference::page().as_bytes())?;
    names.push(REFERENCE.to_owned());
    Ok(names)
}

/// Writes the schema of specs alone, which editors need.
///
/// # Errors
/// The file can't be written.
pub fn write_spec_schema(path: &Path) -> Result<(), ArtifactError> {
    let Some(kind) = super::kind_of(nanochat_experiment::config::document::SPEC_SCHEMA) else { return Ok(()) };
    write_atomic(path, canonical_json(path, &kind.schema())?.as_bytes())
}

/// What in a folder differs from the types.
///
/// # Errors
/// A schema that can't be generated.
pub fn compare(folder: &Path) -> Result<Vec<Drift>, ArtifactError> {
    let mut drifts = Vec::new();
    let mut expected = vec![(REFERENCE.to_owned(), reference::page())];
    for kind in &KINDS {
        let file = file_name(kind.name);
        expected.push((file.clone(), canonical_json(&folder.join(file), &kind.schema())?));
    }
    for (file, expected) in expected {
        let path = folder.join(&file);
        match files::read_text(&path, LONGEST_DOCUMENT) {
            Err(_) => drifts.push(Drift { file, reason: "is missing" }),
            Ok(text) if text.replace("\r\n", "\n") != expected => drifts.push(Drift { file, reason: "is out of date" }),
            Ok(_) => {}
        }
    }
    let known: Vec<String> = KINDS.iter().map(|kind| file_name(kind.name)).collect();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let unknown = names.filter(|name| name.ends_with(".schema.json") && !known.contains(name));
    drifts.extend(unknown.map(|file| Drift { file, reason: "is of no known kind" }));
    Ok(drifts)
}
