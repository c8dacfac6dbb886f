//! Why an experiment or a run fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nanochat_artifacts::ArtifactError;
use nanochat_engine::checkpoint::CheckpointError;
use nanochat_engine::data::DataError;
use nanochat_engine::device::DeviceError;
use nanochat_engine::evals::EvalError;
use nanochat_engine::model::ModelError;
use nanochat_engine::tokenizer::TokenizerError;
use nanochat_engine::train::TrainError;
use nanochat_lab::report::ReportError;
use nanochat_lab::scorecard::ScorecardError;

/// Why an experiment or a run fails.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RunError {
    /// A result can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// A checkpoint can't be read or written, or another process has the run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The data can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The tokenizer can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The starting weights can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// The evaluation's tasks can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Evaluation(#[from] EvalError),
    /// Training failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Train(#[from] TrainError),
    /// The verdicts can't be computed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scorecard(#[from] ScorecardError),
    /// The reports can't be rendered.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Report(#[from] ReportError),
    /// The file of starting weights can't be read.
    #[error("can't read the starting weights {path}: {reason}")]
    #[diagnostic(help("init.weights needs a safetensors file with the baseline's parameter names"))]
    Weights {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The plan starts from the baseline's own initial weights, which only the baseline can write.
    #[error("`init: baseline` needs the baseline's initial weights at {path}")]
    #[diagnostic(help("write them with `nanochat baseline weights SPEC --checkout FOLDER --python PATH`"))]
    BaselineWeights {
        /// The missing file.
        path: String,
    },
    /// A baseline checkpoint can't start this run.
    #[error("can't continue from the baseline's checkpoint in {path}: {reason}")]
    #[diagnostic(help("the spec must have the shape, batch and data of the baseline's run, and a new run folder"))]
    Adoption {
        /// Its folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// An interrupted run was begun with other inputs.
    #[error("the run was begun with other inputs ({what}), so it can't go on with these")]
    #[diagnostic(help("go on with the inputs that it began with, or start it over with `--force`"))]
    OtherInputs {
        /// Which.
        what: String,
    },
    /// A checkpoint doesn't carry the seal of this user.
    #[error("the run's checkpoint at step {step} was not written by this user on this machine: {path}")]
    #[diagnostic(help(
        "start the run over with `--force`, or, if you know where the checkpoint comes from, go on with `--trust-checkpoints`, which the summary records"
    ))]
    UnknownCheckpoint {
        /// Steps done at it.
        step: u64,
        /// Its folder.
        path: String,
    },
    /// What a spec plans isn't known.
    #[error("`{path}` can't be read, so what it plans isn't known: {reason}")]
    #[diagnostic(help("`nanochat validate` says what is wrong with it"))]
    UnreadSpec {
        /// The spec.
        path: String,
        /// Why.
        reason: String,
    },
    /// The device can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Device(#[from] DeviceError),
    /// The device ran out of memory during the run.
    #[error("the run needs more than the {estimate:.1} GiB that were estimated: {error}")]
    #[diagnostic(help("set hardware.device_batch_size below {batch}, or end other programs on the device"))]
    OutOfDeviceMemory {
        /// Estimate in GiB.
        estimate: f64,
        /// Sequences of a micro-step.
        batch: u64,
        /// The failed operation.
        error: TrainError,
    },
    /// The tokenizer doesn't fit the plan.
    #[error("the tokenizer has {found} tokens, the plan says {planned}")]
    #[diagnostic(help("set model.vocab_size or the tokenizer so that they agree"))]
    VocabularyMismatch {
        /// Tokens in the tokenizer.
        found: usize,
        /// Tokens in the plan.
        planned: usize,
    },
    /// A run of the noise experiment failed.
    #[error("the noise was not recorded, because a run failed: {run_id}: {reason}")]
    #[diagnostic(help("mend the cause and run the same command again; finished runs are kept"))]
    NoNoise {
        /// The run.
        run_id: String,
        /// Why it failed.
        reason: String,
    },
    /// A checkout could not carry out the run of its arm.
    #[error("the arm `{arm}`: {reason}")]
    #[diagnostic(help("the other arms' runs stand; the same command takes this one up again"))]
    Arm {
        /// The arm.
        arm: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A run is another program's, and no checkout of it was opened.
    #[error("the run `{run_id}` is carried out by a checkout, which this command doesn't open")]
    #[diagnostic(help("`nanochat run SPEC` carries it out"))]
    NoArm {
        /// The run.
        run_id: String,
    },
    /// A timing session of no runs.
    #[error("the spec plans no run, so there is nothing to time")]
    #[diagnostic(help("`nanochat plan SPEC` shows its runs"))]
    NothingToTime,
    /// Another spec made the record that would be replaced.
    #[error("the results of `{name}` were made by {other}, and {own} has the same name")]
    #[diagnostic(help(
        "give one of them another `name` (`--set name=…` does for this time), or let this one take its place with --force"
    ))]
    OtherSpec {
        /// Name of the experiment.
        name: String,
        /// The spec that made the record.
        other: String,
        /// The spec that is run.
        own: String,
    },
    /// A stop was requested before the run came to its end.
    #[error("stopped by a signal")]
    #[diagnostic(help("the same command starts the run again"))]
    Stopped,
    /// There are no documents to evaluate on.
    #[error("there is no data to evaluate on: the checkpoint has no plan")]
    #[diagnostic(help("name the data with `--data`"))]
    NoEvaluationData,
    /// A bug: the engine panicked. The run is recorded as failed and the other runs continue.
    #[error("internal error: {0}")]
    #[diagnostic(help("please report it with the plan.json of this run"))]
    Panicked(String),
}

/// Does a piece of work of which a panic becomes an error, so that other work goes on.
///
/// # Errors
/// Those of the work, and [`RunError::Panicked`].
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(RunError::Panicked(message.unwrap_or_else(|| "unknown".to_string())))
    })
}

/// An error in one line, followed by its help: for documents, logs and progress.
pub fn with_help(error: &dyn miette::Diagnostic) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}
