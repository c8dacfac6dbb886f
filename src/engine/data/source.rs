//! From what a user names to the files that hold it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nanochat_plan::{DataPlan, TEXT_COLUMN};

use super::DataError;
use super::packed::Packing;

/// The plan for data that is named by its path alone: a folder of `.parquet`, `.jsonl` or `.txt` shards, or one file of
/// the latter two kinds. JSON lines hold the document in `field`.
///
/// # Errors
/// Nothing there, or shards of several kinds or of none.
pub fn detect(path: &str, field: &str, base: &Path) -> Result<DataPlan, DataError> {
    let place = resolve(path, base);
    let plan = |extension: &str| match extension {
        "parquet" if field == TEXT_COLUMN => DataPlan::parquet(path),
        "parquet" => DataPlan::Parquet { path: path.to_string(), field: Some(field.to_string()) },
        "jsonl" => DataPlan::Jsonl { path: path.to_string(), field: field.to_string() },
        _ => DataPlan::Text { path: path.to_string() },
    };
    const EXTENSIONS: [&str; 3] = ["parquet", "jsonl", "txt"];
    if place.is_file() {
        let extension = EXTENSIONS.into_iter().find(|wanted| is_shard(&place, wanted));
        return extension.map(plan).ok_or(DataError::UnknownKind { path: place, found: String::new() });
    }
    let mut found = Vec::new();
    for extension in EXTENSIONS {
        match shard_files(&place, extension, "shards") {
            Ok(_) => found.push(extension),
            Err(error @ DataError::BrokenLink { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    match found[..] {
        [] if !place.exists() => Err(DataError::Missing { path: place, kind: "shards" }),
        [one] => Ok(plan(one)),
        _ => Err(DataError::UnknownKind { found: files_in(&place), path: place }),
    }
}

/// `: there are a.json and 3 more files`, by name.
fn files_in(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    // One of each kind says more than the first few.
    let kind = |name: &String| name.split_once('.').map(|(_, kind)| kind.to_owned());
    let mut kinds = std::collections::HashSet::new();
    let shown: Vec<String> = names.iter().filter(|name| kinds.insert(kind(name))).take(3).cloned().collect();
    match names.len() - shown.len() {
        _ if names.is_empty() => ", there are no files".to_owned(),
        0 => format!(", there are {}", shown.join(", ")),
        more => format!(", there are {} and {more} more", shown.join(", ")),
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
    let mut folders = collect(path, extension, &mut files)?;
    // Folders within are looked into only where the folder itself has no shard, as partitioned data sets have it.
    let mut seen = BTreeSet::new();
    for _ in 0..DEEPEST {
        // Links may lead in a circle: a folder is looked into once, under the first of its names.
        folders.sort();
        folders.retain(|folder| folder.canonicalize().is_ok_and(|real| seen.insert(real)));
        if !files.is_empty() {
            break;
        }
        let mut next = Vec::new();
        for folder in &folders {
            next.extend(collect(folder, extension, &mut files)?);
        }
        folders = next;
    }
    if files.is_empty() {
        return Err(DataError::NoShards { path: path.to_path_buf(), extension });
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name is that of a shard; JSON lines may be compressed.
fn is_shard(path: &Path, extension: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = |ending: &str| {
        let stem = name.strip_suffix(ending).and_then(|name| name.strip_suffix(extension));
        stem.is_some_and(|stem| stem.len() > 1 && stem.ends_with('.'))
    };
    ends("") || extension == "jsonl" && Packing::ENDINGS.into_iter().any(ends)
}

/// Levels of folders that are looked into.
const DEEPEST: usize = 8;

/// Adds a folder's own shards, hidden files left out; its folders. A link to nothing is an error: which shard is the last one,
/// and so validation, hangs on every one of them.
fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let is_shard = is_shard(&path, extension);
        // A folder behind a link counts like any other.
        if path.is_dir() {
            folders.push(path);
        } else if !path.exists() {
            return Err(DataError::BrokenLink { path });
        } else if is_shard && path.is_file() {
            files.push(path);
        }
    }
    Ok(folders)
}
