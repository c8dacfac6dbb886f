//! `nanochat baseline`: the other arm, checked, run, imported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::baseline_progress::Progress;
use super::output::table;
use super::plan::{Overlay, select};
use super::progress::thousands;
use super::{CliError, CliResult, Exit, Format, device};
use crate::baseline::{
    self, BaseFolder, BaselineError, Checkout, PINNED_COMMIT, Python, Recording, SCRIPT_TIMEOUT, Session, Tally,
    Variant, recording_name,
};
use crate::hardware;
use crate::run::{Resources, Stop};
use nanochat_artifacts::{BaselineRun, RunStatus};
use nanochat_experiment::config::SpecErrors;
use nanochat_experiment::{self as experiment, Experiment};
use nanochat_plan::{DeviceKind, Precision, RunPlan};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check that a checkout and its Python environment can serve as the baseline, unmodified
    Check(CheckArgs),
    /// Train karpathy/nanochat on an experiment's budget, and record what came out under results/baselines
    Run(Box<RunArgs>),
    /// Record a run of the baseline that was made elsewhere, from its log and its meta_<step>.json
    Import(ImportArgs),
    /// Write the weights that the baseline would start from, for experiments with `init: baseline`
    Weights(WeightsArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The checkout of karpathy/nanochat
    folder: PathBuf,
    /// A spec, for its pinned commit and its device; without one, the commit that this program was written against
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

/// Where the baseline is.
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
    /// The experiment spec
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only cells with this axis value; of cells with one budget the first is trained
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// How often each variant is run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Arithmetic, instead of the profile's; several make several variants
    #[arg(long, value_parser = device::arithmetic())]
    dtype: Vec<Precision>,
    /// Threads, instead of the profile's; several make several variants
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    threads: Vec<u64>,
    /// Stop a run after so many seconds; it is recorded as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 86400, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Name of the recording; the spec's `baseline.results` by default, else the experiment's name
    #[arg(long)]
    name: Option<String>,
    /// Keep what was recorded under this name before
    #[arg(long)]
    append: bool,
    /// Folder for the baseline's data, checkpoints and compiled kernels, kept afterwards; a temporary one by default
    #[arg(long, value_name = "FOLDER")]
    base_dir: Option<PathBuf>,
    /// Run although the machine is not what the profile says
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// What `scripts.base_train` printed
    log: PathBuf,
    /// The `meta_<step>.json` beside its last checkpoint
    #[arg(long, value_name = "FILE")]
    meta: PathBuf,
    /// Name of the recording; the log's name by default
    #[arg(long)]
    name: Option<String>,
    /// Full commit that was run
    #[arg(long, value_name = "COMMIT", default_value = PINNED_COMMIT, value_parser = full_commit)]
    commit: String,
    /// Keep what was recorded under this name before
    #[arg(long)]
    append: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct WeightsArgs {
    /// The experiment spec
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only cells with this axis value
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
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

fn full_commit(text: &str) -> Result<String, String> {
    let full = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if full { Ok(text.to_string()) } else { Err("a full commit of 40 hexadecimal digits is needed".to_string()) }
}

fn check(args: CheckArgs) -> CliResult {
    let experiment = args.spec.as_deref().map(|spec| experiment::load(spec, &args.overlay.options()));
    let experiment = experiment.transpose().map_err(CliError::invalid)?;
    let commit = experiment.as_ref().map_or(PINNED_COMMIT, |experiment| &experiment.baseline_commit);
    let device = experiment.as_ref().and_then(Experiment::profile).map_or(DeviceKind::Cpu, |profile| profile.device);
    let checkout = Checkout::open(&args.folder).map_err(failed)?;
    let python = Python::new(&args.python);
    let mut problems = checkout.problems(commit);
    let environment = python.probe(SCRIPT_TIMEOUT, &|| false);
    problems.extend(match &environment {
        Ok(found) => python.require(found, device).err(),
        Err(_) => None,
    });
    let problems: Vec<String> = problems.iter().chain(environment.as_ref().err()).map(ToString::to_string).collect();
    let versions = environment.as_ref().map(|found| found.versions()).unwrap_or_default();
    let devices = environment.as_ref().map(|found| found.devices.clone()).unwrap_or_default();
    let gpus = environment.map(|found| found.accelerators).unwrap_or_default();
    if args.format == Format::Json {
        let answer = json!({
            "commit": checkout.commit, "wanted": commit, "changes": checkout.changes, "versions": versions,
            "devices": devices, "gpus": gpus, "problems": problems, "ok": problems.is_empty(),
        });
        println!("{answer:#}");
    } else {
        println!("commit    {}", checkout.commit);
        let changes = if checkout.changes.is_empty() { "none".to_string() } else { checkout.changes.join(", ") };
        println!("changes   {changes}");
        println!("versions  {}", listed(&versions));
        println!("devices   {}", devices.iter().chain(&gpus).cloned().collect::<Vec<_>>().join(", "));
        for problem in &problems {
            println!("problem   {problem}");
        }
        println!("{}", if problems.is_empty() { "can serve as the baseline" } else { "can't serve as the baseline" });
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Failed })
}

fn listed(versions: &BTreeMap<String, String>) -> String {
    versions.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
}

/// A spec's experiment and plans.
fn plans(spec: &Path, overlay: &Overlay, only: &[String]) -> Result<(Experiment, Vec<RunPlan>), CliError> {
    let experiment = experiment::load(spec, &overlay.options()).map_err(CliError::invalid)?;
    let missing = experiment::missing_paths(&experiment);
    if !missing.is_empty() {
        return Err(CliError::invalid(SpecErrors::new(spec.display().to_string(), missing)));
    }
    let expansion = experiment::expand_cells(&experiment, select(&experiment, only)?).map_err(|error| {
        let help = error.way_out();
        CliError::usage(error, help.as_deref())
    })?;
    Ok((experiment, expansion.runs))
}

fn run(args: RunArgs) -> CliResult {
    let (experiment, all) = plans(&args.spec, &args.overlay, &args.only)?;
    let hardware_matches = super::run::check_hardware(&experiment, &[], args.allow_hardware_mismatch)?;
    let chosen = baseline::one_of_each_budget(&all);
    let commit = &experiment.baseline_commit;
    let stop = stop_on_signals();
    let stopped = || stop.requested();
    let base = args.base_dir.as_deref().map_or_else(BaseFolder::temporary, BaseFolder::at).map_err(failed)?;
    let place = (Checkout::open(&args.place.checkout).map_err(failed)?, Python::new(&args.place.python));
    let machine = hardware::this_machine();
    let mut session = Session::open(place, commit, &chosen, base, machine, &stopped).map_err(failed)?;
    session.timeout = Duration::from_secs(args.timeout);
    session.hardware_matches = hardware_matches;
    let root = super::project();
    let name =
        args.name.unwrap_or_else(|| recording_name(experiment.baseline_results.as_deref(), commit, &experiment.name));
    let mut recording = Recording::open(&root, commit, &name, args.append).map_err(failed)?;
    let mut resources = Resources::new(&root);
    let mut progress = Progress::default();
    let mut tally = Tally::default();
    for plan in chosen {
        let corpus = resources.corpus(&plan.data).map_err(|error| CliError::failed(miette::miette!("{error}")))?;
        let tokenizer =
            resources.tokenizer(plan, &corpus).map_err(|error| CliError::failed(miette::miette!("{error}")))?;
        let variants = asked_for(plan, &args.dtype, &args.threads).unwrap_or_else(|| variants(&experiment, plan));
        let outcome = session.carry_out(
            (plan, &corpus, &tokenizer),
            (&variants, args.blocks),
            &mut recording,
            &stopped,
            &mut |report| progress.show(plan, report),
        );
        progress.end();
        match outcome {
            Ok(done) => tally = tally + done,
            Err(BaselineError::Stopped) => return Ok(Exit::Interrupted),
            Err(error) => return Err(failed(error)),
        }
    }
    print(recording.runs(), recording.path(), args.format);
    Ok(if tally.failed > 0 { Exit::Failed } else { Exit::Done })
}

/// The variants that the spec names, or what the plan says.
pub(super) fn variants(experiment: &Experiment, plan: &RunPlan) -> Vec<Variant> {
    let planned = Variant::of(plan);
    let named = experiment.baseline_variants.iter().map(|variant| Variant {
        dtype: variant.dtype.unwrap_or(planned.dtype),
        threads: variant.threads.unwrap_or(planned.threads),
    });
    if experiment.baseline_variants.is_empty() { vec![planned] } else { named.collect() }
}

/// The variants that flags ask for, if any do.
fn asked_for(plan: &RunPlan, dtypes: &[Precision], threads: &[u64]) -> Option<Vec<Variant>> {
    if dtypes.is_empty() && threads.is_empty() {
        return None;
    }
    let planned = Variant::of(plan);
    let dtypes = if dtypes.is_empty() { vec![planned.dtype] } else { dtypes.to_vec() };
    let threads = if threads.is_empty() { vec![planned.threads] } else { threads.to_vec() };
    Some(dtypes.iter().flat_map(|&dtype| threads.iter().map(move |&threads| Variant { dtype, threads })).collect())
}

fn import(args: ImportArgs) -> CliResult {
    let run = baseline::import(&args.log, &args.meta).map_err(failed)?;
    let root = super::project();
    let stem = || args.log.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = args.name.unwrap_or_else(stem);
    let mut recording = Recording::open(&root, &args.commit, &name, args.append).map_err(failed)?;
    recording.add(run).map_err(failed)?;
    print(recording.runs(), recording.path(), args.format);
    Ok(Exit::Done)
}

fn weights(args: WeightsArgs) -> CliResult {
    let (experiment, all) = plans(&args.spec, &args.overlay, &args.only)?;
    let stop = stop_on_signals();
    let stopped = || stop.requested();
    let base = BaseFolder::temporary().map_err(failed)?;
    let checkout = Checkout::open(&args.place.checkout).map_err(failed)?;
    let python = Python::new(&args.place.python);
    checkout.require(&experiment.baseline_commit).map_err(failed)?;
    let root = super::project();
    let written = baseline::write_initial_weights(&all, (&checkout, &python, &base), &root, &stopped);
    match written {
        Ok(paths) => paths.iter().for_each(|path| println!("{}", path.display())),
        Err(BaselineError::Stopped) => return Ok(Exit::Interrupted),
        Err(error) => return Err(failed(error)),
    }
    Ok(Exit::Done)
}

/// The first signal ends the run that goes on; nothing of it is recorded.
fn stop_on_signals() -> Stop {
    let stop = Stop::default();
    let seen = stop.clone();
    let handler = move || match seen.request() {
        0 => eprintln!("\nending the baseline's processes; runs that were finished stay recorded"),
        1 => {}
        _ => std::process::exit(Exit::Interrupted as i32),
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: signals can't be caught ({error})");
    }
    stop
}

pub(super) fn failed(error: BaselineError) -> CliError {
    match error {
        BaselineError::Artifact(error) => CliError::failed(error),
        BaselineError::NoFlag { .. } | BaselineError::Import { .. } => CliError::usage(error, None),
        error => CliError::failed(miette::miette!("{error}")),
    }
}

fn print(runs: &[BaselineRun], path: &Path, format: Format) {
    if format == Format::Json {
        println!("{:#}", json!({ "path": path, "runs": runs }));
        return;
    }
    let mut rows =
        table(&["variant", "status", "val bpb", "tokens/s", "first step", "peak memory", "CPU s", "seconds"]);
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "–".into(), |v| format!("{v:.digits$}"));
    for run in runs {
        let variant = run.provenance.as_ref().and_then(|provenance| provenance.variant.clone());
        let measured = run.measured.as_ref();
        rows.add_row([
            variant.unwrap_or_else(|| "–".into()),
            format!("{:?}", run.status).to_lowercase(),
            number(run.final_val_bpb, 4),
            run.tokens_per_second.map_or_else(|| "–".into(), thousands),
            number(measured.and_then(|measured| measured.startup_seconds), 1),
            run.peak_rss_bytes
                .map_or_else(|| "–".into(), |bytes| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))),
            number(measured.and_then(|measured| measured.cpu_seconds), 1),
            number(run.elapsed_seconds, 1),
        ]);
    }
    println!("{rows}");
    for run in runs.iter().filter(|run| run.status == RunStatus::Failed) {
        println!("failed: {}", run.reason.as_deref().unwrap_or("no reason"));
    }
    println!("recorded: {}", path.display());
}
