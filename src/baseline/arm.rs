//! One run of the baseline as a child process, from its flags to a recorded result.
//!
//! The checkout stays as it is: data, tokenizer, checkpoints and compiled kernels go to the base folder, no byte code is
//! written, and everything else is said by flags and environment variables. Whatever happens to the process, there is a result.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nanochat_artifacts::{
    BaselineBlock, BaselineMeasurement, BaselineProvenance, BaselineRun, DeviceUse, RunStatus,
    median_tokens_per_second, training_seconds,
};
use nanochat_engine::checkpoint;
use nanochat_experiment::Experiment;
use nanochat_plan::{ArmPlan, Precision, RunPlan};

use super::base_folder::BaseFolder;
use super::devices::Sampler;
use super::launch::{self, Launched};
use super::listen::{Heard, Listener, why_failed};
use super::log::LogEvent;
use super::process::{Ending, Limits, run};
use super::python::{Environment, Python, set_variables};
use super::words::Scrub;
use super::{BaselineError, Checkout};
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// SHA-256 of the documents.
    pub data_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// First training micro-batch as the baseline's own loader builds it.
    pub first_batch_sha256: String,
    /// First validation micro-batch, likewise.
    pub first_validation_batch_sha256: String,
    /// What the checkout's evaluation says of a made-up model.
    pub evaluation_probe: Option<f64>,
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
    /// The arm, which has a seed and flags of its own; none for the recorded baseline.
    pub arm: Option<&'a ArmPlan>,
    /// Where the script's output is kept.
    pub output: Option<&'a Path>,
}

/// What happens, as it happens.
pub enum Event<'a> {
    /// The process was started.
    Started,
    /// A line of its log, so many seconds after the start.
    Log(&'a LogEvent, f64),
}

/// What came of a run.
pub(super) struct Carried {
    /// Its figures.
    pub run: BaselineRun,
    /// What the launcher saw; none of a run without one.
    pub launched: Option<Launched>,
    /// How attention is computed, as the script says.
    pub attention: Option<String>,
    /// Peak memory of the device in bytes, where it has its own.
    pub device_memory: Option<u64>,
    /// The last lines of the output.
    pub last_lines: Vec<String>,
    /// Every device, where there are several.
    pub devices: Vec<DeviceUse>,
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
    carry_out(request, stop, observe).map(|carried| carried.run)
}

/// As [`record_run`], with what else is known of the run.
pub(super) fn carry_out(
    request: &Request<'_>,
    stop: &dyn Fn() -> bool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Carried, BaselineError> {
    let flags = launch::flags(request.plan, request.arm)?;
    request.base.clear_checkpoints()?;
    let warm = request.base.has_compiled_kernels();
    let variables = variables(request.base, request.variant);
    let mut command = launch::command(request)?;
    command.args(&flags);
    set_variables(&mut command, &variables);

    let mut listener = Listener::new(request.plan.num_iterations, request.output, observe)?;
    // A run whose loss is no number can't become one again: it is ended at once.
    let diverged = Cell::new(false);
    let stop = || stop() || diverged.get();
    let limits = Limits { timeout: request.timeout, stop: &stop };
    let sampler = Sampler::of(request.plan.device_count);
    let finished = run(&mut command, &limits, &mut |stream, bytes, at| {
        listener.hear(stream, bytes, at);
        diverged.set(listener.has_diverged());
    });
    let devices = sampler.map(|sampler| sampler.end(request.plan.device_count)).unwrap_or_default();
    let finished = finished.map_err(|error| BaselineError::Python {
        path: request.python.path().to_path_buf(),
        reason: format!("it can't be run: {error}"),
    })?;
    let heard = listener.end(finished.elapsed_seconds);
    if finished.ending == Ending::Stopped && heard.record.diverged.is_none() {
        return Err(BaselineError::Stopped);
    }
    let scrub = Scrub::new(&[
        (request.base.path(), "<base folder>"),
        (&request.checkout.path, "<checkout>"),
        (request.python.path().parent().unwrap_or(Path::new("")), "<python>"),
    ]);
    let failure = why_failed(&finished, &heard, request.timeout).map(|reason| scrub.apply(&reason));
    let launched = request.arm.map(|_| launch::evidence(request.base));
    let last_lines = heard.last_lines.iter().map(|line| scrub.apply(line)).collect();
    let (attention, device_memory) = (heard.record.attention.clone(), heard.record.device_memory);
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
    Ok(Carried { run: result, launched, attention, device_memory, last_lines, devices })
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

fn result_of(request: &Request<'_>, flags: Vec<String>, heard: Heard, failure: Option<String>) -> BaselineRun {
    let (plan, matching, record) = (request.plan, request.matching, heard.record);
    let rows = record.rows(plan.total_batch_size);
    let mut warnings = record.warnings;
    warnings.extend(matching.differences.iter().map(|what| format!("the arms are not matched: {what}")));
    let known = |hash: &String| Some(hash.clone()).filter(|hash| !hash.is_empty());
    BaselineRun {
        seed: if request.arm.is_some() { plan.seed } else { BASELINE_SEED },
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
