//! `nanochat eval`: bits per byte and CORE of a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{CliError, CliResult, Exit, Format, device};
use nanochat_engine::data::{Corpus, Split};
use nanochat_engine::evals::core::{Bundle, CoreOptions, CoreResult, Method, evaluate};
use nanochat_engine::evals::{EvalError, SplitBits, bits_per_byte_of_split};
use nanochat_engine::model::Engine;
use nanochat_engine::trained::Trained;
use nanochat_plan::{DataPlan, DeviceKind};

/// Rows a batch where no plan says otherwise.
const BATCH: usize = 8;

/// Tokens evaluated where neither the user nor a plan says otherwise.
const TOKENS: u64 = 1 << 19;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's folder, its checkpoints/, one of them, or the baseline's folder of model_….pt files or one of these.
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// The step to evaluate; the newest by default.
    #[arg(long)]
    step: Option<u64>,
    /// The tokenizer, where none is stored with the checkpoint.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Folder of parquet shards to measure bits per byte on; by default the data of the run's plan.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Which part of the data.
    #[arg(long, value_enum, default_value_t = Part::Val)]
    split: Part,
    /// Tokens to measure bits per byte on, rounded down to whole batches.
    #[arg(long)]
    tokens: Option<u64>,
    /// Rows a batch.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Evaluation bundle: measures CORE; bits per byte then only with --data.
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Examples a task at most.
    #[arg(long, requires = "bundle")]
    max_per_task: Option<usize>,
    /// How CORE's questions are computed; the answers are the same.
    #[arg(long, value_enum, default_value_t, requires = "bundle")]
    core_method: CoreMethod,
    /// Where to compute.
    #[arg(long, value_parser = device::devices(), default_value_t)]
    device: DeviceKind,
    /// Compute by elementary operations instead of the kernels, to compare.
    #[arg(long)]
    readable: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum CoreMethod {
    /// Questions share passes; what they begin with in common is computed once.
    #[default]
    Shared,
    /// One pass a question over all its options in full, as the baseline does it.
    PerExample,
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
    // The bundle is read first: a broken one is told before anything is computed.
    let bundle = args.bundle.as_deref().map(|folder| Bundle::open(folder, args.max_per_task)).transpose();
    let bundle = bundle.map_err(CliError::invalid)?;
    let device = device::open(args.device)?;
    let mut trained =
        Trained::open(&args.checkpoint, args.step, args.tokenizer.as_deref(), &device).map_err(CliError::invalid)?;
    for remark in &trained.remarks {
        eprintln!("note: {remark}");
    }
    if args.readable {
        trained.model.set_engine(Engine::Reference);
    }
    let wants_bpb = bundle.is_none() || args.data.is_some();
    let bpb = if wants_bpb { Some(bpb(&trained, &args)?) } else { None };
    let core = bundle.map(|bundle| core(&trained, &bundle, args.core_method)).transpose().map_err(CliError::failed)?;
    print(&Report { step: trained.step, bpb, core }, args.format)
}

fn bpb(trained: &Trained, args: &Args) -> Result<Bpb, CliError> {
    let plan = trained.plan.as_ref();
    let data = match (&args.data, plan) {
        (Some(path), _) => DataPlan::Parquet { path: path.display().to_string() },
        (None, Some(plan)) => plan.data.clone(),
        (None, None) => return Err(CliError::usage("there is no data to measure on", Some("name it with `--data`"))),
    };
    let corpus = Corpus::open(&data, Path::new(".")).map_err(|error| CliError::usage(error, None))?;
    let batch_size = args.batch_size.or(plan.map(|plan| plan.device_batch_size as usize)).unwrap_or(BATCH);
    let tokens = args.tokens.or(plan.map(|plan| plan.eval.tokens)).unwrap_or(TOKENS);
    let split = match args.split {
        Part::Train => Split::Train,
        Part::Val => Split::Validation,
    };
    let (model, tokenizer) = (&trained.model, &trained.tokenizer);
    let bits = bits_per_byte_of_split(model, tokenizer, &Arc::new(corpus), split, batch_size, tokens);
    Ok(Bpb { split: args.split, bits: bits.map_err(CliError::failed)? })
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
    let result = evaluate(&trained.model, &trained.tokenizer, bundle, &options, &mut |task| {
        eprintln!("{}: accuracy {:.4}, centred {:.4}", task.label, task.accuracy, task.centered);
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let examples: usize = result.tasks.iter().map(|task| task.correct.len()).sum();
    Ok(Core { method, seconds, examples_per_second: examples as f64 / seconds, result })
}

fn print(report: &Report, format: Format) -> CliResult {
    if format == Format::Json {
        let text = serde_json::to_string_pretty(report).map_err(|error| CliError::usage(error, None))?;
        println!("{text}");
        return Ok(Exit::Done);
    }
    println!("step {}", report.step);
    if let Some(Bpb { split, bits }) = &report.bpb {
        let part = if *split == Part::Train { "training" } else { "validation" };
        println!("{:.6} bits per byte on {} tokens of the {part} split", bits.value, bits.tokens);
    }
    if let Some(core) = &report.core {
        for task in &core.result.tasks {
            let cropped = if task.cropped_tokens > 0 { "  (prompts cropped)" } else { "" };
            println!("{:<35} {:>8.4} {:>8.4}{cropped}", task.label, task.accuracy, task.centered);
        }
        println!("{:<35} {:>8} {:>8.4}", "CORE", "", core.result.core_metric);
        println!("{:.1} examples a second", core.examples_per_second);
    }
    Ok(Exit::Done)
}
