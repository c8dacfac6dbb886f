//! Plans as text.

use comfy_table::{CellAlignment, Table, presets};

use nanochat_artifacts::QualityClaim;
use nanochat_experiment::{Expansion, Experiment};
use nanochat_plan::{Outlook, OutlookState, Power, RunPlan};

use super::output::plain_json;
use super::{CliError, Format};
use crate::run::{Opened, duration, total_time};

/// Prints a spec's warnings to standard error.
pub fn warn(experiment: &Experiment) {
    for warning in &experiment.warnings {
        super::output::report(&miette::Report::new(warning.clone()));
    }
}

/// Prints a table of the runs, and their total cost.
pub fn print(opened: &Opened, outlook: &[Outlook], power: Option<&Power>) {
    let Opened { experiment, expansion, .. } = opened;
    let plural = if expansion.runs.len() == 1 { "" } else { "s" };
    say!("{}: {} run{plural}", experiment.name, expansion.runs.len());
    if !experiment.description.is_empty() {
        say!("{}", experiment.description);
    }
    say!();
    say_lines!("{}", table(expansion, outlook));
    say!();
    let runs = &expansion.runs;
    let flops: f64 = runs.iter().map(|run| run.total_flops as f64).sum();
    let tokens: u64 = runs.iter().map(|run| run.total_tokens).fold(0, u64::saturating_add);
    let hardware = runs.first().map_or("", |run| run.hardware.as_str());
    say!("total: {} tokens, {flops:.2e} FLOPs, {} on {hardware}", short(tokens as f64), total_time(runs));
    for (axes, run_id) in &expansion.merged {
        let axes: Vec<String> = axes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        say!("the cell {} has the same plan as {run_id} and runs once", axes.join(" "));
    }
    if experiment.stand_in {
        say!("the profile replaces the spec's own: the speed of these runs is not comparable");
    }
    match power {
        Some(power) => print_power(power),
        None if experiment.quality.claim == Some(QualityClaim::Off) => {}
        None => say!(
            "no noise of this configuration is recorded, so nobody knows which difference the seeds can tell; `nanochat noise SPEC` measures it"
        ),
    }
}

fn table(expansion: &Expansion, outlook: &[Outlook]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let headings =
        ["run", "layers × width", "parameters", "steps", "batch", "tokens", "FLOPs", "memory", "time", "on disk"];
    table.set_header(headings);
    for (run, outlook) in expansion.runs.iter().zip(outlook) {
        table.add_row(row(run).into_iter().chain([on_disk(outlook)]));
    }
    for column in table.column_iter_mut().skip(2).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn on_disk(outlook: &Outlook) -> String {
    match outlook.state {
        OutlookState::Done => format!("done, {}", outlook.reason),
        OutlookState::New => "new".to_owned(),
        OutlookState::Changed => format!("changed: {}", outlook.reason),
        OutlookState::Failed => format!("failed before: {}", outlook.reason),
        OutlookState::Interrupted => format!("interrupted, {}", outlook.reason),
    }
}

/// Prints the smallest difference that the planned seeds can detect; a smaller tolerance is a warning.
fn print_power(power: &Power) {
    match power.smallest_difference {
        Some(_) if power.is_enough == Some(false) => tell!("warning: {}", power.sentence),
        _ => say!("{}", power.sentence),
    }
}

fn row(run: &RunPlan) -> [String; 9] {
    [
        run.run_id.clone(),
        format!("{} × {}", run.model.n_layer, run.model.n_embd),
        short(run.parameters.total as f64),
        run.num_iterations.to_string(),
        short(run.total_batch_size as f64),
        short(run.total_tokens as f64),
        format!("{:.2e}", run.total_flops as f64),
        format!("{:.2} GiB", run.estimate.memory_gib),
        run.estimate.seconds.map_or_else(|| "?".to_owned(), duration),
    ]
}

/// Prints each value with the layer and place that set it.
pub fn explain(experiment: &Experiment, format: Format) -> Result<(), CliError> {
    let explained = experiment.explain();
    if format == Format::Json {
        return plain_json(&explained);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["key", "value", "layer", "place"]);
    for value in explained {
        table.add_row([value.key, value.value.to_string(), value.layer, value.place]);
    }
    say_lines!("{table}");
    Ok(())
}

/// Three digits and a unit.
fn short(value: f64) -> String {
    let (scaled, unit) = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(size, _)| value >= *size)
        .map_or((value, ""), |(size, unit)| (value / size, unit));
    match scaled {
        scaled if unit.is_empty() => format!("{scaled}"),
        scaled if scaled < 10.0 => format!("{scaled:.2}{unit}"),
        scaled if scaled < 100.0 => format!("{scaled:.1}{unit}"),
        scaled => format!("{scaled:.0}{unit}"),
    }
}
