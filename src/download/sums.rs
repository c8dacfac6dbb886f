//! `SHA256SUMS`: what `sha256sum` writes and `sha256sum -c` checks, beside the files that were downloaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nanochat_artifacts::files;
use nanochat_artifacts::write_atomic;

use super::DownloadError;

/// Name of the list.
pub(crate) const FILE: &str = "SHA256SUMS";
/// Longest list that is read, in bytes: some 80,000 files.
const MAX_BYTES: u64 = 8 << 20;

/// Digests by file name.
#[derive(Debug)]
pub(crate) struct Sums {
    path: PathBuf,
    entries: BTreeMap<String, String>,
}

impl Sums {
    /// Reads the list of a folder; empty where there is none.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(folder: &Path) -> Result<Self, DownloadError> {
        let path = folder.join(FILE);
        if !files::is_there(&path) {
            return Ok(Self { path, entries: BTreeMap::new() });
        }
        let text = files::read_text(&path, MAX_BYTES).map_err(DownloadError::io(&path))?;
        Ok(Self { entries: parse(&text), path })
    }

    /// The digest of a file, if it is known.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// Names and digests.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, sha256)| (name.as_str(), sha256.as_str()))
    }

    /// Records a digest on disk.
    ///
    /// # Errors
    /// The list can't be written.
    pub fn record(&mut self, name: &str, sha256: &str) -> Result<(), DownloadError> {
        self.record_all([(name.to_owned(), sha256.to_owned())])
    }

    /// Records several digests on disk.
    ///
    /// # Errors
    /// The list can't be written.
    pub fn record_all(&mut self, entries: impl IntoIterator<Item = (String, String)>) -> Result<(), DownloadError> {
        self.entries.extend(entries);
        let lines: String = self.entries.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
        Ok(write_atomic(&self.path, lines.as_bytes())?)
    }
}

/// Lines of a digest, two blanks (or a blank and a star), and a name; other lines are passed over.
pub(crate) fn parse(text: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let (sha256, name) = line.split_once(' ')?;
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = name.strip_prefix([' ', '*'])?.trim_end();
        (is_digest && !name.is_empty()).then(|| (name.to_owned(), sha256.to_ascii_lowercase()))
    };
    text.lines().filter_map(entry).collect()
}
