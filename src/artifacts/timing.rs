//! A timing session: the cells of an experiment in alternating blocks of steps, on one machine in one go. Speed is judged from
//! it alone under rules v2, so that the runs that quality is judged from may be made anywhere, in any order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use nanochat_plan::Precision;

use super::Environment;

/// `results/<experiment>/timing.json`: one timing session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimingRecord {
    /// `nanochat.timing/v1`.
    pub schema: String,
    /// Name of the session: when it began, UTC, RFC 3339.
    pub session: String,
    /// Digest of the machine's start, equal for whatever ran since then; none where the system doesn't say.
    pub boot: Option<String>,
    /// Where and with what it was made.
    pub environment: Environment,
    /// Steps before each cell's timed ones, which don't count.
    pub warmup_steps: u64,
    /// Blocks that were wanted.
    pub wanted_blocks: u64,
    /// The cells, in planned order.
    pub cells: Vec<TimedCell>,
    /// Every block that was taken, in order of time, those that were taken again included.
    pub blocks: Vec<TimingBlock>,
}

impl TimingRecord {
    /// The last attempt at each block, in order of their numbers.
    pub fn last_attempts(&self) -> Vec<&TimingBlock> {
        let mut last: BTreeMap<u64, &TimingBlock> = BTreeMap::new();
        for block in &self.blocks {
            last.insert(block.number, block);
        }
        last.into_values().collect()
    }
}

/// A cell of a timing session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimedCell {
    /// Values of the axes, by dotted key.
    pub axes: BTreeMap<String, serde_json::Value>,
    /// The run whose first steps are timed.
    pub run: String,
    /// Hash of its plan.
    pub plan_hash: String,
    /// Its arithmetic.
    pub dtype: Precision,
    /// Tokens of a step.
    pub tokens_per_step: u64,
}

/// Some steps of every cell, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimingBlock {
    /// Number of the block, from 1.
    pub number: u64,
    /// Which attempt at it this is, from 1.
    pub attempt: u64,
    /// Rounds of a fixed piece of work in a second before the block and after it, in thousands.
    pub calibration: (f64, f64),
    /// What the machine did besides; none where the system doesn't say.
    pub load: Option<ForeignLoad>,
    /// Seconds of the steps, in the order in which the cells went.
    pub cells: Vec<CellSeconds>,
}

/// Shares of the machine's processor time that went elsewhere during a block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignLoad {
    /// To other guests of the host.
    pub stolen: f64,
    /// To other processes.
    pub others: f64,
}

/// The timed steps of one cell in a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellSeconds {
    /// Place of the cell among those of the session, from 0.
    pub cell: usize,
    /// Seconds of each step, optimizer included.
    pub step_seconds: Vec<f64>,
}
