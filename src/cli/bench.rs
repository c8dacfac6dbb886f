//! `nanochat bench`: measures this program on a spec's plan.

use std::path::PathBuf;
use std::time::Duration;

use super::output::{json, table};
use super::plan::{Overlay, select};
use super::progress::thousands;
use super::run::{check_hardware, use_threads};
use super::{CliError, CliResult, Exit, Format};
use crate::bench::{self, BenchError, DataOptions, InferOptions, KernelOptions, TokenizerOptions, TrainOptions};
use crate::run::Resources;
use nanochat_artifacts::{
    BenchData, BenchDecoding, BenchInfer, BenchKernel, BenchKernels, BenchTokenizer, BenchTrain, Document,
    write_document,
};
use nanochat_experiment as experiment;
use nanochat_experiment::config::SpecErrors;
use nanochat_plan::{Precision, RunPlan};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Time the first steps of a spec's first run, by phase, and say what share of the machine they use.
    Train(TrainArgs),
    /// Time every kernel at the sizes of a spec's micro-step, beside its reference implementation in elementary operations.
    Kernels(KernelArgs),
    /// Time the training of a spec's tokenizer, and its encoding on one thread.
    Tokenizer(TokenizerArgs),
    /// Time a spec's data path: start-up, and tokens packed a second.
    Data(DataArgs),
    /// Time a spec's model at inference: prompts, first tokens, decoding by the number of samples side by side.
    Infer(InferArgs),
}

/// What every benchmark takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The experiment spec; its first run is measured.
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only the cells whose axis has this value.
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// Measure although the machine is not what the profile says.
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
    no_twins: bool,
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
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Tokens of the prompt that is timed.
    #[arg(long, value_name = "N", default_value_t = 500)]
    prompt_tokens: usize,
    /// Tokens that each sample decodes.
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
    /// Numbers of samples side by side.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    batch_sizes: Vec<usize>,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
}

/// What weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Dtype {
    /// As they are.
    F32,
    /// Rounded: half as many bytes to read.
    Bf16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Train(args) => train(args),
        Command::Kernels(args) => kernels(args),
        Command::Tokenizer(args) => tokenizer(args),
        Command::Data(args) => data(args),
        Command::Infer(args) => infer(args),
    }
}

/// A plan, ready to be measured.
struct Ready {
    plan: RunPlan,
    resources: Resources,
    hardware_matches: bool,
}

impl Common {
    /// The first run's plan, the machine checked, the threads as the profile says.
    fn ready(&self) -> Result<Ready, CliError> {
        let experiment = experiment::load(&self.spec, &self.overlay.options()).map_err(CliError::invalid)?;
        let missing = experiment::missing_paths(&experiment);
        if !missing.is_empty() {
            return Err(CliError::invalid(SpecErrors::new(self.spec.display().to_string(), missing)));
        }
        let cells = select(&experiment, &self.only)?;
        let expansion = experiment::expand_cells(&experiment, cells.into_iter().take(1)).map_err(|error| {
            let help = error.way_out();
            CliError::usage(error, help.as_deref())
        })?;
        let plan = expansion.runs.into_iter().next().ok_or_else(|| CliError::usage("the spec has no run", None))?;
        let hardware_matches = check_hardware(&experiment, std::slice::from_ref(&plan), self.allow_hardware_mismatch)?;
        use_threads(&experiment)?;
        let resources = Resources::new(&super::project()).with_baseline(&experiment.baseline_commit);
        Ok(Ready { plan, resources, hardware_matches })
    }

    /// Writes the document where it was asked for, and prints it.
    fn give<T: Document>(&self, document: &T, print: impl FnOnce(&T)) -> CliResult {
        if let Some(path) = &self.out {
            write_document(path, document).map_err(CliError::failed)?;
        }
        match self.format {
            Format::Json => json(document)?,
            Format::Text => print(document),
        }
        Ok(Exit::Done)
    }
}

fn failed(error: BenchError) -> CliError {
    match error {
        BenchError::TooManySteps { .. }
        | BenchError::NoSteadySteps { .. }
        | BenchError::TooFew { .. }
        | BenchError::OtherShape { .. } => CliError::usage(error, None),
        other => CliError::failed(miette::miette!("{other}")),
    }
}

fn train(args: TrainArgs) -> CliResult {
    let Ready { plan, mut resources, hardware_matches } = args.common.ready()?;
    let options =
        TrainOptions { steps: args.steps, warmup: args.warmup, evaluate: !args.no_evaluation, hardware_matches };
    let document = bench::train(&plan, options, &mut resources, &mut |progress| {
        let rate = thousands(plan.total_batch_size as f64 / progress.seconds);
        eprintln!("step {}/{}  loss {:.4}  {rate} tok/s", progress.step, args.steps, progress.loss);
    })
    .map_err(failed)?;
    args.common.give(&document, print_train)
}

fn print_train(document: &BenchTrain) {
    let milliseconds = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let dtype = match document.dtype {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    let mut rows = table(&["", ""]);
    let mut row = |name: &str, value: String| {
        rows.add_row([name.to_string(), value]);
    };
    row("run", format!("{} of {}", document.run_id, document.experiment));
    row("arithmetic", format!("{dtype}, {} threads", document.environment.threads));
    row("tokens a second", thousands(document.tokens_per_second));
    row("steps", format!("{}, of which {} don't count", document.steps, document.warmup_steps));
    row("achieved", format!("{:.1} GFLOP/s", document.achieved_gflops));
    row("products reach", format!("{:.1} GFLOP/s here", document.gemm_gflops));
    row("share (MFU)", format!("{:.1}%", document.mfu * 100.0));
    row("peak memory", format!("{:.1} MiB", document.peak_memory_bytes() as f64 / f64::from(1 << 20)));
    row("first step after", format!("{:.2} s", document.first_step_after_seconds));
    let startup = &document.startup;
    for (name, seconds) in [
        ("  program, spec", startup.program),
        ("  data", startup.data),
        ("  tokenizer", startup.tokenizer),
        ("  weights", startup.model),
        ("  first batch", startup.first_batch),
    ] {
        row(name, milliseconds(seconds));
    }
    let phases = &document.phases;
    let all = phases.data + phases.forward + phases.head + phases.backward + phases.optimizer;
    row("a mean step", milliseconds(all));
    for (name, seconds) in [
        ("  data", phases.data),
        ("  forward", phases.forward),
        ("  head and loss", phases.head),
        ("  backward", phases.backward),
        ("  optimizer", phases.optimizer),
    ] {
        row(name, format!("{} ({:.1}%)", milliseconds(seconds), 100.0 * seconds / all));
    }
    if let Some(one) = &document.evaluation {
        let bpb = one.val_bpb.map_or_else(|| "–".to_string(), |bpb| format!("{bpb:.4}"));
        row("evaluation", format!("{:.2} s for {} tokens, {bpb} bits per byte", one.seconds, one.tokens));
        row("  a step", milliseconds(phases.evaluation.unwrap_or_default()));
    }
    println!("{rows}");
}

fn kernels(args: KernelArgs) -> CliResult {
    let Ready { plan, hardware_matches, .. } = args.common.ready()?;
    let budget = Duration::from_millis(args.milliseconds);
    let options = KernelOptions { references: !args.no_twins, budget, hardware_matches };
    let document = bench::kernels(&plan, options, &mut |kernel: &BenchKernel| {
        eprintln!("{:<34} {:.3} ms", kernel.name, kernel.seconds * 1e3);
    })
    .map_err(failed)?;
    args.common.give(&document, print_kernels)
}

fn print_kernels(document: &BenchKernels) {
    let mut rows = table(&["kernel", "sizes", "ms", "reference ms", "times", "rate", "of the limit"]);
    for kernel in &document.kernels {
        let milliseconds = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let reference = |show: &dyn Fn(f64) -> String| kernel.twin_seconds.map_or_else(|| "–".to_string(), show);
        rows.add_row([
            kernel.name.clone(),
            kernel.shape.clone(),
            milliseconds(kernel.seconds),
            reference(&milliseconds),
            reference(&|seconds| format!("{:.1}", seconds / kernel.seconds)),
            format!("{:.1} {}", kernel.rate, kernel.unit),
            format!("{:.0}%", kernel.share * 100.0),
        ]);
    }
    println!("{rows}");
    println!("limits: products {:.1} GFLOP/s, copies {:.1} GB/s", document.gemm_gflops, document.copy_gbs);
}

fn tokenizer(args: TokenizerArgs) -> CliResult {
    let Ready { plan, mut resources, hardware_matches } = args.common.ready()?;
    let options = TokenizerOptions { repeats: args.repeats, encode_bytes: args.encode_bytes, hardware_matches };
    let document = bench::tokenizer(&plan, options, &mut resources).map_err(failed)?;
    args.common.give(&document, |document: &BenchTokenizer| {
        let threads = document.environment.threads;
        println!(
            "training   {:.1} MB/s on {threads} threads: {} tokens on {} bytes",
            document.train_megabytes_per_second, document.vocab_size, document.train_bytes
        );
        println!(
            "encoding   {:.1} MB/s on one thread: {} tokens from {} bytes",
            document.encode_megabytes_per_second, document.encode_tokens, document.encode_bytes
        );
    })
}

fn data(args: DataArgs) -> CliResult {
    let Ready { plan, mut resources, hardware_matches } = args.common.ready()?;
    let options = DataOptions { budget: Duration::from_millis(args.milliseconds), hardware_matches };
    let document = bench::data(&plan, options, &mut resources).map_err(failed)?;
    args.common.give(&document, |document: &BenchData| {
        let milliseconds = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
        println!("data         {}", milliseconds(document.open_seconds));
        println!("tokenizer    {}", milliseconds(document.tokenizer_seconds));
        println!("first batch  {}", milliseconds(document.first_batch_seconds));
        println!("packing      {} tokens a second", thousands(document.tokens_per_second));
    })
}

fn infer(args: InferArgs) -> CliResult {
    let Ready { plan, resources, hardware_matches } = args.common.ready()?;
    let options = InferOptions {
        weights: args.weights.map(|path| (path, args.step)),
        dtype: args.dtype.map_or(plan.dtype, Precision::from),
        prompt_tokens: args.prompt_tokens,
        tokens: args.tokens,
        batch_sizes: args.batch_sizes,
        repeats: args.repeats,
        hardware_matches,
    };
    let document = bench::infer(&plan, &options, &resources, &mut |batch: &BenchDecoding| {
        eprintln!("{} beside each other: {} tok/s", batch.rows, thousands(batch.tokens_per_second));
    })
    .map_err(failed)?;
    args.common.give(&document, print_infer)
}

fn print_infer(document: &BenchInfer) {
    let milliseconds = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
    println!(
        "prompt of {} tokens: first token after {}, {} tok/s, {:.0}% of the FLOP rate",
        document.prompt_tokens,
        milliseconds(document.first_token_seconds),
        thousands(document.prefill_tokens_per_second),
        100.0 * document.prefill_flop_share
    );
    let mut rows = table(&["rows", "a token", "tok/s", "read", "of the bandwidth", "of the FLOP rate", "cache"]);
    for batch in &document.batches {
        rows.add_row([
            batch.rows.to_string(),
            milliseconds(batch.step_seconds),
            thousands(batch.tokens_per_second),
            format!("{:.1} GB/s", batch.achieved_gbs),
            format!("{:.0}%", 100.0 * batch.bandwidth_share),
            format!("{:.0}%", 100.0 * batch.flop_share),
            format!("{:.1} MiB", batch.cache_bytes as f64 / f64::from(1 << 20)),
        ]);
    }
    println!("{rows}");
    println!(
        "limits: products {:.1} GFLOP/s, reading {:.1} GB/s; peak memory {:.1} MiB",
        document.gemm_gflops,
        document.read_gbs,
        document.peak_rss_bytes as f64 / f64::from(1 << 20)
    );
}
