//! Step times of many runs at once: one lazy scan over all their tables, two columns read.

use std::collections::BTreeMap;

use polars::prelude::*;

use super::ScorecardError;
use crate::artifacts::{LAST_WARMUP_STEP, RunDocuments};

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
    let present: Vec<_> = runs.iter().filter(|run| run.folder.steps().is_file()).collect();
    if present.is_empty() {
        return Ok(BTreeMap::new());
    }
    let by_path: BTreeMap<String, &str> = present
        .iter()
        .map(|run| (run.folder.steps().to_string_lossy().into_owned(), run.plan.run_id.as_str()))
        .collect();
    let frame = scan(by_path.keys()).map_err(|e| ScorecardError::Steps { message: e.to_string() })?;
    let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let broken = |e: PolarsError| ScorecardError::Steps { message: e.to_string() };
    let paths = frame.column("path").and_then(|c| c.str()).map_err(broken)?;
    let times = frame.column("seconds").and_then(|c| c.f64()).map_err(broken)?;
    for (path, time) in paths.iter().zip(times.iter()) {
        if let (Some(run), Some(time)) = (path.and_then(|path| by_path.get(path)), time) {
            rows.entry(run).or_default().push(time);
        }
    }
    Ok(rows.into_iter().map(|(run, seconds)| (run.to_string(), StepTimes::new(seconds))).collect())
}

fn scan<'a>(paths: impl Iterator<Item = &'a String>) -> PolarsResult<DataFrame> {
    let paths = paths.map(|path| PlRefPath::new(path.as_str())).collect();
    let options = ScanArgsParquet { include_file_paths: Some("path".into()), glob: false, ..Default::default() };
    LazyFrame::scan_parquet_files(paths, options)?.select([col("path"), col("seconds")]).collect()
}
