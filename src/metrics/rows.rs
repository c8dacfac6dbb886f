//! A step or an evaluation of a run, with its figures under the names of the stored tables.

use nanochat_artifacts::{ArtifactError, EvalRow, RunDocuments, StepRow, Tables};
use serde_json::{Value, json};

/// Columns of figures, in their order.
pub const FIGURES: [&str; 9] = [
    "tokens",
    "loss",
    "lr_multiplier",
    "seconds",
    "tokens_per_second",
    "val_bpb",
    "core_metric",
    "eval_seconds",
    "rss_bytes",
];

/// A row of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A step, and its tokens a second.
    Step(StepRow, f64),
    /// An evaluation.
    Eval(EvalRow),
}

impl Row {
    /// `step` or `eval`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Step(..) => "step",
            Self::Eval(_) => "eval",
        }
    }

    /// The step: its own number, or how many were done at the evaluation.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(row, _) => row.step,
            Self::Eval(row) => row.step,
        }
    }

    /// A value for each of [`FIGURES`], where the row has one.
    pub fn figures(&self) -> [Option<Value>; 9] {
        match self {
            Self::Step(row, rate) => [
                Some(json!(row.tokens)),
                Some(json!(row.loss)),
                Some(json!(row.lr_multiplier)),
                Some(json!(row.seconds)),
                Some(json!(rate)),
                None,
                None,
                None,
                Some(json!(row.rss_bytes)),
            ],
            Self::Eval(row) => [
                Some(json!(row.tokens)),
                None,
                None,
                None,
                None,
                row.val_bpb.map(Value::from),
                row.core_metric.map(Value::from),
                Some(json!(row.eval_seconds)),
                None,
            ],
        }
    }
}

/// The rows of a run in the order in which they came: an evaluation before the step that follows it.
pub fn of_run(run: &RunDocuments, tables: &Tables) -> Result<Vec<Row>, ArtifactError> {
    let batch = run.plan.total_batch_size as f64;
    let steps = tables.steps(run)?.into_iter().map(|row| {
        let rate = batch / row.seconds;
        Row::Step(row, rate)
    });
    let mut rows: Vec<Row> = tables.evals(run)?.into_iter().map(Row::Eval).chain(steps).collect();
    rows.sort_by_key(|row| (row.step(), matches!(row, Row::Step(..))));
    Ok(rows)
}
