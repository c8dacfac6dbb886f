//! One process a run: an advisory lock that the operating system releases when its holder dies, however it dies.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nanochat_artifacts::files;

use super::CheckpointError;

/// Name of the lock file. It stays behind when the lock is released: removing it would let two processes hold locks on
/// two files of the same name.
const FILE: &str = ".lock";

/// Holds a folder for this process until dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
    path: PathBuf,
}

impl RunLock {
    /// Takes the folder's lock, creating the folder when it is missing. A lock whose holder died is free.
    ///
    /// Errors: [`CheckpointError::Locked`] names the holder's process id.
    pub fn acquire(folder: &Path) -> Result<Self, CheckpointError> {
        std::fs::create_dir_all(folder).map_err(CheckpointError::io("create the folder", folder))?;
        let path = folder.join(FILE);
        let mut file = files::open_or_create(&path).map_err(CheckpointError::io("open the lock file", &path))?;
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
        Ok(Self { _file: file, path })
    }

    /// Removes the lock's file, of a folder that is being removed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(self) -> Result<(), CheckpointError> {
        files::remove(&self.path).map_err(CheckpointError::io("remove the lock file", &self.path))
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
