//! Names of entries.

use sha2::{Digest, Sha256};

/// Names an entry by everything that decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Collects what decides an entry.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Begins with what the entry is, and the version of its form and of how it is made.
    pub fn new(what: &str) -> Self {
        Self(Sha256::new()).with(what.as_bytes())
    }

    /// Adds a part; parts are kept apart by their lengths.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        self.add(part);
        self
    }

    /// Adds a part in place.
    pub fn add(&mut self, part: impl AsRef<[u8]>) {
        self.0.update((part.as_ref().len() as u64).to_le_bytes());
        self.0.update(part.as_ref());
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}
