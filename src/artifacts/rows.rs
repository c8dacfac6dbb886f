//! The tables of a run: one row a step, one row an evaluation, as parquet (zstd) through polars. The same rows give the
//! same bytes, so that hashes of the files can be compared.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use polars::prelude::{Column, DataFrame, PolarsError};
use polars_io::prelude::{ParquetCompression, ParquetReader, ParquetWriter, SerReader as _};
use sha2::{Digest, Sha256};

use super::{ArtifactError, EvalRow, StepRow, write_atomic};

/// The baseline counts the steps after this one as steady (`if step > 10` in `scripts/base_train.py`).
pub const LAST_WARMUP_STEP: u64 = 10;

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
    parse_steps(path, fs::read(path).map_err(|e| ArtifactError::io("read", path, e))?)
}

/// Parses the bytes of a `steps.parquet` that was read from `path` (which only serves error messages).
pub fn parse_steps(path: &Path, bytes: Vec<u8>) -> Result<Vec<StepRow>, ArtifactError> {
    let table = parse_table(path, bytes)?;
    let step = table.integers("step")?;
    let tokens = table.integers("tokens")?;
    let loss = table.floats("loss")?;
    let lr_multiplier = table.floats("lr_multiplier")?;
    let muon_momentum = table.floats("muon_momentum")?;
    let muon_weight_decay = table.floats("muon_weight_decay")?;
    let seconds = table.floats("seconds")?;
    let rss_bytes = table.integers("rss_bytes")?;
    (0..table.frame.height())
        .map(|i| {
            Ok(StepRow {
                step: table.present(&step, i, "step")?,
                tokens: table.present(&tokens, i, "tokens")?,
                loss: table.present(&loss, i, "loss")?,
                lr_multiplier: table.present(&lr_multiplier, i, "lr_multiplier")?,
                muon_momentum: table.present(&muon_momentum, i, "muon_momentum")?,
                muon_weight_decay: table.present(&muon_weight_decay, i, "muon_weight_decay")?,
                seconds: table.present(&seconds, i, "seconds")?,
                rss_bytes: table.present(&rss_bytes, i, "rss_bytes")?,
            })
        })
        .collect()
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
    let table = parse_table(path, fs::read(path).map_err(|e| ArtifactError::io("read", path, e))?)?;
    let step = table.integers("step")?;
    let tokens = table.integers("tokens")?;
    let val_bpb = table.floats("val_bpb")?;
    let core_metric = table.floats("core_metric")?;
    let training_seconds = table.floats("training_seconds")?;
    let eval_seconds = table.floats("eval_seconds")?;
    let rss_bytes = match table.column("rss_bytes") {
        Ok(_) => table.integers("rss_bytes")?,
        Err(_) => Vec::new(),
    };
    (0..table.frame.height())
        .map(|i| {
            Ok(EvalRow {
                step: table.present(&step, i, "step")?,
                tokens: table.present(&tokens, i, "tokens")?,
                val_bpb: val_bpb.get(i).copied().flatten(),
                core_metric: core_metric.get(i).copied().flatten(),
                training_seconds: table.present(&training_seconds, i, "training_seconds")?,
                eval_seconds: table.present(&eval_seconds, i, "eval_seconds")?,
                rss_bytes: rss_bytes.get(i).copied().flatten(),
            })
        })
        .collect()
}

/// The steps that count for throughput: those after [`LAST_WARMUP_STEP`], or, in a run too short for that, all but the first.
pub fn steady_steps(rows: &[StepRow]) -> &[StepRow] {
    let first = rows.iter().position(|row| row.step > LAST_WARMUP_STEP).unwrap_or(rows.len().min(1));
    rows.get(first..).filter(|steady| !steady.is_empty()).unwrap_or(rows)
}

/// Median tokens per second over the steady steps: what `summary.json` reports. None without steps.
pub fn median_tokens_per_second(rows: &[StepRow], total_batch_size: u64) -> Option<f64> {
    let mut rates: Vec<f64> = steady_steps(rows).iter().map(|row| total_batch_size as f64 / row.seconds).collect();
    rates.sort_by(f64::total_cmp);
    let middle = rates.len() / 2;
    match rates.len() {
        0 => None,
        n if n % 2 == 1 => rates.get(middle).copied(),
        _ => Some((rates.get(middle - 1)? + rates.get(middle)?) / 2.0),
    }
}

/// Seconds spent in steps after [`LAST_WARMUP_STEP`], summed in order: `training_seconds` as the baseline counts it.
pub fn training_seconds(rows: &[StepRow]) -> f64 {
    // The sum of nothing is -0.0, which would show in documents.
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
    let mut file = File::open(path).map_err(|e| ArtifactError::io("open", path, e))?;
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
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

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
struct Table<'a> {
    path: &'a Path,
    frame: DataFrame,
}

fn parse_table(path: &Path, bytes: Vec<u8>) -> Result<Table<'_>, ArtifactError> {
    let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().map_err(|e| ArtifactError::Table {
        path: path.to_path_buf(),
        message: format!("not a parquet file that can be read: {e}"),
    })?;
    Ok(Table { path, frame })
}

impl Table<'_> {
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
