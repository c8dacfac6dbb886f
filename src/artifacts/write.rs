//! Atomic writing: a reader sees the old file or the new one, never a part, whenever the power goes.
//!
//! Temporary file in the same folder, write, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::ArtifactError;

/// Writes `bytes` to `path` atomically, creating the folders above it.
///
/// # Errors
/// Whatever the operating system refuses, naming the step; the old file is intact then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    let folder = parent_of(path);
    create_folder(folder)?;
    let mut temporary = temporary_in(folder).map_err(|e| ArtifactError::io("create a temporary file for", path, e))?;
    temporary.write_all(bytes).map_err(|e| ArtifactError::io("write", path, e))?;
    temporary.as_file().sync_all().map_err(|e| ArtifactError::io("flush to disk", path, e))?;
    temporary.persist(path).map_err(|e| ArtifactError::io("put in place", path, e.error))?;
    sync_folder(folder)
}

/// Creates a folder and those above it, and makes their names durable.
pub fn create_folder(folder: &Path) -> Result<(), ArtifactError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|e| ArtifactError::io("create the folder", folder, e))?;
    sync_folder(parent_of(folder))
}

/// Makes renames inside a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), ArtifactError> {
    if cfg!(unix) {
        let handle = File::open(folder).map_err(|e| ArtifactError::io("open the folder", folder, e))?;
        handle.sync_all().map_err(|e| ArtifactError::io("flush the folder to disk", folder, e))?;
    }
    Ok(())
}

/// The folder that holds `path`; `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A temporary file of a random name that vanishes when dropped, with the permissions that an ordinary new file has.
///
/// # Errors
/// The system refuses.
pub fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tmp-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}
