//! Measures this program on a plan: training by phase, inference, kernels beside their reference implementations, the tokenizer, the data path.
//!
//! Follows plans as [`crate::run`] does, but leaves nothing in an experiment's results: a benchmark is a document of its
//! own. Rates are held against limits that are measured in the same process, after the work. Refuses more steps than the
//! plan has, since its schedules end there.

mod data;
mod error;
mod infer;
mod kernels;
mod limits;
mod phases;
mod tokenizer;
mod train;

pub use data::{DataOptions, data};
pub use error::BenchError;
pub use infer::{InferOptions, infer};
pub use kernels::{KernelOptions, kernels};
pub use tokenizer::{TokenizerOptions, tokenizer};
pub use train::{Progress, TrainOptions, train};
