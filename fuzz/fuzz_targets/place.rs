//! A folder of this process's own, for parsers that read files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder; made once.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("nanochat-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    })
}

/// Writes a file there, in place of what it held.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
    fs::write(&path, bytes).expect("written");
    path
}
