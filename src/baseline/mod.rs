//! The other arm: what karpathy/nanochat is told to do, and what it did, read from what it printed.

mod error;
mod flags;
mod log;

pub use error::BaselineError;
pub use flags::flags_of;
pub use log::{LogEvent, LogReader, read_log};
