//! The evaluation bundle's archive, unpacked so that it can do no harm: names stay inside the folder, there are no links, and
//! lengths are those that are counted, not those that the archive claims.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use nanochat_artifacts::{create_folder, files, sync_folder};

use super::DownloadError;
use super::sums::Sums;
use super::transfer::FreeBytes;

/// The folder in the archive whose files are unpacked; others, such as those that macOS adds, are not.
const ROOT: &str = "eval_bundle";
/// Most entries.
const MAX_ENTRIES: usize = 10_000;
/// Longest file, in bytes; the same bound holds where a bundle is read.
const MAX_FILE: u64 = 1 << 30;
/// Most bytes of all files.
const MAX_TOTAL: u64 = 4 << 30;
/// Most bytes that a byte of the archive may stand for, on the whole; text comes to about four.
const MAX_RATIO: u64 = 200;

/// Unpacks an archive into `work`, which is made anew, and renames that to `target`; gives the number of files.
pub(crate) fn unpack(archive: &Path, work: &Path, target: &Path, free: FreeBytes<'_>) -> Result<usize, DownloadError> {
    let unpacked = unpack_into(archive, work, free);
    if unpacked.is_err() {
        remove(work)?;
    }
    let count = unpacked?;
    fs::rename(work, target).map_err(DownloadError::io(target))?;
    sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(count)
}

fn unpack_into(path: &Path, work: &Path, free: FreeBytes<'_>) -> Result<usize, DownloadError> {
    let refuse = |problem: String| DownloadError::Archive { path: path.to_path_buf(), problem };
    let file = files::open(path).map_err(DownloadError::io(path))?;
    let length = file.metadata().map_err(DownloadError::io(path))?.len();
    let mut archive = ZipArchive::new(file).map_err(|error| refuse(error.to_string()))?;
    let entries = entries(&mut archive).map_err(refuse)?;
    let most = MAX_TOTAL.min(length.saturating_mul(MAX_RATIO));
    let claimed: u64 = entries.iter().map(|entry| entry.length).fold(0, u64::saturating_add);
    if claimed > most {
        return Err(refuse(format!("it stands for {claimed} bytes, more than the {most} that are unpacked of it")));
    }
    remove(work)?;
    create_folder(work)?;
    if let Some(free) = free(work).filter(|&free| free < claimed) {
        return Err(DownloadError::space(work, claimed, free));
    }
    let mut left = most;
    let mut digests = Vec::new();
    for entry in &entries {
        let place = work.join(&entry.place);
        create_folder(place.parent().unwrap_or(work))?;
        let limit = left.min(MAX_FILE);
        let mut from = archive.by_index(entry.index).map_err(|error| refuse(error.to_string()))?;
        let (bytes, sha256) = copy(&mut from, &place, limit, &refuse)?;
        left = left.saturating_sub(bytes);
        digests.push((entry.place.to_string_lossy().replace('\\', "/"), sha256));
    }
    Sums::read(work)?.record_all(digests)?;
    Ok(entries.len())
}

struct Entry {
    index: usize,
    /// Below the bundle's folder.
    place: PathBuf,
    length: u64,
}

/// The files to unpack. Every name of the archive must be harmless, also of what isn't unpacked.
fn entries(archive: &mut ZipArchive<File>) -> Result<Vec<Entry>, String> {
    if archive.len() > MAX_ENTRIES {
        return Err(format!("it has {} entries, more than {MAX_ENTRIES}", archive.len()));
    }
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| error.to_string())?;
        let name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let path = harmless(&name).ok_or_else(|| format!("its entry {name:?} leads out of the archive"))?;
        if entry.is_symlink() || entry.unix_mode().is_some_and(is_special) {
            return Err(format!("its entry {name:?} is a link or a device"));
        }
        if entry.encrypted() {
            return Err(format!("its entry {name:?} is encrypted"));
        }
        let Ok(place) = path.strip_prefix(ROOT) else { continue };
        if entry.is_dir() {
            continue;
        }
        // Some file systems take names that differ in case for the same.
        if !seen.insert(place.to_string_lossy().to_lowercase()) {
            return Err(format!("two of its entries are called {name:?}"));
        }
        entries.push(Entry { index, place: place.to_path_buf(), length: entry.size() });
    }
    match entries.iter().any(|entry| entry.place == Path::new("core.yaml")) {
        true => Ok(entries),
        false => Err(format!("it has no `{ROOT}/core.yaml`")),
    }
}

/// Whether a Unix mode names something else than a file or a folder.
fn is_special(mode: u32) -> bool {
    !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000)
}

/// A name as a path inside of the archive.
fn harmless(name: &str) -> Option<PathBuf> {
    let bad = name.contains(['\\', '\0', ':']) || name.len() > 1024 || name.chars().any(char::is_control);
    let path = Path::new(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (!bad && inside && path.components().next().is_some()).then(|| path.components().collect())
}

/// Writes an entry; its checksum is compared at its end. Gives its length and digest.
fn copy(
    from: &mut impl Read,
    place: &Path,
    limit: u64,
    refuse: &impl Fn(String) -> DownloadError,
) -> Result<(u64, String), DownloadError> {
    let mut file = files::open_or_create(place).map_err(DownloadError::io(place))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0; 1 << 18]);
    loop {
        let read = from.read(&mut buffer).map_err(|error| refuse(format!("{}: {error}", place.display())))?;
        if read == 0 {
            file.sync_all().map_err(DownloadError::io(place))?;
            return Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        bytes += read as u64;
        if bytes > limit {
            return Err(refuse(format!("an entry is longer than it claims, or than the {limit} bytes that are left")));
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(DownloadError::io(place))?;
    }
}

/// Removes what an interrupted attempt left; a link itself, never what it points to.
fn remove(work: &Path) -> Result<(), DownloadError> {
    match fs::symlink_metadata(work) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(work).map_err(DownloadError::io(work)),
        Ok(_) => files::remove(work).map_err(DownloadError::io(work)),
        Err(_) => Ok(()),
    }
}
