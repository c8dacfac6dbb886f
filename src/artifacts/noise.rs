//! The noise document: how much a metric varies between runs that differ in nothing that should matter.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArtifactError, parse_document, read_document};

/// How much metrics vary between runs that differ in their seed alone. Plans and verdicts cite it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseRecord {
    /// `nanochat.noise/v1`.
    pub schema: String,
    /// One entry a metric.
    pub entries: Vec<NoiseEntry>,
}

/// The noise of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseEntry {
    /// `val_bpb`, `min_val_bpb`, `core_metric`, or `tokens_per_second` between runs on one machine.
    pub metric: String,
    /// Sample standard deviation between seeds, in the metric's unit.
    pub standard_deviation: f64,
    /// 95% interval of that deviation (chi-squared), low and high; none where the runs themselves aren't known.
    pub interval: Option<(f64, f64)>,
    /// Mean of the metric over the runs, in its unit; none where it isn't known.
    pub mean: Option<f64>,
    /// Number of runs behind it.
    pub runs: u64,
    /// Hash of the configuration that the runs have in common: what decides their results but seed and treatment. Verdicts of
    /// rules v2 are lent this noise by the same configuration alone; not there in documents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// Experiment that the runs belong to; none for runs of another program.
    pub experiment: Option<String>,
    /// Ids of the runs, as far as they lie in that experiment's results.
    pub run_ids: Vec<String>,
    /// Where it was measured, for people.
    pub source: String,
}

impl NoiseRecord {
    /// The figures that the baseline's authors published, which serve until a project records its own.
    ///
    /// # Errors
    /// None in a sound build: the document is compiled in.
    pub fn published() -> Result<Self, ArtifactError> {
        parse_document(Path::new("experiments/noise.json"), include_bytes!("../../experiments/noise.json"))
    }

    /// The record in a file; none where there is no file.
    ///
    /// # Errors
    /// A file that isn't a noise record.
    pub fn recorded(path: &Path) -> Result<Option<Self>, ArtifactError> {
        path.exists().then(|| read_document(path)).transpose()
    }

    /// The entry of a metric.
    pub fn of(&self, metric: &str) -> Option<&NoiseEntry> {
        self.entries.iter().find(|entry| entry.metric == metric)
    }
}
