//! Measures this program: what a plan's training steps take, by phase and against what the machine can do.
//!
//! Follows plans as [`crate::run`] does, but leaves nothing in an experiment's results: a benchmark is a document of its
//! own. Rates are held against limits that are measured in the same process, after the work. Refuses more steps than the
//! plan has, since its schedules end there.

mod error;
mod limits;
mod phases;
mod train;

pub use error::BenchError;
pub use train::{Progress, TrainOptions, train};
