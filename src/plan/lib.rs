//! What will happen: pure arithmetic from an experiment to fully resolved runs. No tensor, clock, device or environment.

pub mod activations;
mod arm;
mod changes;
mod climbmix;
mod costs;
pub mod derive;
mod error;
mod estimate;
pub mod gpu;
mod hash;
mod outlook;
pub mod parameters;
mod profile;
mod reference;
mod settings;
pub mod shape;
mod types;
mod words;

pub use arm::{ARM_AXIS, ArmEngine, ArmPlan};
pub use changes::{changes, follows};
pub use climbmix::{
    CLIMBMIX_FOLDER, CLIMBMIX_SHARD_BYTES, CLIMBMIX_SHARD_TOKENS, CLIMBMIX_SHARDS, CLIMBMIX_VALIDATION,
    climbmix_command, climbmix_shard, climbmix_shards, climbmix_shards_for,
};
pub use costs::{core_evaluations, evaluation_tokens, evaluations, times_due};
pub use derive::{DeriveInputs, Derived, derive};
pub use error::{FittingBatch, PlanError};
pub use estimate::{CACHED_TOKENS, arena_bytes, estimate};
pub use hash::{configuration_hash, deciding, plan_hash};
pub use outlook::{Change, Needs, Outlook, OutlookState, PlanSet, Power, Rate};
pub use profile::{Profile, Requirements, SlurmSettings};
pub use reference::rows_at_once;
pub use settings::Settings;
pub use shape::{
    decode_flops, flops_per_token, has_value_embedding, kv_bytes_per_token, kv_read_bytes, padded_vocab_size,
    parameter_counts, prefill_flops, window_sizes,
};
pub use types::*;
pub use words::*;
