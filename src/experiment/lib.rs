//! What a spec means. An [`Experiment`] can't be invalid: whatever is missing, contradictory or impossible in any cell of
//! the matrix is told at the place that caused it, all at once, before there is an experiment.
//!
//! Paths in specs are relative to the project folder, the one that the program is started in; `~` is the home folder.
//! They are not looked at here, so that a spec validates and plans on a machine without the data; [`missing_paths`] says
//! what a run would lack.

mod arms;
mod claims;
pub mod config;
pub mod editors;
mod expand;
mod explain;
#[cfg(test)]
mod hand_worked_tests;
mod matrix;
mod meaning;
mod namesakes;
mod paths;
mod problem;
mod profiles;
#[cfg(test)]
mod property_tests;
mod record;
mod run_id;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use nanochat_artifacts::{DriftRule, QualityRule, ReproducibilityRule, SpeedRule};
use nanochat_plan::{Profile, Settings};

use crate::config::{Diagnostic, Merged, SpecErrors};

pub use crate::config::LoadOptions;
pub use crate::config::document::VariantSpec;
pub use arms::Arm;
pub use expand::{Expansion, block_key, cell_key, expand, expand_cells, same_block};
pub use explain::Explained;
pub use meaning::NOISE_SUFFIX;
pub use namesakes::{namesakes, stated_name};
pub use paths::{missing_paths, resolve_path};
pub use profiles::{load_profile, profile_names};

/// One cell of the matrix.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Values of the keys that vary, by dotted key.
    pub axes: BTreeMap<String, Value>,
    /// The same keys in the order of the matrix.
    pub order: Vec<String>,
    /// What the cell means.
    pub settings: Settings,
    /// The vocabulary is assumed, since the tokenizer isn't here and the spec doesn't state it.
    pub assumed_vocabulary: bool,
}

/// An experiment: one or more cells, the seeds of each, and the rules of judgement.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Name, and folder under `results/`.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Full commit of the pinned baseline.
    pub baseline_commit: String,
    /// Recorded baseline result, when the spec names one.
    pub baseline_results: Option<String>,
    /// Axes of the cell that the others are held against, when the spec names one.
    pub control: Option<BTreeMap<String, Value>>,
    /// The arms by name, when the spec names any.
    pub arms: Vec<Arm>,
    /// Ways to run the baseline; empty: as the profile says.
    pub baseline_variants: Vec<VariantSpec>,
    /// Seeds of every cell.
    pub seeds: Vec<u64>,
    /// Quality rule.
    pub quality: QualityRule,
    /// Speed rule.
    pub speed: SpeedRule,
    /// Reproducibility rule.
    pub reproducibility: ReproducibilityRule,
    /// How far evaluations may drift, when the spec says.
    pub drift: Option<DriftRule>,
    /// Version of the rules.
    pub ruleset: String,
    /// The cells; never empty.
    pub cells: Vec<Cell>,
    /// The profile stands in for the one that the spec names: speeds can't be compared.
    pub stand_in: bool,
    /// What the author should know though the spec is valid.
    pub warnings: Vec<Diagnostic>,
    /// The spec file.
    pub path: PathBuf,
    /// The layers that it was built from.
    pub layers: Merged,
}

impl Experiment {
    /// Whether the arm of this name is the control.
    pub fn is_control(&self, arm: &str) -> bool {
        let named = self.control.as_ref().and_then(|control| control.get(nanochat_plan::ARM_AXIS));
        named.and_then(Value::as_str) == Some(arm)
    }

    /// The hardware profile, which all cells share but for precision and batch.
    pub fn profile(&self) -> Option<&Profile> {
        self.cells.first().map(|cell| &cell.settings.profile)
    }
}

/// Loads a spec with everything it builds on and makes an experiment of it.
///
/// # Errors
/// Every problem of every layer and cell.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Experiment, SpecErrors> {
    let loaded = crate::config::load(path, options)?;
    meaning::read(loaded)
}

/// Makes an experiment of a spec whose bytes are at hand; `path` is what messages call it, and what `extends` is relative to.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(path: &Path, bytes: &[u8], options: &LoadOptions) -> Result<Experiment, SpecErrors> {
    let loaded = crate::config::load_bytes(path, bytes, options)?;
    meaning::read(loaded)
}
