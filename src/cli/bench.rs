//! `nanochat bench`: measures this program on a spec's plan.

use std::path::PathBuf;
use std::time::Duration;

use super::context::SpecArgs;
use super::output::{json, table};
use super::progress::thousands;
use super::{CliError, CliResult, Exit, Format, device};
use crate::bench::{
    self, BenchError, GpuOptions, InferOptions, KernelOptions, Subject, TokenizerOptions, TrainOptions,
};
use crate::run::{MachineCheck, Resources, Scope};
use nanochat_artifacts::{Bench, BenchFigure, BenchRate, write_document};
use nanochat_plan::Precision;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Time the first steps of a spec's first run, by phase, and say what share of the machine they use.
    Train(TrainArgs),
    /// Time every kernel at the sizes of a spec's micro-step, with its reference implementation.
    Kernels(KernelArgs),
    /// Time every command of the GPU engine at the sizes of a spec's micro-step: kernels, products, attention.
    Gpu(GpuArgs),
    /// Time the training of a spec's tokenizer, and its encoding on one thread.
    Tokenizer(TokenizerArgs),
    /// Time a spec's data path: start-up, and tokens packed a second.
    Data(DataArgs),
    /// Time a spec's model at inference: prompts, first tokens, decoding of one or more samples at once.
    Infer(InferArgs),
}

/// What every benchmark takes.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    spec: SpecArgs,
    /// Measure even if the machine is not what the profile says.
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// Write the result to this file too; `nanochat compare` takes two such files.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct TrainArgs {
    #[command(flatten)]
    common: Common,
    /// Optimizer steps.
    #[arg(long, value_name = "N", default_value_t = 12)]
    steps: u64,
    /// How many of the first steps don't count.
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u64,
    /// Leave out the evaluation after the steps.
    #[arg(long)]
    no_evaluation: bool,
}

#[derive(Debug, clap::Args)]
struct KernelArgs {
    #[command(flatten)]
    common: Common,
    /// Milliseconds spent on each figure.
    #[arg(long, value_name = "N", default_value_t = 200)]
    milliseconds: u64,
    /// Leave out the reference implementations.
    #[arg(long)]
    no_references: bool,
}

#[derive(Debug, clap::Args)]
struct GpuArgs {
    #[command(flatten)]
    common: Common,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
    /// Time every algorithm that cuBLASLt proposes for a product.
    #[arg(long)]
    algorithms: bool,
}

#[derive(Debug, clap::Args)]
struct TokenizerArgs {
    #[command(flatten)]
    common: Common,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: u64,
    /// Bytes of the training split that are encoded, at most.
    #[arg(long, value_name = "N", default_value_t = 64 << 20)]
    encode_bytes: u64,
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    #[command(flatten)]
    common: Common,
    /// Milliseconds spent on packing.
    #[arg(long, value_name = "N", default_value_t = 3000)]
    milliseconds: u64,
}

#[derive(Debug, clap::Args)]
struct InferArgs {
    #[command(flatten)]
    common: Common,
    /// Take the weights of this checkpoint, ours or the baseline's, instead of the spec's initial ones.
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// The checkpoint's step; the newest by default.
    #[arg(long, value_name = "N", requires = "weights")]
    step: Option<u64>,
    /// What the weights of matrix products are kept in; the profile's arithmetic by default.
    #[arg(long, value_parser = device::weights())]
    dtype: Option<Precision>,
    /// Tokens of the prompt that is timed.
    #[arg(long, value_name = "N", default_value_t = 500)]
    prompt_tokens: usize,
    /// Tokens that each sample decodes.
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
    /// How many samples are decoded at once, one measurement each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    batch_sizes: Vec<usize>,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
}

pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Train(args) => train(args),
        Command::Kernels(args) => kernels(args),
        Command::Gpu(args) => gpu(args),
        Command::Tokenizer(args) => tokenizer(args),
        Command::Data(args) => data(args),
        Command::Infer(args) => infer(args),
    }
}

impl Common {
    /// The first run's plan, with the machine checked and as many threads as the profile says.
    fn subject(&self) -> Result<Subject, CliError> {
        let machine = MachineCheck::ProfileAndMemory { allow_mismatch: self.allow_hardware_mismatch };
        let opened = self.spec.open(Scope::FirstRun, machine)?;
        opened.make_thread_pool()?;
        let resources = Resources::new(&opened.root).with_baseline(&opened.experiment.baseline_commit);
        let hardware_matches = opened.hardware_matches;
        Ok(Subject { plan: opened.one_plan()?.clone(), resources, hardware_matches })
    }

    /// Writes the document to the file that was named, and prints it.
    fn give(&self, measured: Result<Bench, BenchError>) -> CliResult {
        let document = measured.map_err(failed)?;
        if let Some(path) = &self.out {
            write_document(path, &document).map_err(CliError::failed)?;
        }
        match self.format {
            Format::Json => json(&document)?,
            Format::Text => super::output::text(&super::outside::lines(&text(&document))),
        }
        Ok(Exit::Done)
    }
}

fn failed(error: BenchError) -> CliError {
    if error.is_usage() { CliError::invalid(error) } else { CliError::failed(error) }
}

fn train(args: TrainArgs) -> CliResult {
    let mut subject = args.common.subject()?;
    let options = TrainOptions { steps: args.steps, warmup: args.warmup, evaluate: !args.no_evaluation };
    let tokens = subject.plan.total_batch_size as f64;
    args.common.give(bench::train(&mut subject, options, &mut |progress| {
        let rate = thousands(tokens / progress.seconds);
        tell!("step {}/{}  loss {:.4}  {rate} tok/s", progress.step, args.steps, progress.loss);
    }))
}

fn kernels(args: KernelArgs) -> CliResult {
    let subject = args.common.subject()?;
    let budget = Duration::from_millis(args.milliseconds);
    let options = KernelOptions { references: !args.no_references, budget };
    args.common.give(bench::kernels(&subject, options, &mut progress))
}

fn gpu(args: GpuArgs) -> CliResult {
    bench::gpu_is_built_in().map_err(failed)?;
    let subject = args.common.subject()?;
    let options = GpuOptions { repeats: args.repeats, algorithms: args.algorithms };
    args.common.give(bench::gpu(&subject, options, &mut progress))
}

fn tokenizer(args: TokenizerArgs) -> CliResult {
    let mut subject = args.common.subject()?;
    let options = TokenizerOptions { repeats: args.repeats, encode_bytes: args.encode_bytes };
    args.common.give(bench::tokenizer(&mut subject, options))
}

fn data(args: DataArgs) -> CliResult {
    let mut subject = args.common.subject()?;
    args.common.give(bench::data(&mut subject, Duration::from_millis(args.milliseconds)))
}

fn infer(args: InferArgs) -> CliResult {
    let subject = args.common.subject()?;
    let options = InferOptions {
        weights: args.weights.map(|path| (path, args.step)),
        dtype: args.dtype.unwrap_or(subject.plan.dtype),
        prompt_tokens: args.prompt_tokens,
        tokens: args.tokens,
        batch_sizes: args.batch_sizes,
        repeats: args.repeats,
    };
    args.common.give(bench::infer(&subject, &options, &mut progress))
}

fn progress(figure: &BenchFigure) {
    tell!("{}: {}", figure.name, value(figure.value, &figure.unit));
}

/// A benchmark as a table, with a line before it that says what was measured, and how.
fn text(document: &Bench) -> String {
    let dtype = format!("{:?}", document.dtype).to_lowercase();
    let threads = document.environment.threads;
    let mut text = format!("{}: {} of {}, {dtype}", document.measured, document.run_id, document.experiment);
    text.push_str(&format!(", {threads} thread{}\n", if threads == 1 { "" } else { "s" }));
    if document.warmup > 0 {
        let counted = document.repeats.unwrap_or_default().saturating_sub(document.warmup);
        text.push_str(&format!("{counted} steps count, after {} of warm-up\n", document.warmup));
    }
    if let Some(evaluation) = &document.evaluation {
        let bpb = evaluation.val_bpb.map_or_else(|| "–".to_string(), |bpb| format!("{bpb:.4}"));
        text.push_str(&format!("evaluation on {} tokens: {bpb} bits per byte\n", evaluation.tokens));
    }
    let mut rows = table(&["figure", "value", "reference", "rate"]);
    for figure in document.all_figures() {
        let reference = figure
            .reference
            .map(|reference| format!("{} (×{:.1})", value(reference, &figure.unit), reference / figure.value));
        let rate =
            |rate: &BenchRate| format!("{}, {:.0}% of the limit", value(rate.value, &rate.unit), 100.0 * rate.share);
        let rates: Vec<String> = figure.rates.iter().map(rate).collect();
        rows.add_row([figure.name, value(figure.value, &figure.unit), reference.unwrap_or_default(), rates.join("; ")]);
    }
    let startup = document.startup.iter().map(|(part, seconds)| (format!("start-up: {part}"), *seconds));
    let evaluation = document.phases.as_ref().and_then(|phases| phases.evaluation);
    for (name, seconds) in startup.chain(evaluation.map(|seconds| ("a step: its share of evaluations".into(), seconds)))
    {
        rows.add_row([name, value(seconds, "s")]);
    }
    text.push_str(&format!("{rows}\n"));
    text
}

/// A figure with its unit.
fn value(value: f64, unit: &str) -> String {
    match unit {
        "s" => format!("{:.3} ms", value * 1e3),
        "" => format!("{value:.4}"),
        _ if value.abs() >= 1000.0 => format!("{} {unit}", thousands(value)),
        _ => format!("{value:.3} {unit}"),
    }
}
