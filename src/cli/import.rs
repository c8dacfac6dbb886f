//! `nanochat import`: a checkpoint of the baseline's as the beginning of a run.

use std::path::PathBuf;

use super::plan::{Overlay, select};
use super::{CliError, CliResult, Exit};
use crate::run::{Resources, adopt};
use nanochat_experiment as experiment;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment spec: of the same shape, batch and data as the baseline's run, and of one run in all.
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only the cells whose axis has this value.
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// The baseline's folder of model_….pt, optim_…_rank0.pt and meta_….json.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The step to go on from; the newest by default.
    #[arg(long)]
    step: Option<u64>,
}

pub fn execute(args: Args) -> CliResult {
    let experiment = experiment::load(&args.spec, &args.overlay.options()).map_err(CliError::invalid)?;
    let cells = select(&experiment, &args.only)?;
    let plans = experiment::expand_cells(&experiment, cells).map_err(|error| CliError::usage(error, None))?;
    let [plan] = plans.runs.as_slice() else {
        let told = format!("the spec has {} runs, and a checkpoint begins one", plans.runs.len());
        let help = "name one with --only AXIS=VALUE and --set seed=N, and set reproducibility.repeats to 0";
        return Err(CliError::usage(told, Some(help)));
    };
    let root = super::project();
    let failed = |error: &dyn std::fmt::Display| CliError::failed(miette::miette!("{error}"));
    let folder = root.experiment(&experiment.name).and_then(|folder| folder.run(&plan.run_id));
    let folder = folder.map_err(|error| failed(&error))?;
    let mut resources = Resources::new(&root);
    let step = adopt(plan, &folder, &mut resources, &args.from, args.step).map_err(|error| failed(&error))?;
    println!("{} goes on from the baseline's step {step}: `nanochat run {}`", plan.run_id, args.spec.display());
    Ok(Exit::Done)
}
