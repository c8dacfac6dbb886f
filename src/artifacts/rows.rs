//! The tables of a run: one row a step, one row an evaluation, as parquet (zstd) through polars. The same rows give the
//! same bytes, so that hashes of the files can be compared.

use std::io::Read;
use std::path::Path;

use polars::prelude::{Column, DataFrame, PolarsError};
use polars_io::prelude::{ParquetCompression, ParquetReader, ParquetWriter, SerReader as _};
use sha2::{Digest, Sha256};

use super::allowances::{self, Chunk};
use super::{ArtifactError, EvalRow, StepRow, files, write_atomic};

/// The baseline counts the steps after this one as steady (`if step > 10` in `scripts/base_train.py`).
pub const LAST_WARMUP_STEP: u64 = 10;

/// The longest table that is read, in bytes.
pub const LONGEST_TABLE: u64 = 256 << 20;

/// Writes `steps.parquet` atomically.
pub fn write_steps(path: &Path, rows: &[StepRow]) -> Result<(), ArtifactError> {
    let u64s = |name: &str, f: fn(&StepRow) -> u64| Column::new(name.into(), rows.iter().map(f).collect::<Vec<u64>>());
    let f64s = |name: &str, f: fn(&StepRow) -> f64| Column::new(name.into(), rows.iter().map(f).collect::<Vec<f64>>());
    let columns = vec![
        u64s("step", |r| r.step),
        u64s("tokens", |r| r.tokens),
        f64s("loss", |r| r.loss),
        f64s("lr_multiplier", |r| r.lr_multiplier),
        f64s("muon_momentum", |r| r.muon_momentum),
        f64s("muon_weight_decay", |r| r.muon_weight_decay),
        f64s("seconds", |r| r.seconds),
        u64s("rss_bytes", |r| r.rss_bytes),
    ];
    write_table(path, rows.len(), columns)
}

/// Reads `steps.parquet`.
pub fn read_steps(path: &Path) -> Result<Vec<StepRow>, ArtifactError> {
    Table::read(path)?.step_rows()
}

/// Writes `evals.parquet` atomically.
pub fn write_evals(path: &Path, rows: &[EvalRow]) -> Result<(), ArtifactError> {
    let columns = vec![
        Column::new("step".into(), rows.iter().map(|r| r.step).collect::<Vec<_>>()),
        Column::new("tokens".into(), rows.iter().map(|r| r.tokens).collect::<Vec<_>>()),
        Column::new("val_bpb".into(), rows.iter().map(|r| r.val_bpb).collect::<Vec<_>>()),
        Column::new("core_metric".into(), rows.iter().map(|r| r.core_metric).collect::<Vec<_>>()),
        Column::new("training_seconds".into(), rows.iter().map(|r| r.training_seconds).collect::<Vec<_>>()),
        Column::new("eval_seconds".into(), rows.iter().map(|r| r.eval_seconds).collect::<Vec<_>>()),
        Column::new("rss_bytes".into(), rows.iter().map(|r| r.rss_bytes).collect::<Vec<_>>()),
    ];
    write_table(path, rows.len(), columns)
}

/// Reads `evals.parquet`.
pub fn read_evals(path: &Path) -> Result<Vec<EvalRow>, ArtifactError> {
    Table::read(path)?.eval_rows()
}

/// The steps that count for throughput: those after [`LAST_WARMUP_STEP`], or, in a run too short for that, all but the first.
pub fn steady_steps(rows: &[StepRow]) -> &[StepRow] {
    steady(rows, rows.iter().position(|row| row.step > LAST_WARMUP_STEP))
}

/// The same of the seconds of the steps 0, 1, 2, ….
pub fn steady_seconds(seconds: &[f64]) -> &[f64] {
    steady(seconds, Some(LAST_WARMUP_STEP as usize + 1))
}

fn steady<T>(steps: &[T], after_warmup: Option<usize>) -> &[T] {
    let first = after_warmup.filter(|place| *place < steps.len()).unwrap_or(steps.len().clamp(1, 2) - 1);
    steps.get(first..).unwrap_or_default()
}

/// Median, the mean of the middle two for an even count; none for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted.get(middle - 1)? + upper) / 2.0 })
}

/// Median tokens per second over the steady steps, as `summary.json` reports it. None without steps.
pub fn median_tokens_per_second(rows: &[StepRow], total_batch_size: u64) -> Option<f64> {
    let rates = steady_steps(rows).iter().map(|row| total_batch_size as f64 / row.seconds);
    median(&rates.collect::<Vec<f64>>())
}

/// Seconds spent in steps after [`LAST_WARMUP_STEP`], summed in order: `training_seconds` as the baseline counts it.
pub fn training_seconds(rows: &[StepRow]) -> f64 {
    // The sum of no values is -0.0, which would show in documents.
    rows.iter().filter(|row| row.step > LAST_WARMUP_STEP).map(|row| row.seconds).sum::<f64>() + 0.0
}

/// SHA-256 of the loss trace: every step's loss as little-endian f64, in step order.
pub fn loss_trace_sha256(rows: &[StepRow]) -> String {
    let mut hash = Sha256::new();
    rows.iter().for_each(|row| hash.update(row.loss.to_le_bytes()));
    hex(&hash.finalize())
}

/// SHA-256 of a file, 64 hex digits, read in pieces.
pub fn file_sha256(path: &Path) -> Result<String, ArtifactError> {
    let mut file = files::open(path).map_err(|e| ArtifactError::io("open", path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let count = file.read(&mut buffer).map_err(|e| ArtifactError::io("read", path, e))?;
        match buffer.get(..count) {
            Some(piece) if !piece.is_empty() => hash.update(piece),
            _ => return Ok(hex(&hash.finalize())),
        }
    }
}

/// SHA-256 of bytes, 64 hex digits.
pub fn bytes_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every column of the two kinds of table; others are not decoded.
const COLUMNS: [&str; 12] = [
    "step",
    "tokens",
    "loss",
    "lr_multiplier",
    "muon_momentum",
    "muon_weight_decay",
    "seconds",
    "rss_bytes",
    "val_bpb",
    "core_metric",
    "training_seconds",
    "eval_seconds",
];

fn write_table(path: &Path, height: usize, columns: Vec<Column>) -> Result<(), ArtifactError> {
    let broken = |e: PolarsError| ArtifactError::Table { path: path.to_path_buf(), message: e.to_string() };
    let mut frame = DataFrame::new(height, columns).map_err(broken)?;
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(height.max(1)))
        .set_parallel(false)
        .finish(&mut frame)
        .map_err(broken)?;
    write_atomic(path, &bytes)
}

/// A table that was read, with the path for error messages.
pub(crate) struct Table<'a> {
    pub path: &'a Path,
    pub frame: DataFrame,
}

impl<'a> Table<'a> {
    pub fn read(path: &'a Path) -> Result<Self, ArtifactError> {
        Self::parse(path, files::read(path, LONGEST_TABLE).map_err(|e| ArtifactError::io("read", path, e))?)
    }

    /// Parses the bytes of a file that was read from `path`, which only serves error messages.
    pub fn parse(path: &'a Path, bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let broken = |reason: String| ArtifactError::Table {
            path: path.to_path_buf(),
            message: format!("not a parquet file that can be read: {reason}"),
        };
        let length = bytes.len() as u64;
        let mut file = std::io::Cursor::new(bytes);
        let mut reader = ParquetReader::new(&mut file);
        let metadata = reader.get_metadata().map_err(|e| broken(e.to_string()))?.clone();
        let mut chunks = Vec::new();
        for group in &metadata.row_groups {
            for column in COLUMNS.iter().filter_map(|name| group.columns_under_root_iter(name)).flatten() {
                chunks.push(Chunk {
                    start: column.dictionary_page_offset().unwrap_or(column.data_page_offset()),
                    length: column.compressed_size(),
                    values: column.num_values(),
                    rows: group.num_rows(),
                });
            }
        }
        allowances::check(&mut file, length, chunks).map_err(broken)?;
        let mut reader = ParquetReader::new(file);
        reader.set_metadata(metadata);
        let schema = reader.schema().map_err(|e| broken(e.to_string()))?;
        let known: Vec<String> =
            COLUMNS.iter().filter(|name| schema.contains(name)).map(|name| name.to_string()).collect();
        let known = (known.len() < schema.len()).then_some(known);
        let frame = reader.with_columns(known).finish().map_err(|e| broken(e.to_string()))?;
        Ok(Self { path, frame })
    }

    /// The rows of a table of steps.
    pub fn step_rows(&self) -> Result<Vec<StepRow>, ArtifactError> {
        let step = self.integers("step")?;
        let tokens = self.integers("tokens")?;
        let loss = self.floats("loss")?;
        let lr_multiplier = self.floats("lr_multiplier")?;
        let muon_momentum = self.floats("muon_momentum")?;
        let muon_weight_decay = self.floats("muon_weight_decay")?;
        let seconds = self.floats("seconds")?;
        let rss_bytes = self.integers("rss_bytes")?;
        let row = |i| {
            Ok(StepRow {
                step: self.present(&step, i, "step")?,
                tokens: self.present(&tokens, i, "tokens")?,
                loss: self.present(&loss, i, "loss")?,
                lr_multiplier: self.present(&lr_multiplier, i, "lr_multiplier")?,
                muon_momentum: self.present(&muon_momentum, i, "muon_momentum")?,
                muon_weight_decay: self.present(&muon_weight_decay, i, "muon_weight_decay")?,
                seconds: self.present(&seconds, i, "seconds")?,
                rss_bytes: self.present(&rss_bytes, i, "rss_bytes")?,
            })
        };
        (0..self.frame.height()).map(row).collect()
    }

    /// The rows of a table of evaluations.
    pub fn eval_rows(&self) -> Result<Vec<EvalRow>, ArtifactError> {
        let step = self.integers("step")?;
        let tokens = self.integers("tokens")?;
        let val_bpb = self.floats("val_bpb")?;
        let core_metric = self.floats("core_metric")?;
        let training_seconds = self.floats("training_seconds")?;
        let eval_seconds = self.floats("eval_seconds")?;
        // Tables of earlier versions don't have it.
        let rss_bytes = if self.column("rss_bytes").is_ok() { self.integers("rss_bytes")? } else { Vec::new() };
        let row = |i| {
            Ok(EvalRow {
                step: self.present(&step, i, "step")?,
                tokens: self.present(&tokens, i, "tokens")?,
                val_bpb: val_bpb.get(i).copied().flatten(),
                core_metric: core_metric.get(i).copied().flatten(),
                training_seconds: self.present(&training_seconds, i, "training_seconds")?,
                eval_seconds: self.present(&eval_seconds, i, "eval_seconds")?,
                rss_bytes: rss_bytes.get(i).copied().flatten(),
            })
        };
        (0..self.frame.height()).map(row).collect()
    }

    fn broken(&self, message: String) -> ArtifactError {
        ArtifactError::Table { path: self.path.to_path_buf(), message }
    }

    fn column(&self, name: &str) -> Result<&Column, ArtifactError> {
        self.frame.column(name).map_err(|_| self.broken(format!("has no column `{name}`")))
    }

    fn integers(&self, name: &str) -> Result<Vec<Option<u64>>, ArtifactError> {
        let column = self.column(name)?;
        let values =
            column.u64().map_err(|_| self.broken(format!("column `{name}` is {}, not u64", column.dtype())))?;
        Ok(values.iter().collect())
    }

    fn floats(&self, name: &str) -> Result<Vec<Option<f64>>, ArtifactError> {
        let column = self.column(name)?;
        let values =
            column.f64().map_err(|_| self.broken(format!("column `{name}` is {}, not f64", column.dtype())))?;
        Ok(values.iter().collect())
    }

    fn present<T: Copy>(&self, values: &[Option<T>], row: usize, name: &str) -> Result<T, ArtifactError> {
        values.get(row).copied().flatten().ok_or_else(|| self.broken(format!("row {row} has no `{name}`")))
    }
}
