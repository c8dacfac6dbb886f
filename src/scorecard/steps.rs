//! Step times of many runs at once: one lazy scan over all their tables, two columns read.

use std::collections::BTreeMap;

use polars::prelude::*;

use super::ScorecardError;
use crate::artifacts::{LAST_WARMUP_STEP, RunDocuments};

/// Seconds of the steady steps of each run, by run id, in step order. Runs without a table are left out.
pub(super) fn steady_seconds(runs: &[&RunDocuments]) -> Result<BTreeMap<String, Vec<f64>>, ScorecardError> {
    let present: Vec<_> = runs.iter().filter(|run| run.folder.steps().is_file()).collect();
    let mut seconds = BTreeMap::new();
    if present.is_empty() {
        return Ok(seconds);
    }
    let by_path: BTreeMap<String, &str> = present
        .iter()
        .map(|run| (run.folder.steps().to_string_lossy().into_owned(), run.plan.run_id.as_str()))
        .collect();
    let frame = scan(by_path.keys()).map_err(|e| ScorecardError::Steps { message: e.to_string() })?;
    let mut rows: BTreeMap<&str, Vec<(u64, f64)>> = BTreeMap::new();
    let broken = |e: PolarsError| ScorecardError::Steps { message: e.to_string() };
    let paths = frame.column("path").and_then(|c| c.str()).map_err(broken)?;
    let steps = frame.column("step").and_then(|c| c.u64()).map_err(broken)?;
    let times = frame.column("seconds").and_then(|c| c.f64()).map_err(broken)?;
    for ((path, step), time) in paths.iter().zip(steps.iter()).zip(times.iter()) {
        if let (Some(run), Some(step), Some(time)) = (path.and_then(|path| by_path.get(path)), step, time) {
            rows.entry(run).or_default().push((step, time));
        }
    }
    for (run, rows) in rows {
        let first = rows.iter().position(|(step, _)| *step > LAST_WARMUP_STEP).unwrap_or(rows.len().min(2) - 1);
        seconds.insert(run.to_string(), rows.iter().skip(first).map(|(_, time)| *time).collect());
    }
    Ok(seconds)
}

fn scan<'a>(paths: impl Iterator<Item = &'a String>) -> PolarsResult<DataFrame> {
    let paths = paths.map(|path| PlRefPath::new(path.as_str())).collect();
    let options = ScanArgsParquet { include_file_paths: Some("path".into()), glob: false, ..Default::default() };
    LazyFrame::scan_parquet_files(paths, options)?.select([col("path"), col("step"), col("seconds")]).collect()
}
