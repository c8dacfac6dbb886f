//! Checkpoints: named groups of tensors, one JSON state and any number of named byte files, kept one folder a step.
//!
//! The room knows nothing of models, optimizers or the training loop: who saves decides what the names mean.
//! A checkpoint is written into a temporary folder, every file and the folder are synced, and one rename publishes it;
//! `manifest.json`, written last, holds the SHA-256 of every other file, and nothing is loaded that differs from it.
//! Older checkpoints are removed only after the new one was read back and found whole.
//!
//! [`baseline`] reads the checkpoints that karpathy/nanochat writes, without running any pickle code, and writes such.
//!
//! Refusals: nothing unverified is loaded, nothing is repaired by guessing, and no file is written outside the folder
//! that was opened.

pub mod baseline;
mod error;
mod files;
mod lock;
mod manifest;
mod store;
mod tensors;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub use files::{Disk, FileOperations};
pub use lock::RunLock;
pub use store::{Checkpoints, Content, Loaded};
pub use tensors::{Stored, StoredTensor, load_tensors, save_tensors, tensors_sha256, with_bytes};
