//! What a spec claims of its candidates (rules v2), and what the evidence says of a claim's direction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is claimed of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityClaim {
    /// Better than the control: the whole interval of the difference is on the better side of zero.
    Better,
    /// No worse than the control by more than the tolerance.
    NoWorse,
    /// Nothing: quality has no verdict and no exit code.
    Off,
}

/// What is claimed of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeedClaim {
    /// The ratio is above `min_ratio` by more than the minimum effect.
    Faster,
    /// The ratio is not below `min_ratio` by more than the minimum effect.
    NoSlower,
    /// Nothing: speed has no verdict and no exit code.
    Off,
}

/// What the interval of a difference says of its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// All of the interval is on the better side of zero.
    Better,
    /// All of it is on the worse side.
    Worse,
    /// Zero is inside.
    Unresolved,
}
