//! A hardware profile's file, as the user writes it. Only its schema is made of these types: a profile is read as a layer.

use schemars::JsonSchema;

use nanochat_artifacts::ReproducibilityRule;
use nanochat_plan::{CheckpointPlan, Profile};

use super::document::{BudgetSpec, EvalSpec, OptimizerSpec};
use super::schema_parts as parts;

/// `schema` entry of a hardware profile.
pub const PROFILE_SCHEMA: &str = "nanochat.hardware/v1";

/// A hardware profile: `experiments/hardware/<name>.yaml`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Hardware profile", rename = "Hardware")]
pub struct ProfileDocument {
    /// Kind and version of this document: `nanochat.hardware/v1`.
    #[schemars(schema_with = "parts::profile_schema_id")]
    pub schema: String,
    /// Name of the profile; its file is called so.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub name: String,
    /// What machine it describes.
    pub description: String,
    /// The same keys as the `hardware` section of a spec, but for the profile's name.
    #[schemars(flatten)]
    pub hardware: Profile,
    /// What is laid over a spec when this profile stands in for the spec's own (`--profile`): a smoke test of its shape.
    pub stand_in: StandInSpec,
}

/// Parts of a spec that a profile replaces when it stands in for another.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StandInSpec {
    /// Seeds.
    #[schemars(schema_with = "parts::seeds")]
    pub seeds: Vec<u64>,
    /// Sequences per device and micro-step.
    #[schemars(range(min = 1, max = 1048576))]
    pub device_batch_size: u64,
    /// Budget.
    pub budget: BudgetSpec,
    /// Optimizer settings.
    pub optimizer: OptimizerSpec,
    /// Evaluation.
    pub eval: EvalSpec,
    /// Checkpoints.
    pub checkpoint: CheckpointPlan,
    /// Repeats.
    pub reproducibility: ReproducibilityRule,
}
