//! `nanochat arm`: sets checkouts up, checks and runs the arms of a spec.

use std::path::PathBuf;

use nanochat_artifacts::{BaselineRun, RunStatus};
use nanochat_plan::{DeviceKind, RunPlan};

use super::arm_places::PlaceArgs;
use super::baseline::{ImportArgs, full_commit, print_check, stop_baseline};
use super::context::{Overlay, SpecArgs};
use super::output::number;
use super::{CliError, CliResult, Exit, Format, baseline, device, run};
use crate::baseline::{Report, Setup, check, import_arm, planned_run, set_up};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Clone karpathy/nanochat or a fork, make its environment, check it by a run of two steps, and print its arm
    Setup(SetupArgs),
    /// Check the checkouts and environments of a spec's arms
    Check(CheckArgs),
    /// Carry out the runs of one arm alone
    Run(RunArgs),
    /// Record a finished run of any commit from its log and its meta_<step>.json, as a run of a spec's arm or by itself
    Import(Box<ArmImportArgs>),
}

#[derive(Debug, clap::Args)]
struct SetupArgs {
    /// The folder of the checkout; one that is there already is used
    folder: PathBuf,
    /// Where to clone from, an address or a clone that is here
    #[arg(long, value_name = "URL", default_value = crate::baseline::REPOSITORY)]
    repository: String,
    /// Full commit to check out
    #[arg(long, value_name = "HASH", value_parser = full_commit)]
    commit: Option<String>,
    /// Which build of PyTorch to install
    #[arg(long, value_parser = ["cpu", "gpu"], default_value = "cpu")]
    extra: String,
    /// Interpreter of an environment that is used as it is, instead of making one
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Where the two steps are taken; by default as `--extra` says
    #[arg(long, value_parser = device::devices())]
    device: Option<DeviceKind>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    places: PlaceArgs,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Name of the arm
    #[arg(long, value_name = "NAME")]
    arm: String,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Debug, clap::Args)]
struct ArmImportArgs {
    #[command(flatten)]
    files: ImportArgs,
    /// The experiment spec that plans the run
    #[arg(long, value_name = "SPEC", requires = "run", conflicts_with_all = ["name", "append", "commit"])]
    spec: Option<PathBuf>,
    #[command(flatten)]
    overlay: Overlay,
    /// The run that the files are of, as `nanochat plan SPEC` names it
    #[arg(long, value_name = "RUN", requires = "spec")]
    run: Option<String>,
    /// Replace the run if it is recorded already
    #[arg(long, requires = "spec")]
    force: bool,
}

pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Setup(args) => setup(&args),
        Command::Check(args) => check_arms(&args),
        Command::Run(args) => run::execute_arm(args.run, &args.arm),
        Command::Import(args) => import(*args),
    }
}

fn import(args: ArmImportArgs) -> CliResult {
    let (Some(spec), Some(run_id)) = (args.spec, args.run) else { return baseline::import(args.files) };
    let opened = SpecArgs { spec, overlay: args.overlay, only: Vec::new() }.look()?;
    let plan = planned_run(opened.plans(), &run_id)?;
    let folder = opened.root.experiment(&opened.experiment.name).and_then(|folder| folder.run(&plan.run_id));
    let folder = folder.map_err(CliError::failed)?;
    let summary = import_arm(plan, &folder, (&args.files.log, &args.files.meta), args.force)?;
    say!("imported  {run_id}: val bpb {} after {} steps", number(summary.final_val_bpb, 4), summary.steps);
    say!("{}", folder.path().display());
    tell!("its files don't say what it read: it is shown beside the other arms, and no verdict rests on it");
    Ok(if summary.status == RunStatus::Finished { Exit::Done } else { Exit::Failed })
}

fn setup(args: &SetupArgs) -> CliResult {
    let by_extra = if args.extra == "gpu" { DeviceKind::Cuda } else { DeviceKind::Cpu };
    let setup = Setup {
        folder: &args.folder,
        repository: &args.repository,
        commit: args.commit.as_deref(),
        extra: &args.extra,
        python: args.python.as_deref(),
    };
    let stop = stop_baseline();
    let mut report = |report: Report<'_>| match report {
        Report::Doing(what) => tell!("{what}"),
        Report::Warning(text) => tell!("warning: {text}"),
        _ => {}
    };
    let ready = set_up(&setup, args.device.unwrap_or(by_extra), &|| stop.requested(), &mut report)?;
    let name = args.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let BaselineRun { final_val_bpb, elapsed_seconds, .. } = &ready.run;
    say!(
        "two steps: val bpb {} after {} seconds, start-up included",
        number(*final_val_bpb, 4),
        number(*elapsed_seconds, 1)
    );
    say!("into the spec:");
    say!("arms:");
    say!("  {name}: {{ engine: karpathy, commit: {}, checkout: {} }}", ready.checkout.commit, args.folder.display());
    if args.python.is_some() {
        say!("and to `nanochat run`: --python {name}={}", ready.python.display());
    }
    Ok(Exit::Done)
}

fn check_arms(args: &CheckArgs) -> CliResult {
    let opened = args.spec.look()?;
    let experiment = &opened.experiment;
    let places = args.places.places(experiment, true)?;
    let device = opened.plans().first().map_or(DeviceKind::Cpu, |plan: &RunPlan| plan.device);
    let mut exit = Exit::Done;
    for arm in experiment.arms.iter().filter(|arm| arm.plan.is_foreign()) {
        if args.format == Format::Text {
            say!("arm       {}", arm.plan.name);
        }
        let checkout = places.checkout(arm)?;
        let commit = arm.plan.commit.as_deref().unwrap_or_default();
        let found = check(&checkout, &places.python(arm, &checkout), commit, device).map_err(CliError::from)?;
        if print_check(&found, commit, args.format) != Exit::Done {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}
