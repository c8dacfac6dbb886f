//! The folder that an export goes to: written aside, put in place by renames, never in the way of anything else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::ExportError;
use nanochat_artifacts::{
    Export, ExportFile, LONGEST_DOCUMENT, create_folder, file_sha256, files, parse_document, sync_folder, write_atomic,
};

/// The document that makes a folder an export.
pub(super) const FILE: &str = "export.json";

/// A target and the folder beside it that is filled first; dropped unpublished, that folder goes.
pub(super) struct Place {
    target: PathBuf,
    aside: tempfile::TempDir,
}

impl Place {
    /// Makes sure that `target` may be written, and opens a folder beside it.
    pub fn claim(target: &Path) -> Result<Self, ExportError> {
        let occupied = |reason: &str| ExportError::Occupied { path: target.into(), reason: reason.into() };
        let name = target.file_name().ok_or_else(|| occupied("it has no name of its own"))?.to_os_string();
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        // Said before the work, and looked at again after it.
        check_free(target)?;
        create_folder(&parent)?;
        let mut prefix = OsString::from(".tmp-");
        prefix.push(&name);
        prefix.push("-");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let aside = builder.tempdir_in(&parent).map_err(ExportError::io("create a folder in", &parent))?;
        Ok(Self { target: parent.join(name), aside })
    }

    /// The folder to fill.
    pub fn folder(&self) -> &Path {
        self.aside.path()
    }

    /// Writes a small file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        Ok(write_atomic(&self.folder().join(name), bytes)?)
    }

    /// Length and hash of every file by its path in the folder.
    pub fn files(&self) -> Result<BTreeMap<String, ExportFile>, ExportError> {
        let described = files_below(self.folder())?.into_iter().map(|(name, path)| {
            let bytes = fs::metadata(&path).map_err(ExportError::io("read", &path))?.len();
            Ok((name, ExportFile { bytes, sha256: file_sha256(&path)? }))
        });
        described.collect()
    }

    /// Puts the folder in its place. An earlier export gives way, and comes back when the new one can't be put there.
    pub fn publish(self) -> Result<(), ExportError> {
        check_free(&self.target)?;
        let Self { target, aside } = self;
        let parent = target.parent().unwrap_or(Path::new(".")).to_path_buf();
        let replaced = aside.path().with_extension("replaced");
        let occupied = target.exists();
        if occupied {
            fs::rename(&target, &replaced).map_err(ExportError::io("move aside", &target))?;
        }
        let published = fs::rename(aside.path(), &target).map_err(ExportError::io("put in place", &target));
        if published.is_err() && occupied {
            // The first error is the one to tell; the name says where the earlier export is otherwise.
            let _ = fs::rename(&replaced, &target);
        }
        published?;
        // Nothing is left under the temporary name to be removed.
        let _ = aside.keep();
        sync_folder(&parent)?;
        if occupied {
            fs::remove_dir_all(&replaced).map_err(ExportError::io("remove the replaced export", &replaced))?;
        }
        Ok(())
    }
}

/// Refuses a target that is anything but absent, an empty folder, or a whole export with nothing added to it.
fn check_free(target: &Path) -> Result<(), ExportError> {
    let occupied = |reason: String| ExportError::Occupied { path: target.into(), reason };
    let Ok(kind) = fs::symlink_metadata(target) else { return Ok(()) };
    if !kind.is_dir() {
        return Err(occupied("it is no folder".into()));
    }
    let files = files_below(target)?;
    if files.is_empty() {
        return match fs::read_dir(target).map_err(ExportError::io("list", target))?.next() {
            None => Ok(()),
            Some(_) => Err(occupied("it holds folders that are not an export's".into())),
        };
    }
    let path = target.join(FILE);
    let text = files::read(&path, LONGEST_DOCUMENT)
        .map_err(|_| occupied(format!("it holds files, and no {FILE} of an earlier export")))?;
    let earlier: Export = parse_document(&path, &text).map_err(|error| occupied(error.to_string()))?;
    match files.keys().find(|name| *name != FILE && !earlier.files.contains_key(*name)) {
        None => Ok(()),
        Some(strange) => Err(occupied(format!("`{strange}` in it is not of the earlier export"))),
    }
}

/// All files below a folder by their path in it, with `/` between its parts. Links count as files.
fn files_below(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ExportError> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![(String::new(), folder.to_path_buf())]);
    while let Some((prefix, next)) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(ExportError::io("list", &next))? {
            let entry = entry.map_err(ExportError::io("list", &next))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(ExportError::io("read", entry.path()))?.is_dir() {
                folders.push((format!("{name}/"), entry.path()));
            } else {
                files.insert(name, entry.path());
            }
        }
    }
    Ok(files)
}
