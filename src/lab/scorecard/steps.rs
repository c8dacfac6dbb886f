//! Step times of all runs of an experiment.

use std::collections::BTreeMap;

use super::ScorecardError;
use nanochat_artifacts::{LAST_WARMUP_STEP, RunDocuments, read_steps};

/// Seconds of each step of a run, in step order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StepTimes {
    seconds: Vec<f64>,
    /// Place of the first step that counts for throughput.
    first_steady: usize,
}

impl StepTimes {
    /// Times of steps 0, 1, 2, ….
    pub fn new(seconds: Vec<f64>) -> Self {
        let after_warmup = LAST_WARMUP_STEP as usize + 1;
        let first_steady = if seconds.len() > after_warmup { after_warmup } else { seconds.len().clamp(1, 2) - 1 };
        Self { seconds, first_steady }
    }

    /// The steps that count for throughput: those after warm-up, in a short run all but the first.
    pub fn steady(&self) -> &[f64] {
        self.seconds.get(self.first_steady..).unwrap_or_default()
    }

    /// Seconds of the first `steps` steps together, the very first left out.
    pub fn after_first(&self, steps: u64) -> f64 {
        let end = (steps as usize).min(self.seconds.len());
        // The sum of nothing is -0.0, which would show in documents.
        self.seconds.get(1..end).unwrap_or_default().iter().sum::<f64>() + 0.0
    }

    /// Seconds of all steps together.
    pub fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

/// Step times of each run, by run id. Runs without a table are left out.
pub(super) fn times(runs: &[&RunDocuments]) -> Result<BTreeMap<String, StepTimes>, ScorecardError> {
    let mut times = BTreeMap::new();
    for run in runs.iter().filter(|run| run.folder.steps().is_file()) {
        let rows = read_steps(&run.folder.steps()).map_err(|e| ScorecardError::Steps { message: e.to_string() })?;
        times.insert(run.plan.run_id.clone(), StepTimes::new(rows.iter().map(|row| row.seconds).collect()));
    }
    Ok(times)
}
