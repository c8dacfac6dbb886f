//! Errors of downloads. Addresses in them are those that were asked for, never where a server redirected to: such addresses
//! may carry signatures.

use std::path::{Path, PathBuf};

use nanochat_artifacts::ArtifactError;

/// Why something could not be downloaded.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DownloadError {
    /// A file or folder can't be read or written.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("check the folder's permissions, or name another with --out; what is there already stays"))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// A file can't be put in place.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// The disk is too small, or full.
    #[error("{}: {needed} more are needed, and the disk has {free} left", path.display())]
    #[diagnostic(help(
        "free some space, name a folder on a larger disk with --out, or ask for fewer shards; the same command then goes \
         on where it stopped"
    ))]
    Space {
        /// The folder or file.
        path: PathBuf,
        /// What is needed.
        needed: String,
        /// What there is.
        free: String,
    },
    /// Another process downloads the same file.
    #[error("{}: another process is downloading this file", path.display())]
    #[diagnostic(help("wait for it to end, or stop it"))]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The address can't be used.
    #[error("`{address}` is no address to download from: {reason}")]
    #[diagnostic(help("give an address such as https://huggingface.co, in HF_ENDPOINT or after --from"))]
    Address {
        /// The address.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The token can't be sent.
    #[error("HF_TOKEN can't be sent: {reason}")]
    #[diagnostic(help("set it to the token alone, or unset it: the data of the baseline needs none"))]
    Token {
        /// Why not.
        reason: &'static str,
    },
    /// A server refused, for good.
    #[error("{url}: the server answers {status}")]
    #[diagnostic(help("{help}"))]
    Refused {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What to do.
        help: &'static str,
    },
    /// A server could not be reached, or failed, again and again.
    #[error("{url}: gave up after {attempts} attempts without progress: {reason}")]
    #[diagnostic(help(
        "check the connection, and HTTPS_PROXY if the network has a proxy; HF_ENDPOINT or --from names a mirror; the same \
         command goes on where it stopped"
    ))]
    GaveUp {
        /// What was asked for.
        url: String,
        /// Attempts since the last progress.
        attempts: u32,
        /// The last problem.
        reason: String,
    },
    /// Redirected in circles, or to where a file must not come from.
    #[error("{url}: {reason}")]
    #[diagnostic(help("check the address, and whether a proxy or a log-in page answers in the server's place"))]
    Redirect {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// What came is not the kind of file that was asked for.
    #[error("{url}: {told}")]
    #[diagnostic(help("check the address, and whether a proxy or a log-in page answers in the server's place"))]
    Content {
        /// What was asked for.
        url: String,
        /// What came.
        told: String,
    },
    /// The file is damaged or another one.
    #[error("{url}: what was downloaded is not the file that was expected: {problem}")]
    #[diagnostic(help("{help}"))]
    Damaged {
        /// What was asked for.
        url: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// An archive that must not be unpacked.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help("this is not the baseline's evaluation bundle: check the address; nothing of it was kept"))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The target is something else.
    #[error("{}: there is something else here already: {problem}", path.display())]
    #[diagnostic(help("move it away, or name another folder with --out"))]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl DownloadError {
    /// Wraps a system error about `path`; a full disk is its own error.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| {
            let path = path.to_path_buf();
            match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    Self::Space { path, needed: "some bytes".into(), free: "none".into() }
                }
                _ => Self::Io { path, source },
            }
        }
    }

    /// Too little space for so many bytes.
    pub(crate) fn space(path: &Path, needed: u64, free: u64) -> Self {
        Self::Space { path: path.to_path_buf(), needed: size(needed), free: size(free) }
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}
