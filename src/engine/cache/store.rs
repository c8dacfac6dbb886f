//! The folder of entries: `<kind>/<two digits>/<key>`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nanochat_artifacts::files;

use super::{Key, Secret};

/// Bytes of the digest at the head of an entry.
const DIGEST: usize = 32;
/// The kinds of entry that the program makes; others in the folder are not from it.
const KINDS: &[&str] = &["tokens", "tokenizer", "training_texts", "scans"];
/// How names of unfinished entries begin.
const UNFINISHED: &str = ".tmp-";
/// Unfinished entries older than this were left by a process that died.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Share of the limit that may be written before the folder is looked through again.
const LOOK_EVERY: u64 = 16;

/// A folder of entries.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
    secret: Secret,
    /// Bytes written since the folder was looked through; at the start as many as make the first write look.
    written: AtomicU64,
    problem: OnceLock<String>,
}

/// How much there is of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// What a folder holds, by kind.
pub type Contents = BTreeMap<String, Usage>;

/// A file of the folder.
struct Entry {
    path: PathBuf,
    kind: String,
    bytes: u64,
    used: SystemTime,
    unfinished: bool,
}

impl Cache {
    /// A cache in a folder, which is made when the first entry comes. Its entries are those made with `secret`. At most about `limit` bytes stay in it.
    pub fn new(folder: impl Into<PathBuf>, limit: u64, secret: Secret) -> Self {
        Self { folder: folder.into(), limit, secret, written: AtomicU64::new(u64::MAX / 2), problem: OnceLock::new() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first thing that went wrong, if anything did.
    pub fn problem(&self) -> Option<&str> {
        self.problem.get().map(String::as_str)
    }

    /// The bytes kept under a key. None when there are none, or not the ones that were put there.
    pub fn get(&self, kind: &'static str, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(kind, key);
        self.refuse_links(&path).ok()?;
        let mut file = files::open(&path).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|error| self.note("read", &path, &error)).ok()?;
        match content.split_at_checked(DIGEST) {
            Some((digest, bytes)) if digest == self.secret.digest([key.bytes(), bytes]) => {
                // Says that the entry was used. A folder that can't be written to is one that nothing is removed from.
                let _ = file.set_modified(SystemTime::now());
                content.drain(..DIGEST);
                Some(content)
            }
            _ => {
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps bytes under a key, in place of what was there.
    pub fn put(&self, kind: &'static str, key: &Key, bytes: &[u8]) {
        let path = self.path(kind, key);
        if let Err(error) = self.write(&path, &[&self.secret.digest([key.bytes(), bytes])[..], bytes]) {
            return self.note("write", &path, &error);
        }
        let size = (DIGEST + bytes.len()) as u64;
        if self.written.fetch_add(size, Ordering::Relaxed).saturating_add(size) > self.limit / LOOK_EVERY {
            self.written.store(0, Ordering::Relaxed);
            self.trim();
        }
    }

    fn path(&self, kind: &str, key: &Key) -> PathBuf {
        let name = key.hex();
        self.folder.join(kind).join(&name[..2]).join(name)
    }

    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        self.refuse_links(path)?;
        fs::create_dir_all(folder)?;
        match File::create_new(self.folder.join(".gitignore")) {
            Ok(mut ignore) => ignore.write_all(b"*\n")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Refuses an entry that lies behind a link: the cache's folder, or one of those in it.
    fn refuse_links(&self, path: &Path) -> io::Result<()> {
        let below = path.ancestors().take_while(|part| part.starts_with(&self.folder));
        let found = below.into_iter().find(|part| files::refuse_link(part).is_err());
        found.map_or(Ok(()), |part| {
            let problem = format!("{} is a link, and links are not followed here", part.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
        })
    }

    /// Removes what was used longest ago until the limit is kept.
    fn trim(&self) {
        let mut entries = self.entries();
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            let abandoned = entry.unfinished && entry.used.elapsed().is_ok_and(|age| age > ABANDONED);
            if abandoned || (total > self.limit && !entry.unfinished) {
                let _ = fs::remove_file(&entry.path);
                total -= entry.bytes;
            }
        }
    }

    /// What the folder holds.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for entry in self.entries().into_iter().filter(|entry| !entry.unfinished) {
            let usage = contents.entry(entry.kind).or_default();
            usage.entries += 1;
            usage.bytes += entry.bytes;
        }
        contents
    }

    /// Removes all entries; gives what there was.
    ///
    /// # Errors
    /// An entry that can't be removed.
    pub fn clear(&self) -> io::Result<Contents> {
        self.refuse_links(&self.folder)?;
        let contents = self.contents();
        for entry in self.entries() {
            match fs::remove_file(&entry.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(contents)
    }

    /// All files that have the place of an entry; nothing else in the folder is looked at, and no link is followed.
    fn entries(&self) -> Vec<Entry> {
        let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut entries = Vec::new();
        if self.refuse_links(&self.folder).is_err() {
            return entries;
        }
        let ours = |kind: &fs::DirEntry| KINDS.iter().any(|known| kind.file_name() == *known);
        for kind in list(&self.folder).filter(|kind| ours(kind) && is_folder(kind)) {
            for file in list(&kind.path()).filter(is_folder).flat_map(|part| list(&part.path())) {
                let Ok(metadata) = file.metadata() else { continue };
                let name = file.file_name().to_string_lossy().into_owned();
                let unfinished = name.starts_with(UNFINISHED);
                let is_key = name.len() == 2 * DIGEST && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                if metadata.is_file() && (unfinished || is_key) {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let kind = kind.file_name().to_string_lossy().into_owned();
                    entries.push(Entry { path: file.path(), kind, bytes: metadata.len(), used, unfinished });
                }
            }
        }
        entries
    }

    fn note(&self, action: &str, path: &Path, error: &io::Error) {
        let _ = self.problem.set(format!("the cache can't {action} {}: {error}", path.display()));
    }
}
