//! Tells whether files are those of before without reading them.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::{Key, KeyBuilder};

/// A file that was changed so lately may be changed once more within one tick of the file system's clock.
const SETTLED: Duration = Duration::from_secs(2);

/// A stamp of files and of what else decides the documents that they hold. None when one can't be looked at, or was
/// changed just now.
pub(super) fn stamp<'p>(what: &str, files: impl IntoIterator<Item = &'p Path>) -> Option<Key> {
    let mut key = KeyBuilder::new("stamp/v1").with(what);
    for file in files {
        let path: PathBuf = file.canonicalize().ok()?;
        let metadata = path.metadata().ok()?;
        let modified = metadata.modified().ok()?;
        if !modified.elapsed().is_ok_and(|age| age > SETTLED) {
            return None;
        }
        key.add(path.as_os_str().as_encoded_bytes());
        key.add(metadata.len().to_le_bytes());
        key.add(modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos().to_le_bytes());
        identity(&metadata).iter().for_each(|number| key.add(number.to_le_bytes()));
    }
    Some(key.finish())
}

/// What no program can set back: the time of the last change of content or name, and the file's number.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [metadata.ctime(), metadata.ctime_nsec(), metadata.ino() as i64, metadata.dev() as i64]
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> [i64; 4] {
    [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file as if it had been changed some time ago.
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        let time = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_stamp_changes_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write(&a, "one");
        write(&b, "one");
        let of = |path: &Path| stamp("test", [path]);
        let first = of(&a);
        assert!(first.is_some() && first == of(&a));
        assert_ne!(of(&a), of(&b), "another path");
        assert_ne!(of(&a), stamp("other", [a.as_path()]), "read in another way");
        let modified = a.metadata().unwrap().modified().unwrap();
        // Beyond one tick of the file system's clock.
        std::thread::sleep(Duration::from_millis(50));
        std::fs::write(&a, "two!").unwrap();
        assert_eq!(of(&a), None, "changed just now");
        std::fs::File::options().write(true).open(&a).unwrap().set_modified(modified).unwrap();
        assert_ne!(of(&a), first, "another size");
        std::fs::write(&a, "two").unwrap();
        std::fs::File::options().write(true).open(&a).unwrap().set_modified(modified).unwrap();
        assert!(cfg!(not(unix)) || of(&a) != first, "same size and time set back: the system's own time tells");
        assert_eq!(of(&folder.path().join("none")), None);
    }
}
