//! `nanochat eval`: bits per byte and CORE of a checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use nanochat_engine::data::Split;
use nanochat_engine::evals::core::{Bundle, CoreOptions, CoreResult, Method, Skipped, evaluate};
use nanochat_engine::evals::{EvalError, SplitBits};
use nanochat_engine::model::Backend;
use nanochat_engine::trained::Trained;
use nanochat_plan::OnCoreError;

use super::context::CheckpointArgs;
use super::output::plain_json;
use super::{CliError, CliResult, Exit, Format};
use crate::run::{BitsRequest, RunError, bits_per_byte};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Folder of parquet shards to measure bits per byte on; by default the data of the run's plan
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Split of the data
    #[arg(long, value_enum, default_value_t = Part::Val)]
    split: Part,
    /// Tokens to measure bits per byte on, rounded down to whole batches
    #[arg(long)]
    tokens: Option<u64>,
    /// Rows of a batch
    #[arg(long)]
    batch_size: Option<usize>,
    /// Evaluation bundle: measures CORE; bits per byte then only with --data
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Maximum number of examples of a task
    #[arg(long, requires = "bundle")]
    max_per_task: Option<usize>,
    /// What to do about an example that is malformed or can't be evaluated: stop, or report it and leave it out
    #[arg(long, value_enum, default_value_t, requires = "bundle")]
    on_error: OnError,
    /// How to compute CORE's questions; the answers are the same
    #[arg(long, value_enum, default_value_t, requires = "bundle")]
    core_method: CoreMethod,
    /// Compute with the reference implementation instead of the kernels
    #[arg(long)]
    readable: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum CoreMethod {
    /// Questions share forward passes; a common beginning is computed once
    #[default]
    Shared,
    /// One forward pass for each question over all its options, as in the baseline
    PerExample,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum OnError {
    /// An error names the example
    #[default]
    Stop,
    /// The task is scored on its other examples
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Part {
    Train,
    Val,
}

#[derive(Serialize)]
struct Report {
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bpb: Option<Bpb>,
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<Core>,
}

#[derive(Serialize)]
struct Core {
    method: CoreMethod,
    seconds: f64,
    examples_per_second: f64,
    skipped: Vec<Skipped>,
    #[serde(flatten)]
    result: CoreResult,
}

#[derive(Serialize)]
struct Bpb {
    split: Part,
    #[serde(flatten)]
    bits: SplitBits,
}

pub fn execute(args: Args) -> CliResult {
    // The bundle is read first, so that a malformed one is an error before any computation.
    let on_error = match args.on_error {
        OnError::Stop => OnCoreError::Stop,
        OnError::Skip => OnCoreError::Skip,
    };
    let bundle = args.bundle.as_deref().map(|folder| Bundle::open(folder, args.max_per_task, on_error)).transpose();
    let mut bundle = bundle.map_err(CliError::invalid)?;
    let mut trained = args.checkpoint.open()?;
    if let Some(bundle) = bundle.as_mut().filter(|_| on_error == OnCoreError::Skip) {
        let most = CoreOptions::default().max_prompt_tokens;
        bundle.skip_unposable(&trained.tokenizer, most).map_err(CliError::invalid)?;
        bundle.skipped_in_words().into_iter().for_each(|skipped| tell!("warning: {skipped}"));
    }
    if args.readable {
        trained.model.set_backend(Backend::Reference);
    }
    let wants_bpb = bundle.is_none() || args.data.is_some();
    let bpb = if wants_bpb { Some(bpb(&trained, &args)?) } else { None };
    let core = bundle.map(|bundle| core(&trained, &bundle, args.core_method)).transpose().map_err(CliError::failed)?;
    print(&Report { step: trained.step, bpb, core }, args.format)
}

fn bpb(trained: &Trained, args: &Args) -> Result<Bpb, CliError> {
    let split = match args.split {
        Part::Train => Split::Train,
        Part::Val => Split::Validation,
    };
    let request = BitsRequest { data: args.data.as_deref(), split, batch_size: args.batch_size, tokens: args.tokens };
    let bits = bits_per_byte(trained, &request).map_err(|error| match error {
        RunError::NoEvaluationData | RunError::Data(_) => CliError::invalid(error),
        error => CliError::failed(error),
    })?;
    Ok(Bpb { split: args.split, bits })
}

fn core(trained: &Trained, bundle: &Bundle, method: CoreMethod) -> Result<Core, EvalError> {
    let options = CoreOptions {
        method: match method {
            CoreMethod::Shared => Method::Shared,
            CoreMethod::PerExample => Method::PerExample,
        },
        ..CoreOptions::default()
    };
    let started = Instant::now();
    let result = evaluate(
        &trained.model,
        &trained.tokenizer,
        bundle,
        &options,
        &mut |task| {
            tell!("{}: accuracy {:.4}, centred {:.4}", task.label, task.accuracy, task.centered);
        },
        &|| false,
    )?;
    let seconds = started.elapsed().as_secs_f64();
    let examples: usize = result.tasks.iter().map(|task| task.correct.len()).sum();
    let skipped = bundle.skipped.clone();
    Ok(Core { method, seconds, examples_per_second: examples as f64 / seconds, skipped, result })
}

fn print(report: &Report, format: Format) -> CliResult {
    if format == Format::Json {
        plain_json(report)?;
        return Ok(Exit::Done);
    }
    say!("step {}", report.step);
    if let Some(Bpb { split, bits }) = &report.bpb {
        let part = if *split == Part::Train { "training" } else { "validation" };
        say!("{:.6} bits per byte on {} tokens of the {part} split", bits.value, bits.tokens);
    }
    if let Some(core) = &report.core {
        for task in &core.result.tasks {
            let cropped = if task.cropped_tokens > 0 { "  (prompts cropped)" } else { "" };
            say!("{:<35} {:>8.4} {:>8.4}{cropped}", task.label, task.accuracy, task.centered);
        }
        say!("{:<35} {:>8} {:>8.4}", "CORE", "", core.result.core_metric);
        if !core.skipped.is_empty() {
            say!("{} examples skipped", core.skipped.len());
        }
        say!("{:.1} examples a second", core.examples_per_second);
    }
    Ok(Exit::Done)
}
