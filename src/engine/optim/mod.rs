//! The optimizer: AdamW for embeddings, head and scalars, Muon for the layers' matrices, and their schedules.
//!
//! Groups, constants and arithmetic follow the baseline (`setup_optimizer` in `nanochat/gpt.py`, `nanochat/optim.py`),
//! hyperparameters rounded to f32 where it does so. State is exported and restored by parameter name, and a step is a
//! function of parameters, gradients, state and settings alone. Refused: state of other names or shapes.

mod adamw;
mod error;
mod exported;
mod imported;
mod muon;
mod muon_adamw;
mod schedule;
mod state;

#[cfg(test)]
mod tests;

pub use error::OptimError;
pub use exported::{SavedGroup, Setting, to_baseline};
pub use imported::{GroupState, from_baseline};
pub use muon_adamw::MuonAdamW;
pub use nanochat_step::{LearningRates, StepSettings};
pub use schedule::Schedule;
pub use state::{Moments, STEP, moment_names, moments_of};
