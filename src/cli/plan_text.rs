//! Plans as people read them.

use comfy_table::{CellAlignment, Table, presets};

use super::Format;
use nanochat_experiment::config::{Diagnostic, Severity};
use nanochat_experiment::{self as experiment, Expansion, Experiment};
use nanochat_plan::{Outlook, OutlookState, Power, RunPlan};

/// What the author should know, on standard error.
pub fn warn(experiment: &Experiment) {
    let missing = experiment::missing_paths(experiment).into_iter();
    let missing = missing.map(|missing| Diagnostic { severity: Severity::Warning, ..missing });
    for warning in experiment.warnings.iter().cloned().chain(missing) {
        eprintln!("{:?}", miette::Report::new(warning));
    }
}

/// A table of the runs, and what they cost together.
pub fn print(experiment: &Experiment, expansion: &Expansion, outlook: &[Outlook], power: Option<&Power>) {
    println!("{}: {}", experiment.name, count(expansion.runs.len(), "run"));
    if !experiment.description.is_empty() {
        println!("{}", experiment.description);
    }
    println!();
    println!("{}", table(expansion, outlook));
    println!();
    let runs = &expansion.runs;
    let flops: f64 = runs.iter().map(|run| run.total_flops as f64).sum();
    let tokens: u64 = runs.iter().map(|run| run.total_tokens).fold(0, u64::saturating_add);
    let hardware = runs.first().map_or("", |run| run.hardware.as_str());
    println!("in all {} tokens, {flops:.2e} FLOPs, {} on {hardware}", short(tokens as f64), time(runs));
    for (axes, run_id) in &expansion.merged {
        let axes: Vec<String> = axes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        println!("the cell {} comes to the same plan as {run_id} and runs once", axes.join(" "));
    }
    if experiment.stand_in {
        println!("the profile stands in for the spec's own: this tests the shape, its speed is not comparable");
    }
    power.into_iter().for_each(print_power);
}

/// What runs are expected to cost on their profile, in a clause; nothing of no runs.
pub fn estimate(runs: &[RunPlan], profile: &str) -> Option<String> {
    let memory = runs.iter().map(|run| run.estimate.memory_gib).reduce(f64::max)?;
    Some(format!("on {profile} this is estimated to take {memory:.1} GiB a device and {}", time(runs)))
}

fn time(runs: &[RunPlan]) -> String {
    let seconds: Option<f64> = runs.iter().map(|run| run.estimate.seconds).sum();
    seconds.map_or_else(|| "an unknown time".to_owned(), |seconds| format!("about {}", duration(seconds)))
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

/// What the planned seeds can tell; a tolerance that they can't test is a warning.
fn print_power(power: &Power) {
    match power.smallest_difference {
        Some(_) if power.is_enough == Some(false) => eprintln!("warning: {}", power.sentence),
        _ => println!("{}", power.sentence),
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

/// Each value with the layer and place that set it.
pub fn explain(experiment: &Experiment, format: Format) {
    let explained = experiment.explain();
    if format == Format::Json {
        let text = serde_json::to_string_pretty(&explained).unwrap_or_default();
        return println!("{text}");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["key", "value", "layer", "place"]);
    for value in explained {
        table.add_row([value.key, value.value.to_string(), value.layer, value.place]);
    }
    println!("{table}");
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
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

/// Time as people say it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "< 1 s".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}
