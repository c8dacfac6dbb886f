//! One run of the baseline as a child process, from its flags to a recorded result.
//!
//! The checkout stays as it is: data, tokenizer, checkpoints and compiled kernels go to the base folder, no byte code is
//! written, and everything else is said by flags and environment variables. Whatever happens to the process, there is a result.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use nanochat_artifacts::{
    BaselineBlock, BaselineMeasurement, BaselineProvenance, BaselineRun, RunStatus, median_tokens_per_second,
    training_seconds,
};
use nanochat_engine::checkpoint;
use nanochat_experiment::Experiment;
use nanochat_plan::{Precision, RunPlan};

use super::base_folder::BaseFolder;
use super::collect::Record;
use super::log::{LogEvent, LogReader};
use super::process::{Ending, Finished, Limits, Stream, run};
use super::python::{Environment, Python, set_variables};
use super::words::{Scrub, hex};
use super::{BaselineError, Checkout, flags_of};
use crate::hardware::Machine;

/// The seed that the baseline fixes in its code (`compute_init`); it has no flag for it.
pub const BASELINE_SEED: u64 = 42;

/// One way to run the baseline: what its own switches change without changing the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Arithmetic (`NANOCHAT_DTYPE`).
    pub dtype: Precision,
    /// Threads; never 0.
    pub threads: u64,
}

impl Variant {
    /// What the plan says.
    pub fn of(plan: &RunPlan) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Self { dtype: plan.dtype, threads: if plan.threads == 0 { cores } else { plan.threads } }
    }

    /// The variants that the spec names; without any, what the plan says.
    pub fn of_experiment(experiment: &Experiment, plan: &RunPlan) -> Vec<Self> {
        let planned = Self::of(plan);
        let named = experiment.baseline_variants.iter().map(|variant| Self {
            dtype: variant.dtype.unwrap_or(planned.dtype),
            threads: variant.threads.unwrap_or(planned.threads),
        });
        if experiment.baseline_variants.is_empty() { vec![planned] } else { named.collect() }
    }

    /// Every combination of compute dtypes and threads; an empty list stands for what the plan says.
    pub fn combinations(plan: &RunPlan, dtypes: &[Precision], threads: &[u64]) -> Vec<Self> {
        let planned = Self::of(plan);
        let dtypes = if dtypes.is_empty() { &[planned.dtype] } else { dtypes };
        let threads = if threads.is_empty() { &[planned.threads] } else { threads };
        dtypes.iter().flat_map(|&dtype| threads.iter().map(move |&threads| Self { dtype, threads })).collect()
    }

    /// Such as `bf16-threads2`.
    pub fn name(&self) -> String {
        format!("{}-threads{}", self.dtype, self.threads)
    }

    fn dtype_variable(&self) -> &'static str {
        match self.dtype {
            Precision::F32 => "float32",
            Precision::Bf16 => "bfloat16",
        }
    }
}

/// Hashes that show whether both arms train on the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// SHA-256 of the documents.
    pub data_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// First training micro-batch as the baseline's own loader builds it.
    pub first_batch_sha256: String,
    /// First validation micro-batch, likewise.
    pub first_validation_batch_sha256: String,
    /// What differs from our own loader and tokenizer, each as a phrase; empty when all is equal.
    pub differences: Vec<String>,
}

/// Everything that a run needs.
pub struct Request<'a> {
    /// The plan.
    pub plan: &'a RunPlan,
    /// The checkout, found to be at the right commit and unchanged.
    pub checkout: &'a Checkout,
    /// The interpreter.
    pub python: &'a Python,
    /// What it has.
    pub environment: &'a Environment,
    /// The base folder, laid out.
    pub base: &'a BaseFolder,
    /// What makes the arms matched.
    pub matching: &'a Matching,
    /// This machine.
    pub machine: &'a Machine,
    /// How to run it.
    pub variant: Variant,
    /// The longest that it may take.
    pub timeout: Duration,
    /// The block that it belongs to.
    pub block: Option<BaselineBlock>,
}

/// What happens, as it happens.
pub enum Event<'a> {
    /// The process was started.
    Started,
    /// A line of its log, so many seconds after the start.
    Log(&'a LogEvent, f64),
}

/// Runs the baseline once. A process that fails or takes too long gives a result with status `failed` and the reason.
///
/// # Errors
/// The plan has no flags, the base folder can't be cleared, the interpreter can't be started, or a stop was requested.
pub fn record_run(
    request: &Request<'_>,
    stop: &dyn Fn() -> bool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<BaselineRun, BaselineError> {
    let flags = flags_of(request.plan)?;
    request.base.clear_checkpoints()?;
    let warm = request.base.has_compiled_kernels();
    let variables = variables(request.base, request.variant);
    let mut command = request.python.module(request.checkout, "scripts.base_train");
    command.args(&flags);
    set_variables(&mut command, &variables);

    let mut listener = Listener::new(request.plan.num_iterations, observe);
    let limits = Limits { timeout: request.timeout, stop };
    let finished = run(&mut command, &limits, &mut |stream, bytes, at| listener.hear(stream, bytes, at));
    let finished = finished.map_err(|error| BaselineError::Python {
        path: request.python.path().to_path_buf(),
        reason: format!("it can't be run: {error}"),
    })?;
    let heard = listener.end(finished.elapsed_seconds);
    if finished.ending == Ending::Stopped {
        return Err(BaselineError::Stopped);
    }
    let scrub = Scrub::new(&[
        (request.base.path(), "<base folder>"),
        (&request.checkout.path, "<checkout>"),
        (request.python.path().parent().unwrap_or(Path::new("")), "<python>"),
    ]);
    let failure = why_failed(&finished, &heard, request.timeout).map(|reason| scrub.apply(&reason));
    let mut result = result_of(request, flags, heard, failure);
    result.elapsed_seconds = Some(finished.elapsed_seconds);
    result.peak_rss_bytes = finished.usage.peak_rss_bytes;
    if let Some(measured) = &mut result.measured {
        measured.cpu_seconds = finished.usage.cpu_seconds;
        measured.peak_tree_rss_bytes = finished.usage.peak_tree_rss_bytes;
        measured.warm_compile_cache = warm;
    }
    if let Some(provenance) = &mut result.provenance {
        provenance.environment = recorded_variables(&variables);
        provenance.warnings = provenance.warnings.iter().map(|warning| scrub.apply(warning)).collect();
    }
    if result.status == RunStatus::Finished {
        read_checkpoint(&mut result, request);
    }
    request.base.clear_checkpoints()?;
    Ok(result)
}

/// The variables of a child process, which set the baseline's base folder and compute dtype.
pub(super) fn variables(base: &BaseFolder, variant: Variant) -> Vec<(&'static str, String)> {
    let folder = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("NANOCHAT_BASE_DIR", folder(base.path().to_path_buf())),
        ("NANOCHAT_DTYPE", variant.dtype_variable().to_string()),
        ("OMP_NUM_THREADS", variant.threads.to_string()),
        ("MKL_NUM_THREADS", variant.threads.to_string()),
        ("WANDB_MODE", "disabled".to_string()),
        // Lines as they are printed, in one encoding whatever the locale; nothing written into the checkout.
        ("PYTHONUNBUFFERED", "1".to_string()),
        ("PYTHONUTF8", "1".to_string()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_string()),
        ("TORCHINDUCTOR_CACHE_DIR", folder(base.compile_cache())),
        ("TRITON_CACHE_DIR", folder(base.compile_cache().join("triton"))),
    ]
}

/// The same for a result, which holds no path.
fn recorded_variables(variables: &[(&'static str, String)]) -> BTreeMap<String, String> {
    let value = |name: &str, value: &String| match name {
        "NANOCHAT_BASE_DIR" => "<base folder>".to_string(),
        "TORCHINDUCTOR_CACHE_DIR" | "TRITON_CACHE_DIR" => "<in the base folder>".to_string(),
        _ => value.clone(),
    };
    variables.iter().map(|(name, text)| (name.to_string(), value(name, text))).collect()
}

/// Listens to both streams.
struct Listener<'o> {
    out: LogReader,
    error: LogReader,
    record: Record,
    hash: Sha256,
    last_words: LastWords,
    observe: &'o mut dyn FnMut(Event<'_>),
}

/// What was heard.
struct Heard {
    record: Record,
    log_sha256: String,
    last_words: String,
}

impl<'o> Listener<'o> {
    fn new(planned: u64, observe: &'o mut dyn FnMut(Event<'_>)) -> Self {
        observe(Event::Started);
        let (out, error) = (LogReader::default(), LogReader::default());
        let (hash, last_words) = (Sha256::new(), LastWords::default());
        Self { out, error, record: Record::of(planned), hash, last_words, observe }
    }

    fn hear(&mut self, stream: Stream, bytes: &[u8], at: f64) {
        let reader = match stream {
            Stream::Out => {
                self.hash.update(bytes);
                &mut self.out
            }
            Stream::Error => {
                self.last_words.hear(bytes);
                &mut self.error
            }
        };
        for event in reader.push(bytes) {
            self.record.take(&event, Some(at));
            (self.observe)(Event::Log(&event, at));
        }
    }

    fn end(mut self, at: f64) -> Heard {
        for event in self.out.finish().into_iter().chain(self.error.finish()) {
            self.record.take(&event, Some(at));
            (self.observe)(Event::Log(&event, at));
        }
        Heard { record: self.record, log_sha256: hex(&self.hash.finalize()), last_words: self.last_words.line() }
    }
}

/// The end of what came on standard error.
#[derive(Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    const KEPT: usize = 1 << 12;

    fn hear(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(Self::KEPT);
        self.0.drain(..excess);
    }

    /// The last line that isn't empty.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_string()
    }
}

/// The reason of a failure; none when the run came to its end.
fn why_failed(finished: &Finished, heard: &Heard, timeout: Duration) -> Option<String> {
    let record = &heard.record;
    let after =
        |words: &str| format!("{words} after {} of {} steps", record.steps(), record.planned.unwrap_or_default());
    let said = record.exception.clone().unwrap_or_else(|| heard.last_words.clone());
    let with_words = |reason: String| if said.is_empty() { reason } else { format!("{reason}: {said}") };
    match finished.ending {
        Ending::Exited(0) => record.incomplete(),
        Ending::Exited(code) => Some(with_words(after(&format!("ended with exit code {code}")))),
        Ending::Killed(9) => Some(after("killed by signal 9, as the system does when memory runs out,")),
        Ending::Killed(signal) => Some(with_words(after(&format!("killed by signal {signal}")))),
        Ending::TimedOut => Some(after(&format!("stopped at the time limit of {} seconds", timeout.as_secs_f64()))),
        Ending::Stopped => Some("stopped by a signal".to_string()),
    }
}

fn result_of(request: &Request<'_>, flags: Vec<String>, heard: Heard, failure: Option<String>) -> BaselineRun {
    let (plan, matching, record) = (request.plan, request.matching, heard.record);
    let rows = record.rows(plan.total_batch_size);
    let mut warnings = record.warnings;
    warnings.extend(matching.differences.iter().map(|what| format!("the arms are not matched: {what}")));
    let known = |hash: &String| Some(hash.clone()).filter(|hash| !hash.is_empty());
    BaselineRun {
        seed: BASELINE_SEED,
        status: if failure.is_some() { RunStatus::Failed } else { RunStatus::Finished },
        reason: failure,
        flags,
        model: plan.model.clone(),
        steps: rows.len() as u64,
        tokens: rows.len() as u64 * plan.total_batch_size,
        total_batch_size: plan.total_batch_size,
        final_val_bpb: record.evals.last().map(|(_, bpb)| *bpb),
        min_val_bpb: record.minimum.or_else(|| record.evals.iter().map(|(_, bpb)| *bpb).reduce(f64::min)),
        core_metric: record.core_metric,
        evals: record.evals,
        losses: record.losses,
        tokens_per_second: median_tokens_per_second(&rows, plan.total_batch_size),
        training_seconds: (!rows.is_empty()).then(|| training_seconds(&rows)),
        step_seconds: record.step_seconds,
        elapsed_seconds: None,
        peak_rss_bytes: None,
        data_sha256: known(&matching.data_sha256),
        tokenizer_sha256: known(&matching.tokenizer_sha256),
        first_batch_sha256: known(&matching.first_batch_sha256),
        dtype: record.precision.unwrap_or(request.variant.dtype),
        machine_id: Some(request.machine.machine_id()),
        versions: request.environment.versions(),
        measured: Some(BaselineMeasurement {
            startup_seconds: record.step_printed.first().copied(),
            eval_printed_seconds: record.eval_printed,
            step_printed_seconds: record.step_printed,
            cpu_seconds: None,
            peak_tree_rss_bytes: None,
            warm_compile_cache: false,
        }),
        provenance: Some(BaselineProvenance {
            source: "run".to_string(),
            plan_hash: Some(plan.plan_hash.clone()),
            variant: Some(request.variant.name()),
            threads: Some(request.variant.threads),
            environment: BTreeMap::new(),
            block: request.block.clone(),
            first_validation_batch_sha256: known(&matching.first_validation_batch_sha256),
            batches_agree: Some(matching.differences.is_empty()),
            weights_sha256: None,
            log_sha256: heard.log_sha256,
            warnings,
            cpu: known(&request.machine.cpu),
            cores: Some(request.machine.cores).filter(|&cores| cores > 0),
            gpus: request.environment.accelerators.clone(),
            program_version: env!("CARGO_PKG_VERSION").to_string(),
            finished_at: Some(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        }),
    }
}

/// Takes from the final checkpoint what the log rounds: bits per byte in full, and the hash of the weights. A checkpoint
/// that can't be read leaves the log's figures, with a warning.
fn read_checkpoint(result: &mut BaselineRun, request: &Request<'_>) {
    let folder = request.base.checkpoint(request.plan.model.n_layer);
    let loaded = checkpoint::baseline::load(&folder, Some(result.steps), &candle_core::Device::Cpu);
    let hashed = loaded.and_then(|found| Ok((checkpoint::tensors_sha256(&found.weights)?, found.meta)));
    let Some(provenance) = &mut result.provenance else { return };
    match hashed {
        Ok((hash, meta)) => {
            provenance.weights_sha256 = Some(hash);
            let agreeing = |value: Option<&serde_json::Value>, printed: Option<f64>| {
                let exact = value.and_then(serde_json::Value::as_f64)?;
                // The log prints six digits: anything further off belongs to another run.
                printed.is_some_and(|printed| (exact - printed).abs() <= 1e-6).then_some(exact)
            };
            result.final_val_bpb = agreeing(meta.get("val_bpb"), result.final_val_bpb).or(result.final_val_bpb);
            let minimum = meta.get("loop_state").and_then(|state| state.get("min_val_bpb"));
            result.min_val_bpb = agreeing(minimum, result.min_val_bpb).or(result.min_val_bpb);
        }
        Err(error) => {
            let scrub = Scrub::new(&[(request.base.path(), "<base folder>")]);
            provenance.warnings.push(scrub.apply(&format!("the final checkpoint can't be read: {error}")));
        }
    }
}
