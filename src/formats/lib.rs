//! File formats of other programs: what a file says, without what it means to this program.
//!
//! Every reader takes hostile input: nothing that a file names is executed or imported, and memory stays within a small
//! multiple of the file's length, whatever the file claims. The crate knows neither model, plan nor results.

pub mod disguise;
mod error;
pub mod onnx;
pub mod pickle;
pub mod tensorboard;
pub mod torch;

pub use error::FormatError;
