//! `nanochat plan`: what an experiment would run, and what it would cost.

use nanochat_experiment as experiment;
use nanochat_lab::live::{self, ExperimentLive};
use nanochat_plan::PlanSet;

use super::context::SpecArgs;
use super::output::json_text;
use super::plan_text;
use super::{CliError, CliResult, Exit, Format};
use crate::{baseline, run};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Show the layer and place that set each value
    #[arg(long, conflicts_with = "resolved")]
    explain: bool,
    /// Print the resolved spec as YAML; it plans to the same hashes
    #[arg(long)]
    resolved: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    if args.explain || args.resolved {
        let experiment = experiment::load(&args.spec.spec, &args.spec.overlay.options()).map_err(CliError::invalid)?;
        match args.explain {
            true => plan_text::explain(&experiment, args.format)?,
            false => super::output::text(&super::outside::lines(&experiment.resolved_yaml())),
        }
        return Ok(Exit::Done);
    }
    let opened = args.spec.look()?;
    plan_text::warn(&opened.experiment);
    let folder = opened.root.experiment(&opened.experiment.name).map_err(CliError::invalid)?;
    let mut inputs = run::RecordedInputs::new(&opened.root);
    let outlook = run::outlook(opened.plans(), &folder, &mut inputs).map_err(CliError::invalid)?;
    let power = run::power(&opened.experiment, opened.plans(), &opened.root).map_err(CliError::invalid)?;
    let mut needs = run::needs(&opened);
    needs.remarks.extend(opened.plans().first().and_then(baseline::on_several_devices));
    match args.format {
        Format::Text => {
            plan_text::print(&opened, &outlook, power.as_ref(), &needs);
            // An experiment that was never begun has no record.
            if let Some(live) = live::of_experiment(&folder).ok().filter(ExperimentLive::is_open) {
                say!("{}", super::watch::headline(&live));
            }
        }
        Format::Json => {
            let set = PlanSet::new(&opened.experiment.name, opened.expansion.runs, outlook, power);
            super::output::text(&json_text(&PlanSet { needs: Some(needs), ..set })?);
        }
    }
    Ok(Exit::Done)
}
