//! What binds the entries of a cache to this user on this machine: a random key that lies outside every project. Entries
//! that somebody else made, and a project brought along, don't carry a digest under it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hmac::Hmac;
use hmac::digest::{FixedOutput, KeyInit, Update};
use nanochat_artifacts::files;
use sha2::Sha256;

/// Bytes of the key, a block of the hash.
const LENGTH: usize = 64;

/// The key.
#[derive(Clone)]
pub struct Secret([u8; LENGTH]);

/// The key is shown to nobody.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The user's key, made when there is none: `nanochat/cache.key` in the folder for state. Where it can't be kept, a key
    /// of this process alone, with which nothing of the cache is found again.
    pub fn of_this_user() -> Self {
        let place = state_folder().map(|folder| folder.join("nanochat").join("cache.key"));
        // What lies in the folder of the project can have come with it.
        let project = std::env::current_dir().and_then(|folder| folder.canonicalize()).unwrap_or_default();
        let inside = |path: &Path| {
            let real = path.ancestors().find_map(|part| part.canonicalize().ok());
            real.is_some_and(|real| real.starts_with(&project) && project.parent().is_some())
        };
        let kept = place.filter(|path| !inside(path)).and_then(|path| Self::at(&path).ok());
        kept.or_else(|| Self::fresh().ok()).unwrap_or(Self([0; LENGTH]))
    }

    /// The key of a file, which is made if need be.
    ///
    /// # Errors
    /// The file holds no key, is a link, or the system refuses.
    pub fn at(path: &Path) -> io::Result<Self> {
        match Self::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
        file.write_all(&Self::fresh()?.0)?;
        // Another process may have been first: its key is the one.
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Self::read(path),
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        let bytes = files::read(path, LENGTH as u64)?;
        let bytes = bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it holds no key"))?;
        Ok(Self(bytes))
    }

    fn fresh() -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    /// A digest of bytes that nobody makes without the key.
    pub fn digest(&self, parts: [&[u8]; 2]) -> [u8; 32] {
        let mut hash = Hmac::<Sha256>::new(&self.0.into());
        parts.into_iter().for_each(|part| hash.update(part));
        hash.finalize_fixed().into()
    }
}

/// Where programs keep state for a user.
fn state_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| home.join(".local").join("state"));
    variable("XDG_STATE_HOME").or_else(|| variable("LOCALAPPDATA")).or_else(home)
}
