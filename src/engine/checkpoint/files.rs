//! The file operations of a save, behind a small trait, so that tests can let each of them fail in turn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use nanochat_artifacts::files;

/// What a checkpoint store asks of a file system.
pub trait FileOperations: Send + Sync {
    /// Creates one new folder and the missing ones above it.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Creates a new file, lets `content` fill it, and syncs it to the disk.
    fn write(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()>;

    /// Syncs a folder's entries to the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Renames a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a folder of files; one that holds anything else stays, and is an error.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Paths of a folder's entries, in no order; none when the folder is absent.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Opens a file for reading and tells its length in bytes.
    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl FileOperations for Disk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        content(&mut writer)?;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Windows has no way to sync a folder; its renames are journalled.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        files::remove_flat_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        files::refuse_link(path)?;
        match fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let file = files::open(path)?;
        let length = file.metadata()?.len();
        Ok((length, Box::new(file)))
    }
}
