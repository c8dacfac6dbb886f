//! The command line: clap types, printing, exit codes. It holds no logic; every command calls plain functions of the library.

// First, since its macros print for all others.
#[macro_use]
mod output;

mod annotations;
mod arm;
mod arm_places;
mod bar;
mod baseline;
mod baseline_progress;
mod bench;
mod chat;
mod compare;
mod completions;
mod context;
mod data;
mod device;
mod doctor;
mod download;
mod eval;
mod exit;
mod export;
mod generate;
mod import;
mod init;
mod input;
mod leaderboard;
mod list;
mod merge;
mod metrics;
mod names;
mod noise;
mod outside;
mod parity;
mod plan;
mod plan_text;
mod progress;
mod prune;
mod report;
mod run;
mod schema;
mod signals;
mod site;
mod slurm;
mod terminal;
mod tokenizer;
mod validate;
mod verdict_text;
mod verify;
mod watch;

pub use context::Overlay;
pub use exit::{CliError, CliResult, Exit};
pub use output::Format;

use clap::{Parser, Subcommand};

/// Test whether a pretraining change is better: specs in, scorecards and reports out
#[derive(Debug, Parser)]
#[command(name = "nanochat", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first spec for this machine: what is compared, on which data, in how much time
    Init(init::Args),
    /// Run an experiment: train, evaluate, judge, report
    Run(run::Args),
    /// Show what an experiment would run and cost
    Plan(plan::Args),
    /// Check specs and result documents against their schemas and rules
    Validate(validate::Args),
    /// Recompute every scorecard and report from the raw artifacts
    Verify(verify::Args),
    /// Remove the folders of runs that no spec plans any more
    Prune(prune::Args),
    /// Write or check the JSON schemas
    Schema(schema::Args),
    /// Render reports from a scorecard
    Report(report::Args),
    /// Compare two result folders or two git revisions
    Compare(compare::Args),
    /// List experiments and runs
    List(list::Args),
    /// Write steps and evaluations for other programs: CSV, JSON lines, TensorBoard
    Metrics(metrics::Args),
    /// Write static pages of all experiments, with figures and verdicts by commit
    Site(site::Args),
    /// Follow runs as they go on, on a terminal or in the browser
    Watch(watch::Args),
    /// End the jobs of an experiment on a cluster
    Cancel(slurm::CancelArgs),
    /// Join the results of shards, then judge and report them
    Merge(merge::Args),
    /// Write results/LEADERBOARD.md from all recorded results
    Leaderboard(leaderboard::Args),
    /// Run one arm against itself and record its noise, for plans and verdicts
    Noise(Box<noise::Args>),
    /// Show this machine and the hardware profiles that it matches
    Doctor(doctor::Args),
    /// Check, run and record the baseline: karpathy/nanochat, unmodified
    Baseline(baseline::Args),
    /// Set up, check and run the arms of a spec: checkouts of karpathy/nanochat and its forks
    Arm(Box<arm::Args>),
    /// Measure this engine: training by phase, kernels, tokenizer, data
    Bench(bench::Args),
    /// Compare this engine with reference figures of the baseline
    Parity(parity::Args),
    /// Inspect and write training data
    Data(data::Args),
    /// Train, convert and check tokenizers
    Tokenizer(tokenizer::Args),
    /// Evaluate a checkpoint
    Eval(eval::Args),
    /// Generate text from a checkpoint
    Generate(generate::Args),
    /// Talk with a checkpoint
    Chat(chat::Args),
    /// Start a run from a checkpoint of the baseline
    Import(import::Args),
    /// Write a trained model for other programs: safetensors, ONNX, or the baseline's layout
    Export(export::Args),
    /// Print what makes a shell complete commands, experiments and axes
    Completions(completions::Args),
    /// Write the manual pages
    Man(completions::ManArgs),
}

impl Command {
    /// Whether it reads or writes the results, specs or cache of the project in the working folder.
    fn uses_results(&self) -> bool {
        !matches!(
            self,
            Self::Init(_)
                | Self::Schema(_)
                | Self::Doctor(_)
                | Self::Parity(_)
                | Self::Eval(_)
                | Self::Generate(_)
                | Self::Chat(_)
                | Self::Export(_)
                | Self::Completions(_)
                | Self::Man(_)
        )
    }
}

/// Whether an argument says which project is meant.
fn names_a_project(argument: &std::ffi::OsStr) -> bool {
    let argument = argument.to_string_lossy();
    argument == "--project" || argument.starts_with("--project=")
}

/// Parses the arguments, runs the command, prints its error, and returns the exit code.
pub fn main() -> std::process::ExitCode {
    // This is the only hook, so setting it can't fail.
    let _ = miette::set_hook(Box::new(|_| Box::new(exit::report_handler())));
    // A shell that asks for completions sets the variable; the answer ends the process.
    clap_complete::CompleteEnv::with_factory(<Cli as clap::CommandFactory>::command)
        .var(completions::VARIABLE)
        .complete();
    let cli = Cli::parse();
    if cli.command.uses_results() && !std::env::args_os().any(|argument| names_a_project(&argument)) {
        context::warn_of_project_above();
    }
    let result = match cli.command {
        Command::Init(args) => init::execute(args),
        Command::Run(args) => run::execute(args),
        Command::Plan(args) => plan::execute(args),
        Command::Validate(args) => validate::execute(args),
        Command::Verify(args) => verify::execute(args),
        Command::Prune(args) => prune::execute(args),
        Command::Schema(args) => schema::execute(args),
        Command::Report(args) => report::execute(args),
        Command::Compare(args) => compare::execute(args),
        Command::List(args) => list::execute(args),
        Command::Metrics(args) => metrics::execute(args),
        Command::Site(args) => site::execute(args),
        Command::Watch(args) => watch::execute(args),
        Command::Cancel(args) => slurm::execute_cancel(args),
        Command::Merge(args) => merge::execute(args),
        Command::Leaderboard(args) => leaderboard::execute(args),
        Command::Noise(args) => noise::execute(*args),
        Command::Doctor(args) => doctor::execute(args),
        Command::Baseline(args) => baseline::execute(args),
        Command::Arm(args) => arm::execute(*args),
        Command::Bench(args) => bench::execute(args),
        Command::Parity(args) => parity::execute(args),
        Command::Data(args) => data::execute(args),
        Command::Tokenizer(args) => tokenizer::execute(args),
        Command::Eval(args) => eval::execute(args),
        Command::Generate(args) => generate::execute(args),
        Command::Chat(args) => chat::execute(args),
        Command::Import(args) => import::execute(args),
        Command::Export(args) => export::execute(args),
        Command::Completions(args) => completions::execute(args),
        Command::Man(args) => completions::man(args),
    };
    let exit = result.unwrap_or_else(|error| {
        error.print();
        error.exit()
    });
    match output::failure() {
        Some(reason) if exit == Exit::Done => {
            tell!("can't write to standard output: {reason}");
            Exit::Failed.into()
        }
        _ => exit.into(),
    }
}
