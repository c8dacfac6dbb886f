//! One training step, written once over fused operations: forward pass, backward pass, optimizer.
//!
//! The step is a sequence of [`Op`]s over regions of flat arenas, whose layouts are functions of shape and batch
//! (`nanochat_plan::parameters`, `nanochat_plan::activations`). Scalars lie in arenas too, so nothing in the sequence
//! depends on a value that has to be read back, and the sequence is the same for every micro-step. [`Cpu`] carries
//! operations out with the kernels; [`Recorder`] only notes them, for checks of order, aliasing and lifetime. Another device implements
//! [`Ops`], and the step stays as it is.

mod backward;
mod cpu;
mod forward;
mod network;
mod ops;
mod optimizer;
mod record;
#[cfg(test)]
mod tests;

pub use cpu::Cpu;
pub use network::Network;
pub use ops::{
    Arena, Attention, Batch, Coefficients, HeadGradients, Heads, MUON_GROUPS, Matrix, MuonMember, Op, Ops,
    QueryKeyValue, QueryKeyValueGradients, Region, Smear, ValueMix, ValueMixGradients, WriteMode,
};
pub use optimizer::{ADAMW_GROUPS, AdamWRule, LearningRates, Optimizer, StepSettings, adamw_rule};
pub use record::{Hazard, Recorder};
