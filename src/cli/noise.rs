//! `nanochat noise`: runs one arm against itself, and records the noise between seeds.

use nanochat_artifacts::NoiseEntry;

use super::context::SpecArgs;
use super::output::{json, table};
use super::progress::Progress;
use super::signals::stop_runs;
use super::{CliError, CliResult, Exit, Format};
use crate::run::{MachineCheck, Noise, Options, Others, Scope, record_noise, run_experiment};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// How many seeds to run, counted up from the spec's first one
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=1000))]
    seeds: u64,
    /// Start every run over, even if it is finished
    #[arg(long)]
    force: bool,
    /// Run even if the machine doesn't match the profile; the noise of speed is then not recorded
    #[arg(long)]
    allow_hardware_mismatch: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    let machine = MachineCheck::ProfileAndMemory { allow_mismatch: args.allow_hardware_mismatch };
    let opened = args.spec.open(Scope::Noise { seeds: args.seeds }, machine)?;
    opened.make_thread_pool()?;
    let stop = stop_runs();
    let options = Options { force: args.force, hardware_matches: opened.hardware_matches, ..Options::default() };
    let mut progress = Progress::default();
    let outcome = run_experiment(&opened, options, &stop, Others::default(), &mut |event| progress.show(event));
    let outcome = outcome.map_err(CliError::failed)?;
    if outcome.interrupted {
        tell!("stopped; the same command continues");
        return Ok(Exit::Interrupted);
    }
    let noise = record_noise(&opened, &outcome).map_err(CliError::failed)?;
    match args.format {
        Format::Json => json(&serde_json::json!({
            "noise": noise.record,
            "against_itself": { "quality": noise.quality, "speed": noise.speed },
        }))?,
        Format::Text => print(&noise),
    }
    Ok(Exit::Done)
}

fn print(noise: &Noise) {
    let mut rows = table(&["metric", "runs", "mean", "standard deviation", "95% interval", "of the mean"]);
    for entry in &noise.record.entries {
        let NoiseEntry { metric, standard_deviation, interval, mean, runs, .. } = entry;
        let decimals = if metric == "tokens_per_second" { 1 } else { 6 };
        let number = |value: f64| format!("{value:.decimals$}");
        rows.add_row([
            metric.clone(),
            runs.to_string(),
            mean.map_or_else(|| "–".into(), number),
            number(*standard_deviation),
            interval.map_or_else(|| "–".into(), |(low, high)| format!("{} … {}", number(low), number(high))),
            mean.map_or_else(|| "–".into(), |mean| format!("{:.3}%", 100.0 * standard_deviation / mean.abs())),
        ]);
    }
    say_lines!("\n{rows}\n\nEvery second seed against the others:");
    for (name, judgement) in [("quality", &noise.quality), ("speed", &noise.speed)] {
        say!("{name:<8} {:<13} {}", super::run::label(judgement), judgement.reason);
    }
    say_lines!("\nnoise: {}", noise.path.display());
}
