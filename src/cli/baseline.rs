//! `nanochat baseline`: checks, runs and imports the baseline.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use nanochat_artifacts::RunStatus;
use nanochat_experiment::{self as experiment, Experiment};
use nanochat_plan::{DeviceKind, Precision};

use super::bar::thousands;
use super::baseline_progress::Progress;
use super::context::{Overlay, SpecArgs};
use super::output::{gib, number, table};
use super::signals::stop_on_signals;
use super::{CliError, CliResult, Exit, Format, device};
use crate::baseline::{
    self, BaseFolder, BaselineError, Checkout, PINNED_COMMIT, Python, Recording, Session, Tally, Variant,
    recording_name,
};
use crate::run::{MachineCheck, Resources, Scope, Stop, project, with_help};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check that a checkout and its Python environment can be used as the baseline, unmodified
    Check(CheckArgs),
    /// Train karpathy/nanochat on an experiment's budget, and record the results under results/baselines
    Run(Box<RunArgs>),
    /// Record a finished run of the baseline from its log and its meta_<step>.json
    Import(ImportArgs),
    /// Write the baseline's initial weights, for experiments with `init: baseline`
    Weights(WeightsArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The checkout of karpathy/nanochat
    folder: PathBuf,
    /// A spec, for its commit and device; by default the commit that this program was written for
    spec: Option<PathBuf>,
    #[command(flatten)]
    overlay: Overlay,
    /// Interpreter of the environment with the baseline's packages
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The baseline's checkout and environment.
#[derive(Debug, clap::Args)]
struct Place {
    /// The checkout of karpathy/nanochat
    #[arg(long, value_name = "FOLDER")]
    checkout: PathBuf,
    /// Interpreter of the environment with the baseline's packages
    #[arg(long, value_name = "PATH")]
    python: PathBuf,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    place: Place,
    /// How often to run each variant
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Compute dtype, instead of the profile's; several values make several variants
    #[arg(long, value_parser = device::arithmetic())]
    dtype: Vec<Precision>,
    /// Threads, instead of the profile's; several values make several variants
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    threads: Vec<u64>,
    /// Stop a run after this time; it is recorded as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 86400, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Name of the recording; the spec's `baseline.results` by default, else the experiment's name
    #[arg(long)]
    name: Option<String>,
    /// Keep the runs recorded under this name before
    #[arg(long)]
    append: bool,
    /// Folder for the baseline's data, checkpoints and compiled kernels, which is kept; a temporary one by default
    #[arg(long, value_name = "FOLDER")]
    base_dir: Option<PathBuf>,
    /// Run even if the machine doesn't match the profile
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The output of `scripts.base_train`
    pub(super) log: PathBuf,
    /// The `meta_<step>.json` of its last checkpoint
    #[arg(long, value_name = "FILE")]
    pub(super) meta: PathBuf,
    /// Name of the recording; the log's name by default
    #[arg(long)]
    name: Option<String>,
    /// Full commit of the run
    #[arg(long, value_name = "COMMIT", default_value = PINNED_COMMIT, value_parser = full_commit)]
    commit: String,
    /// Keep the runs recorded under this name before
    #[arg(long)]
    append: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct WeightsArgs {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    place: Place,
}

pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Check(args) => check(args),
        Command::Run(args) => run(*args),
        Command::Import(args) => import(args),
        Command::Weights(args) => weights(args),
    }
}

pub(super) fn full_commit(text: &str) -> Result<String, String> {
    let full = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if full { Ok(text.to_string()) } else { Err("a full commit has 40 hexadecimal digits".to_string()) }
}

fn check(args: CheckArgs) -> CliResult {
    let experiment = args.spec.as_deref().map(|spec| experiment::load(spec, &args.overlay.options()));
    let experiment = experiment.transpose().map_err(CliError::invalid)?;
    let commit = experiment.as_ref().map_or(PINNED_COMMIT, |experiment| &experiment.baseline_commit);
    let device = experiment.as_ref().and_then(Experiment::profile).map_or(DeviceKind::Cpu, |profile| profile.device);
    let found = baseline::check(&args.folder, &args.python, commit, device)?;
    Ok(print_check(&found, commit, args.format))
}

/// Prints what a checkout and its environment are.
pub(super) fn print_check(found: &baseline::Check, commit: &str, format: Format) -> Exit {
    let problems: Vec<String> = found.problems.iter().map(|problem| with_help(problem)).collect();
    let checkout = &found.checkout;
    if format == Format::Json {
        let answer = json!({
            "commit": checkout.commit, "wanted": commit, "changes": checkout.changes, "versions": found.versions,
            "devices": found.devices, "gpus": found.gpus, "problems": problems, "ok": problems.is_empty(),
        });
        super::output::say_json(&format!("{answer:#}"));
    } else {
        let versions: Vec<String> = found.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        say!("commit    {}", checkout.commit);
        say!("changes   {}", if checkout.changes.is_empty() { "none".into() } else { checkout.changes.join(", ") });
        say!("versions  {}", versions.join(", "));
        say!("devices   {}", [&found.devices[..], &found.gpus].concat().join(", "));
        for problem in &problems {
            say!("problem   {problem}");
        }
        let verdict = if problems.is_empty() { "can" } else { "can't" };
        say!("{verdict} be used as the baseline");
    }
    if problems.is_empty() { Exit::Done } else { Exit::Failed }
}

fn run(args: RunArgs) -> CliResult {
    let machine = MachineCheck::Profile { allow_mismatch: args.allow_hardware_mismatch };
    let opened = args.spec.open(Scope::All, machine)?;
    let experiment = &opened.experiment;
    let chosen = baseline::one_of_each_budget(opened.plans());
    let commit = &experiment.baseline_commit;
    let stop = stop_baseline();
    let stopped = || stop.requested();
    let place = baseline::Place {
        checkout: &args.place.checkout,
        python: &args.place.python,
        base_dir: args.base_dir.as_deref(),
        timeout: Duration::from_secs(args.timeout),
        hardware_matches: opened.hardware_matches,
    };
    let session = Session::open(&place, commit, &chosen, &stopped)?;
    let default_name = || recording_name(experiment.baseline_results.as_deref(), commit, &experiment.name);
    let name = args.name.clone().unwrap_or_else(default_name);
    let mut recording = Recording::open(&opened.root, commit, &name, args.append)?;
    let mut resources = Resources::new(&opened.root);
    let mut progress = Progress::default();
    let mut tally = Tally::default();
    for plan in chosen {
        let variants = match (args.dtype.is_empty(), args.threads.is_empty()) {
            (true, true) => Variant::of_experiment(experiment, plan),
            _ => Variant::combinations(plan, &args.dtype, &args.threads),
        };
        let outcome =
            session.record(plan, (&variants, args.blocks), (&mut resources, &mut recording), &stopped, &mut |report| {
                progress.show(plan, report)
            });
        progress.end();
        match outcome {
            Ok(done) => tally = tally + done,
            Err(BaselineError::Stopped) => return Ok(Exit::Interrupted),
            Err(error) => return Err(error.into()),
        }
    }
    print(&recording, args.format);
    Ok(if tally.failed > 0 { Exit::Failed } else { Exit::Done })
}

pub(super) fn import(args: ImportArgs) -> CliResult {
    let run = baseline::import(&args.log, &args.meta)?;
    let stem = || args.log.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = args.name.unwrap_or_else(stem);
    let mut recording = Recording::open(&project(), &args.commit, &name, args.append)?;
    recording.add(run)?;
    print(&recording, args.format);
    Ok(Exit::Done)
}

fn weights(args: WeightsArgs) -> CliResult {
    let opened = args.spec.open(Scope::All, MachineCheck::Skip)?;
    let stop = stop_baseline();
    let base = BaseFolder::temporary()?;
    let checkout = Checkout::open(&args.place.checkout)?;
    let python = Python::new(&args.place.python);
    checkout.require(&opened.experiment.baseline_commit)?;
    let place = (&checkout, &python, &base);
    match baseline::write_initial_weights(opened.plans(), place, &opened.root, &|| stop.requested()) {
        Ok(paths) => paths.iter().for_each(|path| say!("{}", path.display())),
        Err(BaselineError::Stopped) => return Ok(Exit::Interrupted),
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

/// The first signal ends the baseline's run, which is not recorded.
pub(super) fn stop_baseline() -> Stop {
    stop_on_signals(["ending the baseline's processes; finished runs stay recorded", ""])
}

impl From<BaselineError> for CliError {
    fn from(error: BaselineError) -> Self {
        match error {
            BaselineError::NoFlag { .. }
            | BaselineError::Import { .. }
            | BaselineError::NotOfArm { .. }
            | BaselineError::NoRun { .. }
            | BaselineError::NoBaselineArm => Self::invalid(error),
            error => Self::failed(error),
        }
    }
}

fn print(recording: &Recording, format: Format) {
    let (runs, path) = (recording.runs(), recording.path());
    if format == Format::Json {
        super::output::say_json(&format!("{:#}", json!({ "path": path, "runs": runs })));
        return;
    }
    let mut rows =
        table(&["variant", "status", "val bpb", "tokens/s", "first step", "peak memory", "CPU s", "seconds"]);
    for run in runs {
        let variant = run.provenance.as_ref().and_then(|provenance| provenance.variant.clone());
        let measured = run.measured.as_ref();
        rows.add_row([
            variant.unwrap_or_else(|| "–".into()),
            format!("{:?}", run.status).to_lowercase(),
            number(run.final_val_bpb, 4),
            run.tokens_per_second.map_or_else(|| "–".into(), thousands),
            number(measured.and_then(|measured| measured.startup_seconds), 1),
            run.peak_rss_bytes.map_or_else(|| "–".into(), gib),
            number(measured.and_then(|measured| measured.cpu_seconds), 1),
            number(run.elapsed_seconds, 1),
        ]);
    }
    say_lines!("{rows}");
    for run in runs.iter().filter(|run| run.status == RunStatus::Failed) {
        say!("failed: {}", run.reason.as_deref().unwrap_or("no reason"));
    }
    say!("recorded: {}", path.display());
}
