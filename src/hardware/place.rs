//! Caches, disk and folders.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One level of cache of the first core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// `L1 data`, `L2`, and so on.
    pub name: String,
    /// Its size, as the system writes it, such as `32K`.
    pub size: String,
}

/// Caches of the first core; empty if the system doesn't report them.
pub fn caches() -> Vec<Cache> {
    let base = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let read = |index: usize, file: &str| {
        let text = fs::read_to_string(base.join(format!("index{index}")).join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    let cache = |index: usize| {
        let kind = match read(index, "type")?.as_str() {
            "Unified" => String::new(),
            kind => format!(" {}", kind.to_lowercase()),
        };
        Some(Cache { name: format!("L{}{kind}", read(index, "level")?), size: read(index, "size")? })
    };
    (0..8).map_while(cache).collect()
}

/// Free bytes of the disk of a folder; none if the system doesn't report them.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = folder.canonicalize().ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let holding = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    holding.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(|disk| disk.available_space())
}

/// Whether a folder can be written to or created: tested with a temporary file in the nearest existing folder above it.
pub fn is_writable(folder: &Path) -> bool {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder));
    let existing = absolute.ancestors().find(|folder| folder.is_dir());
    existing.is_some_and(|folder| tempfile::NamedTempFile::new_in(folder).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_can_be_created() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_writable(&folder.path().join("a/b")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
