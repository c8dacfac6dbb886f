//! What can be made anew, kept on disk by hash: tokens, trained tokenizers.
//!
//! An entry is found by a [`Key`] over everything that decides it, and carries a digest of its key and its bytes under this
//! user's [`Secret`]: what is damaged, cut off, lies under another's name, or came with the project from elsewhere counts as
//! absent and is removed. Entries are put in place by a rename,
//! so that processes that share a folder see whole ones or none; they are not flushed to disk, since the digest tells.
//! The folder is bounded: what was used longest ago goes first. Nothing that goes wrong here stops anybody: the first
//! trouble is remembered for whoever wants to tell it. Knows nothing of what it keeps.

mod key;
mod secret;
mod store;

#[cfg(test)]
mod tests;

pub use key::{Key, KeyBuilder, hex};
pub use secret::Secret;
pub use store::{Cache, Contents, Usage};

/// Bytes that a cache's folder holds at most, unless told otherwise.
pub const DEFAULT_LIMIT: u64 = 16 << 30;
