//! The tables of all runs of an experiment as one table of steps and one of evaluations, with a column `run_id`, and the
//! totals of each run by a group-by over them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use polars::prelude::{Column, DataFrame, DataType, GroupBy, PolarsError, PolarsResult};

use super::rows::{Table, steady_steps};
use super::{ArtifactError, EvalRow, LAST_WARMUP_STEP, RunDocuments, StepRow, files};

/// Steps and evaluations of several runs.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    steps: Runs,
    evals: Runs,
}

/// The rows of several runs, one run after the other.
#[derive(Debug, Clone, Default)]
struct Runs {
    frame: DataFrame,
    places: BTreeMap<String, Range<usize>>,
}

/// The totals of one run's tables; none where no row has the figure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunTotals {
    /// Number of steps.
    pub steps: Option<f64>,
    /// Tokens after the last step.
    pub tokens: Option<f64>,
    /// Loss of the last step.
    pub train_loss: Option<f64>,
    /// Seconds spent in steps after warm-up.
    pub training_seconds: Option<f64>,
    /// Median tokens per second over the steady steps.
    pub tokens_per_second: Option<f64>,
    /// Validation bits per byte of the last evaluation.
    pub final_val_bpb: Option<f64>,
    /// Lowest validation bits per byte.
    pub min_val_bpb: Option<f64>,
    /// CORE metric of the last evaluation that has it.
    pub core_metric: Option<f64>,
}

impl Tables {
    /// Reads the tables of runs; a run without a table has no rows.
    ///
    /// # Errors
    /// A table that is damaged or lacks a column.
    pub fn read<'a>(runs: impl IntoIterator<Item = &'a RunDocuments>) -> Result<Self, ArtifactError> {
        let mut tables = Self::default();
        for run in runs {
            if files::is_there(&run.folder.steps()) {
                tables.add_steps(run)?;
            }
            if files::is_there(&run.folder.evals()) {
                tables.add_evals(run)?;
            }
        }
        Ok(tables)
    }

    /// Adds a run's `steps.parquet`.
    ///
    /// # Errors
    /// A table that can't be read.
    pub fn add_steps(&mut self, run: &RunDocuments) -> Result<(), ArtifactError> {
        let path = run.folder.steps();
        let mut table = Table::read(&path)?;
        let rows = table.step_rows()?;
        let warmup = rows.len() - steady_steps(&rows).len();
        let rates = rows.iter().map(|row| run.plan.total_batch_size as f64 / row.seconds);
        // No rate where a step doesn't count for throughput.
        let steady = rates.enumerate().map(|(place, rate)| (place >= warmup).then_some(rate));
        let timed = rows.iter().map(|row| (row.step > LAST_WARMUP_STEP).then_some(row.seconds));
        let columns = [
            Column::new(STEADY_RATE.into(), steady.collect::<Vec<_>>()),
            Column::new(TIMED_SECONDS.into(), timed.collect::<Vec<_>>()),
        ];
        table.frame.hstack_mut(&columns).map_err(table_error(&path))?;
        self.steps.add(run, table)
    }

    /// Adds a run's `evals.parquet`.
    ///
    /// # Errors
    /// A table that can't be read.
    pub fn add_evals(&mut self, run: &RunDocuments) -> Result<(), ArtifactError> {
        let path = run.folder.evals();
        let mut table = Table::read(&path)?;
        table.eval_rows()?;
        if table.frame.column("rss_bytes").is_err() {
            let unknown = Column::full_null("rss_bytes".into(), table.frame.height(), &DataType::UInt64);
            table.frame.with_column(unknown).map_err(table_error(&path))?;
        }
        self.evals.add(run, table)
    }

    /// The steps of a run, in order.
    ///
    /// # Errors
    /// None for tables that were read by [`Tables::read`].
    pub fn steps(&self, run: &RunDocuments) -> Result<Vec<StepRow>, ArtifactError> {
        match self.steps.of(&run.plan.run_id) {
            Some(frame) => Table { path: &run.folder.steps(), frame }.step_rows(),
            None => Ok(Vec::new()),
        }
    }

    /// The evaluations of a run, in order.
    ///
    /// # Errors
    /// None for tables that were read by [`Tables::read`].
    pub fn evals(&self, run: &RunDocuments) -> Result<Vec<EvalRow>, ArtifactError> {
        match self.evals.of(&run.plan.run_id) {
            Some(frame) => Table { path: &run.folder.evals(), frame }.eval_rows(),
            None => Ok(Vec::new()),
        }
    }

    /// Whether both tables of a run were read.
    pub fn has_both(&self, run: &RunDocuments) -> bool {
        [&self.steps, &self.evals].iter().all(|runs| runs.places.contains_key(&run.plan.run_id))
    }

    /// Totals of every run, by run id.
    ///
    /// # Errors
    /// What polars refuses; none for tables that were read by [`Tables::read`].
    #[expect(deprecated, reason = "polars' lazy aggregation brings a streaming engine and an HTTP stack")]
    pub fn totals(&self) -> PolarsResult<BTreeMap<String, RunTotals>> {
        let (steps, evals) = (&self.steps.frame, &self.evals.frame);
        let mut totals: BTreeMap<String, RunTotals> = BTreeMap::new();
        let mut fill = |frame, column, aggregate: Aggregate, set: fn(&mut RunTotals, f64)| {
            for (run_id, value) in by_run(frame, column, aggregate)? {
                set(totals.entry(run_id).or_default(), value);
            }
            PolarsResult::Ok(())
        };
        fill(steps, "step", |runs| runs.count(), |run, value| run.steps = Some(value))?;
        fill(steps, "tokens", |runs| runs.last(), |run, value| run.tokens = Some(value))?;
        fill(steps, "loss", |runs| runs.last(), |run, value| run.train_loss = Some(value))?;
        fill(steps, TIMED_SECONDS, |runs| runs.sum(), |run, value| run.training_seconds = Some(value))?;
        fill(steps, STEADY_RATE, |runs| runs.median(), |run, value| run.tokens_per_second = Some(value))?;
        fill(evals, "val_bpb", |runs| runs.last(), |run, value| run.final_val_bpb = Some(value))?;
        fill(evals, "val_bpb", |runs| runs.min(), |run, value| run.min_val_bpb = Some(value))?;
        fill(evals, "core_metric", |runs| runs.last(), |run, value| run.core_metric = Some(value))?;
        Ok(totals)
    }
}

/// Tokens per second of the steps that count for throughput.
const STEADY_RATE: &str = "steady_rate";
/// Seconds of the steps that count as training time.
const TIMED_SECONDS: &str = "timed_seconds";
const RUN_ID: &str = "run_id";

type Aggregate = fn(&GroupBy<'_>) -> PolarsResult<DataFrame>;

/// One aggregate of a column for every run that has a value in it.
fn by_run(frame: &DataFrame, column: &str, aggregate: Aggregate) -> PolarsResult<Vec<(String, f64)>> {
    if frame.height() == 0 {
        return Ok(Vec::new());
    }
    let present = frame.filter(frame.column(column)?.is_not_null().as_ref())?;
    let aggregated = aggregate(&present.group_by_stable([RUN_ID])?.select([column]))?;
    let [runs, values] = aggregated.columns() else { return Ok(Vec::new()) };
    let values = values.cast(&DataType::Float64)?;
    let together = runs.str()?.iter().zip(values.f64()?.iter());
    Ok(together.filter_map(|(run, value)| Some((run?.to_string(), value?))).collect())
}

fn table_error(path: &Path) -> impl Fn(PolarsError) -> ArtifactError {
    |error| ArtifactError::Table { path: path.to_path_buf(), message: error.to_string() }
}

impl Runs {
    fn add(&mut self, run: &RunDocuments, mut table: Table<'_>) -> Result<(), ArtifactError> {
        let (start, height, path) = (self.frame.height(), table.frame.height(), table.path);
        let ids = Column::new(RUN_ID.into(), vec![run.plan.run_id.as_str(); height]);
        table.frame.with_column(ids).map_err(table_error(path))?;
        if self.places.is_empty() {
            self.frame = table.frame;
        } else {
            self.frame.vstack_mut(&table.frame).map_err(table_error(path))?;
        }
        self.places.insert(run.plan.run_id.clone(), start..start + height);
        Ok(())
    }

    fn of(&self, run_id: &str) -> Option<DataFrame> {
        let place = self.places.get(run_id)?;
        Some(self.frame.slice(place.start as i64, place.len()))
    }
}
