//! The other arm: what karpathy/nanochat did, read from what it printed.

mod log;

pub use log::{LogEvent, LogReader, read_log};
