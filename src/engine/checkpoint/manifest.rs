//! `manifest.json`: length and SHA-256 of every other file of a checkpoint.
//!
//! The manifest has no hash of its own. Instead its bytes must be the very ones that its content is written as, so a
//! flipped byte either changes a value, which then disagrees with the files, or breaks the spelling.
//!
//! Its seal is a digest of all else in it under the user's secret: whoever brings along a checkpoint that this user didn't
//! write can't make one.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::{Secret, hex};

/// Name of the manifest in a checkpoint's folder.
pub(super) const FILE: &str = "manifest.json";

/// Largest manifest that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 16 << 20;

const SCHEMA: &str = "nanochat.checkpoint/v1";

/// What a seal is made for, so that no other digest under the secret passes for one.
const SEALED: &[u8] = b"nanochat.checkpoint";

/// The manifest of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    files: BTreeMap<String, Entry>,
    schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
    step: u64,
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Length in bytes.
    pub bytes: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of a step with these files.
    pub fn new(step: u64, files: BTreeMap<String, Entry>) -> Self {
        Self { files, schema: SCHEMA.to_string(), seal: None, step }
    }

    /// The same with a seal under `secret`.
    pub fn sealed(self, secret: &Secret) -> Self {
        let seal = self.seal_under(secret);
        Self { seal: Some(seal), ..self }
    }

    /// Whether it has the seal that `secret` gives.
    pub fn is_sealed_under(&self, secret: &Secret) -> bool {
        self.seal.as_ref().is_some_and(|seal| *seal == self.seal_under(secret))
    }

    fn seal_under(&self, secret: &Secret) -> String {
        let bare = Self { seal: None, ..self.clone() };
        hex(&secret.digest([SEALED, &bare.to_bytes()]))
    }

    /// SHA-256 of the manifest, and so of all that it lists.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(self.to_bytes()))
    }

    /// The one spelling of this manifest.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, integers and maps with string keys always serialise.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest of the given step; says what is wrong with it otherwise.
    pub fn parse(bytes: &[u8], step: u64) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("{FILE}: {error}"))?;
        if manifest.schema != SCHEMA {
            return Err(format!("{FILE} is of the unknown kind `{}`, expected `{SCHEMA}`", manifest.schema));
        }
        if manifest.step != step {
            return Err(format!("{FILE} is of step {}, in the folder of step {step}", manifest.step));
        }
        if manifest.to_bytes() != bytes {
            return Err(format!("{FILE} is not spelled as it was written"));
        }
        Ok(manifest)
    }

    /// The files by name.
    pub fn files(&self) -> &BTreeMap<String, Entry> {
        &self.files
    }
}

/// Passes bytes on while counting and hashing them.
pub(super) struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    /// Hashes what goes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// Length and hash of all that was written.
    pub fn finish(self) -> Entry {
        self.into_parts().1
    }

    /// What was written to, with length and hash.
    pub fn into_parts(self) -> (W, Entry) {
        (self.inner, Entry { bytes: self.bytes, sha256: hex(&self.hasher.finalize()) })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(buffer.get(..written).unwrap_or(buffer));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
