//! A recorded result from the files of a finished run: its log, and the `meta_<step>.json` that it saved.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use nanochat_artifacts::{
    BaselineProvenance, BaselineRun, RunStatus, bytes_sha256, median_tokens_per_second, training_seconds,
};
use nanochat_plan::{ModelShape, Precision};

use super::arm::BASELINE_SEED;
use super::collect::Record;
use super::words::Scrub;
use super::{BaselineError, read_log};

/// Longest log in bytes.
const LARGEST_LOG: u64 = 1 << 30;
/// Longest description in bytes.
const LARGEST_META: u64 = 16 << 20;

/// What the files of a run say.
pub(super) struct Imported {
    /// The run's figures.
    pub run: BaselineRun,
    /// How attention is computed, as the script says.
    pub attention: Option<String>,
    /// What the script printed.
    pub log: Vec<u8>,
}

/// Reads a finished run. Hashes that would make it matched are not in its files, and stay unknown.
///
/// # Errors
/// A file can't be read, lacks what every version of it has, or the two belong to different runs.
pub fn import(log: &Path, meta: &Path) -> Result<BaselineRun, BaselineError> {
    Ok(read_run(log, meta)?.run)
}

/// As [`import`], with what a recording has no place for.
///
/// # Errors
/// As [`import`].
pub(super) fn read_run(log: &Path, meta: &Path) -> Result<Imported, BaselineError> {
    let bytes = read(log, LARGEST_LOG)?;
    let described = Meta::read(meta)?;
    let mut record = Record::default();
    read_log(&bytes).iter().for_each(|event| record.take(event, None));
    let wrong = |reason: String| BaselineError::Import { path: log.to_path_buf(), reason };
    if record.losses.is_empty() {
        let seen = record.warnings.last().map(|warning| format!(" ({warning})")).unwrap_or_default();
        return Err(wrong(format!("it has no training steps{seen}")));
    }
    if let Some(reason) = described.disagreement(&record) {
        return Err(wrong(format!("{reason}: {} belongs to another run", meta.display())));
    }
    let failure = record.incomplete().or_else(|| record.exception.clone());
    let scrub = Scrub::new(&[]);
    let rows = record.rows(described.total_batch_size);
    let attention = record.attention.clone();
    let run = BaselineRun {
        seed: BASELINE_SEED,
        status: if failure.is_some() { RunStatus::Failed } else { RunStatus::Finished },
        reason: failure.map(|reason| scrub.apply(&reason)),
        flags: described.flags,
        model: described.model,
        steps: record.steps(),
        tokens: record.steps() * described.total_batch_size,
        total_batch_size: described.total_batch_size,
        final_val_bpb: described.val_bpb.or(record.evals.last().map(|(_, bpb)| *bpb)),
        min_val_bpb: described.min_val_bpb.or(record.minimum),
        core_metric: record.core_metric,
        evals: record.evals,
        losses: record.losses,
        tokens_per_second: median_tokens_per_second(&rows, described.total_batch_size),
        training_seconds: Some(training_seconds(&rows)),
        step_seconds: record.step_seconds,
        elapsed_seconds: None,
        peak_rss_bytes: record.device_memory,
        data_sha256: None,
        tokenizer_sha256: None,
        first_batch_sha256: None,
        dtype: record.precision.unwrap_or(Precision::F32),
        machine_id: None,
        versions: BTreeMap::new(),
        measured: None,
        provenance: Some(BaselineProvenance {
            source: "import".to_string(),
            plan_hash: None,
            variant: None,
            threads: None,
            environment: BTreeMap::new(),
            block: None,
            first_validation_batch_sha256: None,
            batches_agree: None,
            weights_sha256: None,
            log_sha256: bytes_sha256(&bytes),
            warnings: record.warnings.iter().map(|warning| scrub.apply(warning)).collect(),
            cpu: None,
            cores: None,
            gpus: Vec::new(),
            program_version: env!("CARGO_PKG_VERSION").to_string(),
            finished_at: None,
        }),
    };
    Ok(Imported { run, attention, log: bytes })
}

fn read(path: &Path, largest: u64) -> Result<Vec<u8>, BaselineError> {
    let unreadable = |reason: String| BaselineError::Unreadable { path: path.to_path_buf(), reason };
    nanochat_artifacts::files::read_named(path, largest).map_err(|error| unreadable(error.to_string()))
}

/// Contents of `meta_<step>.json`.
struct Meta {
    step: u64,
    model: ModelShape,
    total_batch_size: u64,
    val_bpb: Option<f64>,
    min_val_bpb: Option<f64>,
    flags: Vec<String>,
}

impl Meta {
    fn read(path: &Path) -> Result<Self, BaselineError> {
        let wrong = |reason: String| BaselineError::Import { path: path.to_path_buf(), reason };
        let meta: Value = serde_json::from_slice(&read(path, LARGEST_META)?)
            .map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        let missing = |name: &str| wrong(format!("it has no `{name}`"));
        let number = |name: &str| meta.get(name).and_then(Value::as_u64).ok_or_else(|| missing(name));
        let config = meta.get("model_config").cloned().ok_or_else(|| missing("model_config"))?;
        let model = serde_json::from_value(config).map_err(|error| wrong(format!("`model_config`: {error}")))?;
        let flags = meta.get("user_config").and_then(Value::as_object).ok_or_else(|| missing("user_config"))?;
        Ok(Self {
            step: number("step")?,
            model,
            total_batch_size: number("total_batch_size")?,
            val_bpb: meta.get("val_bpb").and_then(Value::as_f64),
            min_val_bpb: meta.get("loop_state").and_then(|state| state.get("min_val_bpb")).and_then(Value::as_f64),
            flags: flags.iter().filter_map(|(name, value)| flag(name, value)).collect(),
        })
    }

    /// Why the log can't be of the same run.
    fn disagreement(&self, record: &Record) -> Option<String> {
        if record.steps() != self.step {
            return Some(format!("it has {} steps, the description {}", record.steps(), self.step));
        }
        let (_, printed) = record.evals.last()?;
        let exact = self.val_bpb?;
        ((exact - printed).abs() > 1e-6)
            .then(|| format!("it ends at {printed} bits per byte, the description at {exact}"))
    }
}

/// A flag as it would be typed; none where it was left out.
fn flag(name: &str, value: &Value) -> Option<String> {
    let name = name.replace('_', "-");
    match value {
        Value::Bool(true) => Some(format!("--{name}")),
        Value::Number(number) => Some(format!("--{name}={number}")),
        Value::String(text) if !text.is_empty() => Some(format!("--{name}={text}")),
        _ => None,
    }
}
