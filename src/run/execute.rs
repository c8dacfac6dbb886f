//! One run, from its plan to its summary.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use nanochat_artifacts::{
    Continued, RunFolder, RunStatus, Summary, create_folder, file_sha256, loss_trace_sha256, median_tokens_per_second,
    training_seconds, write_document, write_evals, write_steps,
};
use nanochat_engine::cache::Secret;
use nanochat_engine::checkpoint::{Checkpoints, RunLock, tensors_sha256};
use nanochat_engine::device::memory;
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::evals::core::Bundle;
use nanochat_engine::train::{self, Ending, Snapshot, TrainError, Trainer};
use nanochat_plan::RunPlan;

use super::inputs::{self, Inputs};
use super::resources::{Resources, open_device};
use super::sink::{StoreSink, continued_before};
use super::{Options, RunError, Stop, environment, with_help};

/// What happens in one run.
pub enum Step<'a> {
    /// Data, tokenizer and weights are ready.
    Ready {
        /// Steps done before, when the run continues.
        resumed_from: Option<u64>,
    },
    /// The training loop's own events.
    Training(train::Event<'a>),
    /// A problem that doesn't stop the run.
    Warning(String),
}

/// Runs one plan, from its newest good checkpoint if there is one, and writes all its documents as long as the folder is
/// this process's.
pub fn execute(
    plan: &RunPlan,
    folder: &RunFolder,
    resources: &mut Resources,
    options: &Options,
    (stop, lock): (&Stop, &RunLock),
    observe: &mut dyn FnMut(Step<'_>),
) -> Result<Summary, RunError> {
    let begun = Instant::now();
    create_folder(folder.path())?;
    memory::reset_peak();
    let device = open_device(plan)?;
    let corpus = resources.corpus(&plan.data)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let model = resources.model(plan, &device)?;
    // A task that can't be evaluated is an error now, not at its first evaluation.
    let bundle = resources.bundle(plan, &tokenizer)?;
    let skipped = bundle.as_ref().and_then(Bundle::skipped_in_words);
    if let Some(skipped) = &skipped {
        observe(Step::Warning(skipped.clone()));
    }
    let weights = tensors_sha256(model.parameters())?;
    let inputs = Inputs::new(plan, &corpus, &tokenizer, Some(weights.clone()), bundle.as_ref())?;
    let engine = engines::open(model, &Setup::of(plan)).map_err(TrainError::from)?;
    write_document(&folder.plan(), plan)?;
    let store = Checkpoints::open(&folder.checkpoints())?.sealed_with(Secret::of_this_user());
    let mut trainer = Trainer::new(train::Inputs {
        plan,
        corpus: corpus.clone(),
        tokenizer: tokenizer.clone(),
        engine,
        device: device.clone(),
        bundle,
    })?;
    let continued = resume(&mut trainer, &store, &device, &inputs, options.trust_checkpoints, observe)?;
    observe(Step::Ready { resumed_from: continued.last().map(|last| last.step) });

    let sink = StoreSink::new(&store, plan, tokenizer.to_json()?, &inputs, device.clone())?;
    let mut sink = sink.continued(&continued)?.owned_by(lock);
    let mut log = Log::open(&folder.log())?;
    let _at_work = stop.at_work();
    let mut startup_seconds = None;
    let ending = trainer.run(&|| stop.requested(), &mut sink, &mut |event| {
        if let train::Event::Step(row) = &event
            && row.step == 0
        {
            startup_seconds = Some(begun.elapsed().as_secs_f64());
        }
        log.note(&event);
        observe(Step::Training(event));
    });

    if let Some(problem) = resources.cache_problem() {
        observe(Step::Warning(format!("{problem}; the run continues without it")));
    }
    lock.require()?;
    let ending = ending.map_err(|error| failure(error, plan));
    let (status, reason) = match &ending {
        Ok(Ending::Finished) => (RunStatus::Finished, left_out(&trainer, skipped)),
        Ok(Ending::Stopped) => (RunStatus::Interrupted, Some("stopped by a signal".to_string())),
        Ok(Ending::OutOfTime) => (RunStatus::Interrupted, Some("the plan's wall clock ran out".to_string())),
        Err(error) => (RunStatus::Failed, Some(with_help(error))),
    };
    corpus.refuse_changed()?;
    let mut summary = conclude(&mut trainer, plan, folder, inputs, status, reason)?;
    summary.startup_seconds = startup_seconds;
    summary.continued_from = continued;
    summary.initial_weights_sha256 = Some(weights);
    write_document(&folder.environment(), &environment(plan, options.hardware_matches))?;
    write_document(&folder.summary(), &summary)?;
    ending.map(|_| summary)
}

/// An error of training; out of memory, with the plan's estimate.
fn failure(error: TrainError, plan: &RunPlan) -> RunError {
    match error.is_out_of_memory() {
        true => {
            RunError::OutOfDeviceMemory { estimate: plan.estimate.memory_gib, batch: plan.device_batch_size, error }
        }
        false => error.into(),
    }
}

fn resume(
    trainer: &mut Trainer<'_>,
    store: &Checkpoints,
    device: &candle_core::Device,
    inputs: &Inputs,
    trusted: bool,
    observe: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Continued>, RunError> {
    let Some(loaded) = store.latest(device)? else { return Ok(Vec::new()) };
    for (path, reason) in &loaded.skipped {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        observe(Step::Warning(format!("checkpoint {name} is damaged and was skipped: {reason}")));
    }
    if !loaded.sealed && !trusted {
        let path = loaded.path.display().to_string();
        return Err(RunError::UnknownCheckpoint { step: loaded.step, path });
    }
    inputs.refuse_others(loaded.files.get(inputs::FILE))?;
    let mut continued = continued_before(&loaded)?;
    continued.push(Continued { step: loaded.step, manifest_sha256: loaded.sha256, from_elsewhere: !loaded.sealed });
    trainer.restore(Snapshot::loaded(loaded.step, loaded.tensors, loaded.state))?;
    Ok(continued)
}

/// What a finished run's evaluations lack, if anything.
fn left_out(trainer: &Trainer<'_>, skipped: Option<String>) -> Option<String> {
    let failed = &trainer.history().failed_evals;
    let failures = failed
        .last()
        .map(|(step, reason)| format!("{} evaluations failed, the last at step {step}: {reason}", failed.len()));
    let both: Vec<String> = failures.into_iter().chain(skipped).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Writes the rows, then builds the summary over them.
fn conclude(
    trainer: &mut Trainer<'_>,
    plan: &RunPlan,
    folder: &RunFolder,
    inputs: Inputs,
    status: RunStatus,
    reason: Option<String>,
) -> Result<Summary, RunError> {
    trainer.note_resources();
    let history = trainer.history();
    write_steps(&folder.steps(), &history.steps)?;
    write_evals(&folder.evals(), &history.evals)?;
    let file_hash = |path: &Path| -> Result<(String, String), RunError> {
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), file_sha256(path)?))
    };
    let weights = trainer.weights()?;
    Ok(Summary {
        schema: "nanochat.summary/v1".to_string(),
        run_id: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        status,
        reason,
        steps: trainer.step(),
        tokens: trainer.step() * plan.total_batch_size,
        final_val_bpb: history.final_val_bpb(),
        min_val_bpb: history.min_val_bpb(),
        core_metric: history.core_metric(),
        train_loss: history.steps.last().map(|row| row.loss),
        tokens_per_second: median_tokens_per_second(&history.steps, plan.total_batch_size),
        training_seconds: training_seconds(&history.steps),
        elapsed_seconds: history.elapsed_seconds,
        startup_seconds: None,
        peak_rss_bytes: history.peak_rss_bytes,
        peak_device_bytes: history.peak_device_bytes,
        weights_sha256: (status != RunStatus::Failed).then(|| tensors_sha256(&weights)).transpose()?,
        loss_trace_sha256: Some(loss_trace_sha256(&history.steps)),
        data_sha256: inputs.data,
        tokenizer_sha256: inputs.tokenizer,
        initial_weights_sha256: inputs.initial_weights,
        bundle_sha256: inputs.bundle,
        first_batch_sha256: history.first_batch_sha256.clone(),
        rollbacks: history.rollbacks.clone(),
        adopted_steps: history.adopted_steps,
        continued_from: Vec::new(),
        arm: None,
        files_sha256: BTreeMap::from([file_hash(&folder.steps())?, file_hash(&folder.evals())?]),
    })
}

/// `log.jsonl`: a line for each step and evaluation, to follow a run from outside. It is never read back, so a failure to
/// write it doesn't stop training.
struct Log(std::fs::File);

impl Log {
    fn open(path: &Path) -> Result<Self, RunError> {
        let file = nanochat_artifacts::files::append(path);
        Ok(Self(file.map_err(|error| nanochat_artifacts::ArtifactError::io("open", path, error))?))
    }

    fn note(&mut self, event: &train::Event<'_>) {
        let line = match event {
            train::Event::Step(row) => serde_json::to_string(row),
            train::Event::Evaluated(row) => serde_json::to_string(row),
            train::Event::RolledBack(record) => serde_json::to_string(record),
            _ => return,
        };
        if let Ok(line) = line {
            let _ = writeln!(self.0, "{line}");
        }
    }
}
