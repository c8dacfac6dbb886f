//! The only training loop. It knows a plan, a model, a data stream and a clock, and emits typed rows; it neither prints nor
//! decides where files go.
//!
//! Order of work at a step boundary: save first, then evaluate, so that a failing evaluation can't lose training. A run that
//! was saved and restored goes on bit for bit as if it had never stopped: weights, optimizer, data stream (its whole buffer)
//! and history travel together.

mod clock;
mod divergence;
mod error;
mod evaluator;
mod state;
#[cfg(test)]
mod tests;
mod trainer;

pub use error::TrainError;
pub use state::{History, Snapshot};
pub use trainer::{CheckpointSink, Ending, Event, Inputs, NoCheckpoints, Phase, Trainer};
