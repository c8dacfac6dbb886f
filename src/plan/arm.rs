//! Arms: the sides of a comparison that a spec names, and who carries each of them out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Key under which a plan's axes hold the name of its arm.
pub const ARM_AXIS: &str = "arm";

/// Who carries the runs of an arm out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArmEngine {
    /// This program.
    Native,
    /// A checkout of karpathy/nanochat, unmodified.
    Karpathy,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmPlan {
    /// Its name in the spec.
    pub name: String,
    /// Who carries it out.
    pub engine: ArmEngine,
    /// Full commit of the checkout; not written for this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Flags of the training script that the arm adds to those of the plan, by name; not written where there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, String>,
}

impl ArmPlan {
    /// Whether another program carries it out.
    pub fn is_foreign(&self) -> bool {
        self.engine != ArmEngine::Native
    }

    /// An axis without the arm's name, which stands before those that vary in the arm alone.
    pub fn own_axis<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(self.name.as_str())?.strip_prefix('.')
    }

    /// Whether both are carried out alike, whatever they are called.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (self.engine, &self.commit, &self.flags) == (other.engine, &other.commit, &other.flags)
    }
}
