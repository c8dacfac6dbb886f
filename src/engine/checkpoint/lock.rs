//! One process a run: an advisory lock that the operating system releases when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Name of the lock file. It stays behind when the lock is released: removing it would let two processes hold locks on
/// two files of the same name.
const FILE: &str = ".lock";

/// Holds a folder for this process until dropped.
#[derive(Debug)]
pub struct RunLock {
    folder: PathBuf,
    _file: File,
}

impl RunLock {
    /// Takes the folder's lock, creating the folder when it is missing. A lock whose holder died is free.
    ///
    /// Errors: [`CheckpointError::Locked`] names the holder's process id.
    pub fn acquire(folder: &Path) -> Result<Self, CheckpointError> {
        std::fs::create_dir_all(folder).map_err(CheckpointError::io("create the folder", folder))?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(CheckpointError::io("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CheckpointError::Locked { folder: folder.to_path_buf(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => {
                return Err(CheckpointError::Io { action: "lock", path, source });
            }
        }
        let noted =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(CheckpointError::io("write the lock file", &path))?;
        Ok(Self { folder: folder.to_path_buf(), _file: file })
    }

    /// Removes everything in the folder but the lock itself.
    ///
    /// # Errors
    /// A file or folder can't be removed.
    pub fn clear(&self) -> Result<(), CheckpointError> {
        let entries = std::fs::read_dir(&self.folder).map_err(CheckpointError::io("read the folder", &self.folder))?;
        for entry in entries {
            let entry = entry.map_err(CheckpointError::io("read the folder", &self.folder))?;
            if entry.file_name() == FILE {
                continue;
            }
            let path = entry.path();
            // A link is removed itself, never what it names.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(CheckpointError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Who holds the lock, as far as the file tells.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) if process == std::process::id() => "this very process".to_string(),
        (Ok(_), Ok(process)) => format!("process {process}"),
        _ => "another process".to_string(),
    }
}
