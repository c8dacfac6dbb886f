//! `nanochat import`: starts a run from a checkpoint of the baseline.

use std::path::PathBuf;

use super::context::SpecArgs;
use super::{CliError, CliResult, Exit};
use crate::run::{Resources, adopt};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// The baseline's folder of model_….pt, optim_…_rank0.pt and meta_….json
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The step to continue from; the newest by default
    #[arg(long)]
    step: Option<u64>,
}

pub fn execute(args: Args) -> CliResult {
    let opened = args.spec.look()?;
    let plan = opened.one_plan()?;
    let folder = opened.root.experiment(&opened.experiment.name).and_then(|folder| folder.run(&plan.run_id));
    let folder = folder.map_err(CliError::failed)?;
    let mut resources = Resources::new(&opened.root);
    let step = adopt(plan, &folder, &mut resources, &args.from, args.step).map_err(CliError::failed)?;
    let spec = args.spec.spec.display();
    say!("{} continues from the baseline's step {step}: `nanochat run {spec}`", plan.run_id);
    Ok(Exit::Done)
}
