//! Steps and evaluations of an experiment's runs for other programs: CSV, JSON lines, TensorBoard.

mod rows;
mod tensorboard;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nanochat_artifacts::{ArtifactError, ExperimentFolder, RunDocuments, Tables, read_experiment};
use serde_json::Value;

pub use rows::Row;

/// Columns that every row has, before those of the axes.
const FIRST: [&str; 5] = ["run_id", "seed", "repeat", "kind", "step"];

/// The rows of an experiment, and its axes.
#[derive(Debug)]
pub struct Metrics {
    runs: Vec<(RunDocuments, Vec<Row>)>,
    axes: Vec<String>,
}

impl Metrics {
    /// Reads the tables of all runs; a run that has none yet has no rows.
    ///
    /// # Errors
    /// A document or table that can't be read.
    pub fn read(folder: &ExperimentFolder) -> Result<Self, ArtifactError> {
        let documents = read_experiment(folder)?;
        let tables = Tables::read(&documents.runs)?;
        let axes: BTreeSet<String> = documents.runs.iter().flat_map(|run| run.plan.axes.keys().cloned()).collect();
        let rows = |run: RunDocuments| {
            let rows = rows::of_run(&run, &tables)?;
            Ok((run, rows))
        };
        let runs = documents.runs.into_iter().map(rows).collect::<Result<_, ArtifactError>>()?;
        Ok(Self { runs, axes: axes.into_iter().collect() })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One table: a row a step and a row an evaluation, and a column for each axis.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = FIRST.iter().copied().chain(self.axes.iter().map(String::as_str)).chain(rows::FIGURES);
        let mut written = writer.write_record(header);
        for (run, row) in self.all() {
            let first = first(run, row).map(|value| cell(&value));
            let axes = self.axes.iter().map(|axis| run.plan.axes.get(axis).map(cell).unwrap_or_default());
            let figures = row.figures().map(|figure| figure.map(|figure| cell(&figure)).unwrap_or_default());
            written = written.and_then(|()| writer.write_record(first.into_iter().chain(axes).chain(figures)));
        }
        // Memory takes what is written, and every row has as many cells as the header.
        debug_assert!(written.is_ok());
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// The same as one JSON object a line; figures that a row doesn't have are left out.
    pub fn jsonl(&self) -> String {
        let mut text = String::new();
        for (run, row) in self.all() {
            let first = FIRST.into_iter().map(str::to_owned).zip(first(run, row));
            let figures = rows::FIGURES.into_iter().zip(row.figures());
            let figures = figures.filter_map(|(name, figure)| Some((name.to_owned(), figure?)));
            let mut object: serde_json::Map<String, Value> = first.chain(figures).collect();
            object.insert("axes".to_owned(), serde_json::json!(run.plan.axes));
            text.push_str(&Value::Object(object).to_string());
            text.push('\n');
        }
        text
    }

    /// Writes an event file for each run, in a folder of its name; gives the files.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write_tensorboard(&self, out: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
        self.runs
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(run, rows)| tensorboard::write(out, run, rows))
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = (&RunDocuments, &Row)> {
        self.runs.iter().flat_map(|(run, rows)| rows.iter().map(move |row| (run, row)))
    }
}

fn first(run: &RunDocuments, row: &Row) -> [Value; 5] {
    let plan = &run.plan;
    [plan.run_id.clone().into(), plan.seed.into(), plan.repeat.into(), row.kind().into(), row.step().into()]
}

/// A value as a cell: text without quotes.
fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> Metrics {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scorecard/project/results/judged");
        Metrics::read(&ExperimentFolder::at(folder)).unwrap()
    }

    #[test]
    fn the_table_has_a_row_a_step_and_a_row_an_evaluation() {
        let metrics = judged();
        let csv = metrics.csv();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| header.iter().position(|found| found == name).unwrap_or_else(|| panic!("{name}"));
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), metrics.len());
        let of = |kind: &str| records.iter().filter(|record| &record[column("kind")] == kind).collect::<Vec<_>>();
        let (steps, evals) = (of("step"), of("eval"));
        assert!(!steps.is_empty() && !evals.is_empty());
        assert!(
            steps.iter().all(|row| row[column("loss")].parse::<f64>().is_ok() && row[column("val_bpb")].is_empty())
        );
        assert!(evals.iter().any(|row| row[column("val_bpb")].parse::<f64>().is_ok()));
        assert!(records.iter().all(|row| row[column("model.depth")].parse::<u64>().is_ok()));
    }

    #[test]
    fn json_lines_say_the_same() {
        let metrics = judged();
        let lines: Vec<Value> = metrics.jsonl().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), metrics.len());
        let step = lines.iter().find(|line| line["kind"] == "step").unwrap();
        assert!(
            step["loss"].is_f64() && step["axes"]["model.depth"].is_u64() && step.get("val_bpb").is_none(),
            "{step}"
        );
    }
}
