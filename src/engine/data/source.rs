//! From what a user names to the files that hold it.

use std::path::{Path, PathBuf};

use nanochat_plan::DataPlan;

use super::DataError;

/// The plan for data that is named by its path alone: a folder of `.parquet`, `.jsonl` or `.txt` shards, or one file of
/// the latter two kinds. JSON lines hold the document in `field`.
///
/// # Errors
/// Nothing there, or shards of several kinds or of none.
pub fn detect(path: &str, field: &str, base: &Path) -> Result<DataPlan, DataError> {
    let place = resolve(path, base);
    let plan = |extension: &str| match extension {
        "parquet" => DataPlan::Parquet { path: path.to_string() },
        "jsonl" => DataPlan::Jsonl { path: path.to_string(), field: field.to_string() },
        _ => DataPlan::Text { path: path.to_string() },
    };
    const EXTENSIONS: [&str; 3] = ["parquet", "jsonl", "txt"];
    if place.is_file() {
        let extension = EXTENSIONS.into_iter().find(|wanted| place.extension().is_some_and(|found| found == *wanted));
        return extension.map(plan).ok_or(DataError::UnknownKind { path: place });
    }
    let found: Vec<&str> =
        EXTENSIONS.into_iter().filter(|extension| shard_files(&place, extension, "shards").is_ok()).collect();
    match found[..] {
        [] if !place.exists() => Err(DataError::Missing { path: place, kind: "shards" }),
        [one] => Ok(plan(one)),
        _ => Err(DataError::UnknownKind { path: place }),
    }
}

/// A path as written in a spec: `~` is the home folder, and relative paths start at `base`.
pub fn resolve(path: &str, base: &Path) -> PathBuf {
    let home = || std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    match path.strip_prefix('~') {
        Some("") => home().unwrap_or_else(|| base.join(path)),
        Some(rest) if rest.starts_with('/') => home().map_or_else(|| base.join(path), |home| home.join(&rest[1..])),
        _ => base.join(path),
    }
}

/// The shards of a folder by name, or the one file that is named.
pub(super) fn shard_files(path: &Path, extension: &'static str, kind: &'static str) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if !path.exists() {
        return Err(DataError::Missing { path: path.to_path_buf(), kind });
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io(path))? {
        let file = entry.map_err(DataError::io(path))?.path();
        if file.extension().is_some_and(|found| found == extension) && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(DataError::NoShards { path: path.to_path_buf(), extension });
    }
    files.sort();
    Ok(files)
}
