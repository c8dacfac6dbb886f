//! Opening files that a stranger may have put there.
//!
//! Below `results/`, `reports/` and the cache no link is followed: each folder is checked where its path is made, and the
//! file itself is opened so that a link is refused. A link in the way is an error that names it. What is read is a regular
//! file of bounded size, so that a device, a pipe or a file without end is an error too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::ArtifactError;

/// The path of something below a folder of the user's: none of its parts may be a link, `..`, or a root of its own.
///
/// # Errors
/// A path that leaves the folder, or a link, which is named.
pub fn beneath(root: &Path, relative: impl AsRef<Path>) -> Result<PathBuf, ArtifactError> {
    let mut path = root.to_path_buf();
    for part in relative.as_ref().components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            _ => {
                let outside = io::Error::new(io::ErrorKind::InvalidInput, "it leads out of the folder");
                return Err(ArtifactError::io("use", relative.as_ref(), outside));
            }
        }
        refuse_link(&path).map_err(|error| ArtifactError::io("use", &path, error))?;
    }
    Ok(path)
}

/// Refuses a path that is a link itself; one that isn't there is none.
///
/// # Errors
/// It is a link.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(link()),
        _ => Ok(()),
    }
}

/// Whether anything lies there, a link included: what is no file is then an error of whoever opens it, not absent.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn link() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a link, and links are not followed here")
}

/// Opens a regular file for reading; a link is refused.
///
/// # Errors
/// It isn't there, is a link, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    regular(without_following(OpenOptions::new().read(true), path)?)
}

/// Reads a regular file of at most `limit` bytes; a link is refused.
///
/// # Errors
/// As [`open`], or it is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bounded(open(path)?, limit)
}

/// The same of a file that the user named: a link is followed.
///
/// # Errors
/// It isn't there, is no regular file, or is longer.
pub fn read_named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bounded(open_named(path)?, limit)
}

/// Opens a regular file that the user named for reading: a link is followed.
///
/// # Errors
/// It isn't there, or is no regular file.
pub fn open_named(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    without_waiting(options.read(true));
    regular(options.open(path)?)
}

/// Refuses a relative path of which a part is a link; an absolute one is the user's own.
///
/// # Errors
/// The part that is a link.
pub fn refuse_linked_parts(path: &Path) -> io::Result<()> {
    let mut walked = PathBuf::new();
    for part in path.components().filter(|_| path.is_relative()) {
        walked.push(part);
        refuse_link(&walked).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", walked.display())))?;
    }
    Ok(())
}

/// Opens what the user typed as the name of a document: a regular file, or a pipe as shells make them. An absolute name is
/// his own, and its links are followed. A relative one may lead through folders that came with the project: none of its parts
/// may be a link.
///
/// # Errors
/// It isn't there, leads through a link, or is neither a file nor a pipe.
pub fn open_typed(path: &Path) -> io::Result<File> {
    refuse_linked_parts(path)?;
    let found = fs::metadata(path)?;
    #[cfg(unix)]
    let is_pipe = {
        use std::os::unix::fs::FileTypeExt as _;
        found.file_type().is_fifo()
    };
    #[cfg(not(unix))]
    let is_pipe = false;
    // A pipe is waited for until its other end is opened.
    if is_pipe { OpenOptions::new().read(true).open(path) } else { open_named(path) }
}

/// Reads a regular file of UTF-8 as [`read`] does.
///
/// # Errors
/// As [`read`], or it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Opens a file to read and write, and makes it where it isn't there; its contents stay. A link is refused.
///
/// # Errors
/// It is a link, no regular file, or the system refuses.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    regular(without_following(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?)
}

/// Writes a file that isn't there yet, for good; what is there, a link included, stays as it is.
///
/// # Errors
/// Something is there, or the system refuses.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a file that isn't there, to read and write: of several who try, one succeeds. A link is refused.
///
/// # Errors
/// Something lies there already, or the system refuses.
pub fn create_new(path: &Path) -> io::Result<File> {
    regular(without_following(OpenOptions::new().read(true).write(true).create_new(true), path)?)
}

/// Opens a file to write at its end, and makes it where it isn't there. A link is refused.
///
/// # Errors
/// As [`open_or_create`].
pub fn append(path: &Path) -> io::Result<File> {
    regular(without_following(OpenOptions::new().append(true).create(true), path)?)
}

/// Removes a file, or a link itself; one that isn't there is removed already.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder whose files lie directly in it. Nothing is removed when there is anything else.
///
/// # Errors
/// The folder is a link or holds a link, a folder, or something else that this program doesn't put there; it is named.
pub fn remove_flat_folder(folder: &Path) -> io::Result<()> {
    refuse_link(folder)?;
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    for entry in &entries {
        if !entry.file_type()?.is_file() {
            let problem = format!("`{}` in it is no regular file, and not this program's", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
    }
    entries.iter().try_for_each(|entry| fs::remove_file(entry.path()))?;
    fs::remove_dir(folder)
}

/// Removes a folder that is empty, and gives what lies in it otherwise. One that isn't there is removed already.
///
/// # Errors
/// The folder is a link, or the system refuses.
pub fn remove_empty_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    refuse_link(folder)?;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let left = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    if left.is_empty() {
        fs::remove_dir(folder)?;
    }
    Ok(left)
}

#[cfg(unix)]
fn without_following(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    opened.map_err(|error| if refuse_link(path).is_err() { link() } else { error })
}

#[cfg(not(unix))]
fn without_following(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    refuse_link(path)?;
    options.open(path)
}

/// A pipe that nobody writes to is opened at once, and then refused.
fn without_waiting(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    #[cfg(not(unix))]
    let _ = options;
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// What a file says of its length need not be what it yields, as under `/proc`.
fn bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let too_long = |length: String| {
        let problem = format!("it has {length} bytes, more than the {limit} that are read of such a file");
        io::Error::new(io::ErrorKind::InvalidInput, problem)
    };
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_long(length.to_string()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long("further".into())) } else { Ok(bytes) }
}
