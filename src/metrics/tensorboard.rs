//! A run as an event file of TensorBoard.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{ArtifactError, RunDocuments, check_name, write_atomic};
use nanochat_formats::tensorboard::{Scalar, event_file};

use super::Row;

/// Writes the run's file, whose name depends on the run alone, so that a second export replaces the first.
pub fn write(out: &Path, run: &RunDocuments, rows: &[Row]) -> Result<PathBuf, ArtifactError> {
    let began = began(run);
    let folder = out.join(check_name("the run", &run.plan.run_id)?);
    let file = folder.join(format!("events.out.tfevents.{:010}.nanochat", began as u64));
    write_atomic(&file, &event_file(began, &scalars(began, rows)))?;
    Ok(file)
}

/// When the run began: its end, less what it took; the beginning of time where that isn't recorded.
fn began(run: &RunDocuments) -> f64 {
    let finished =
        run.environment.as_ref().and_then(|environment| environment.finished_at.parse::<jiff::Timestamp>().ok());
    let elapsed = run.summary.as_ref().map_or(0.0, |summary| summary.elapsed_seconds);
    finished.map_or(0.0, |at| (at.as_second() as f64 - elapsed).max(0.0))
}

/// The charts, at the time that steps and evaluations took; start-up isn't in it.
fn scalars(began: f64, rows: &[Row]) -> Vec<Scalar> {
    let mut now = began;
    let mut scalars = Vec::new();
    for row in rows {
        let figures = match row {
            Row::Step(row, rate) => {
                now += row.seconds;
                vec![
                    ("train/loss", Some(row.loss)),
                    ("train/lr_multiplier", Some(row.lr_multiplier)),
                    ("train/tokens_per_second", Some(*rate)),
                ]
            }
            Row::Eval(row) => {
                now += row.eval_seconds;
                vec![("eval/val_bpb", row.val_bpb), ("eval/core_metric", row.core_metric)]
            }
        };
        let scalar = |(tag, value): (&'static str, Option<f64>)| {
            Some(Scalar { tag, step: row.step(), wall_time: now, value: value? })
        };
        scalars.extend(figures.into_iter().filter_map(scalar));
    }
    scalars
}
