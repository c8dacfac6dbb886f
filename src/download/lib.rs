//! Downloads: training data, and the tasks of the CORE metric.
//!
//! The only code of the project that opens connections (`client.rs`). A file grows under the name `<file>.part`, goes on
//! where it stopped, is checked whole, and only then gets its name. Refused: what isn't the kind of file that was asked for,
//! another digest than the one that is known, and archives that would write outside of their folder or without bound.

mod bundle;
mod client;
mod climbmix;
mod error;
mod retry;
mod sums;
mod transfer;
mod unpack;
mod verify;

#[cfg(test)]
mod tests;

pub use bundle::{EVAL_BUNDLE_FOLDER, EVAL_BUNDLE_URL, EvalBundle};
pub use client::{Client, Environment};
pub use climbmix::{Climbmix, climbmix_address};
pub use error::DownloadError;
pub use retry::Patience;
pub use transfer::{Event, Report, Watch};
