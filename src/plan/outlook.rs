//! What carrying the plans out would do: documents that `nanochat plan` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Precision, QualityMetric, RunPlan, costs};

/// What `nanochat plan --format json` prints: every run of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSet {
    /// `nanochat.plan_set/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// The runs, in order.
    pub runs: Vec<RunPlan>,
    /// What `run` would do with each of them, in the same order.
    pub outlook: Vec<Outlook>,
    /// What the planned seeds can tell; none where nothing is known of the metric's noise.
    pub power: Option<Power>,
    /// What the runs need on disk, at which rate they are expected to train, and what has to be done first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
}

impl PlanSet {
    /// The runs of an experiment.
    pub fn new(experiment: &str, runs: Vec<RunPlan>, outlook: Vec<Outlook>, power: Option<Power>) -> Self {
        let (schema, experiment) = ("nanochat.plan_set/v1".to_owned(), experiment.to_owned());
        Self { schema, experiment, runs, outlook, power, needs: None }
    }
}

/// Bytes of memory for each byte of a document that is read and encoded: a line and its text, for a part of the time. Measured on
/// documents of 3, 20 and 100 MB.
const DOCUMENT_COPIES: f64 = 1.7;
/// Bytes of a document that are indexed, hashed, learnt from and encoded in a second, as measured on the same ones.
const DOCUMENT_BYTES_A_SECOND: f64 = 4e6;

/// What the runs need besides memory and time on the profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Bytes of the training data on disk, about; none where that isn't known.
    pub data_bytes: Option<u64>,
    /// Bytes of the longest document, where the data was read before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_document_bytes: Option<u64>,
    /// Bytes of the checkpoints that stay on disk, over all runs, about.
    pub checkpoint_bytes: u64,
    /// Evaluations of bits per byte, over all runs.
    pub evaluations: u64,
    /// Tokens of all of them.
    pub evaluation_tokens: u64,
    /// Evaluations of CORE, over all runs.
    pub core_evaluations: u64,
    /// The rates at which runs are expected to train, one for each precision; none where neither profile nor results say.
    pub rates: Vec<Rate>,
    /// What has to be known or done first, a sentence each.
    pub remarks: Vec<String>,
}

impl Needs {
    /// Time of a run in seconds with its evaluations, going by recorded runs or else by what the profile states; none where
    /// neither says.
    pub fn seconds(&self, run: &RunPlan) -> Option<f64> {
        let rate = self.rates.iter().find(|rate| rate.dtype == run.dtype)?;
        let reading = self.longest_document_bytes.unwrap_or(0) as f64 / DOCUMENT_BYTES_A_SECOND;
        Some(costs::seconds(run, rate.tflops * 1e12) + rate.startup_seconds.unwrap_or(0.0).max(reading))
    }

    /// Memory of a run in GiB, with what its longest document takes while it is read and encoded.
    pub fn memory_gib(&self, run: &RunPlan) -> f64 {
        let document = self.longest_document_bytes.unwrap_or(0) as f64 * DOCUMENT_COPIES;
        run.estimate.memory_gib + document / (1u64 << 30) as f64
    }
}

/// A rate of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Arithmetic.
    pub dtype: Precision,
    /// Training FLOPs a second, in 10^12.
    pub tflops: f64,
    /// Seconds before the first step, as measured; none where that isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<f64>,
    /// The run that it was measured on, as `experiment/run`; none when it is the profile's peak times an assumed efficiency.
    pub measured_on: Option<String>,
}

/// What is on disk for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutlookState {
    /// Finished with this plan; nothing to do.
    Done,
    /// Never run.
    New,
    /// Another plan was run at this place of the matrix.
    Changed,
    /// Stopped by an error; starts again.
    Failed,
    /// Has a checkpoint; goes on.
    Interrupted,
    /// Another process has it, or a cluster's queue.
    Running,
}

/// What `run` would do with a run, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outlook {
    /// The run.
    pub run_id: String,
    /// What is on disk.
    pub state: OutlookState,
    /// Why, for people.
    pub reason: String,
    /// Steps done at the newest checkpoint, of an interrupted run.
    pub step: Option<u64>,
    /// What differs from the plan that was run before, of a changed run; causes first, what follows from them last.
    pub changed: Vec<Change>,
}

/// A value that decides the result, in the stored plan and in this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Dotted key of the plan.
    pub key: String,
    /// Value in the stored plan; null where it has none.
    pub before: serde_json::Value,
    /// Value now; null where there is none.
    pub now: serde_json::Value,
}

/// What the planned seeds can tell of a difference in quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// The metric that quality is judged on.
    pub metric: QualityMetric,
    /// Seeds planned, of each cell.
    pub seeds: u64,
    /// Runs of the baseline that are counted with: the recorded ones, or as many as there are seeds.
    pub baseline_runs: u64,
    /// Standard deviation between seeds, in the metric's unit.
    pub standard_deviation: f64,
    /// Where that was measured.
    pub noise_source: String,
    /// Smallest true difference that the verdict would see with 80% probability, in the metric's unit; none when there
    /// are too few runs for an interval, and means are compared as points.
    pub smallest_difference: Option<f64>,
    /// The tolerance in the metric's unit; none when it is relative and no baseline is recorded.
    pub tolerance: Option<f64>,
    /// Seeds an arm that would test this tolerance; none when the tolerance isn't known or out of reach.
    pub seeds_needed: Option<u64>,
    /// Whether the seeds planned test the tolerance; none when that isn't known.
    pub is_enough: Option<bool>,
    /// The sentence that says so.
    pub sentence: String,
}
