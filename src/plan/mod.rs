//! What will happen: pure arithmetic from an experiment to fully resolved runs. No tensor, clock, device or environment.

mod types;

pub use types::*;
