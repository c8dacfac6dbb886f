//! Plans as people read them.

use comfy_table::{CellAlignment, Table, presets};

use super::Format;
use crate::experiment::{self, Experiment};
use crate::plan::{Expansion, RunPlan};
use crate::spec::{Diagnostic, Severity};

/// What the author should know, on standard error.
pub fn warn(experiment: &Experiment) {
    let missing = experiment::missing_paths(experiment).into_iter();
    let missing = missing.map(|missing| Diagnostic { severity: Severity::Warning, ..missing });
    for warning in experiment.warnings.iter().cloned().chain(missing) {
        eprintln!("{:?}", miette::Report::new(warning));
    }
}

/// A table of the runs, and what they cost together.
pub fn print(experiment: &Experiment, expansion: &Expansion) {
    println!("{}: {}", experiment.name, count(expansion.runs.len(), "run"));
    if !experiment.description.is_empty() {
        println!("{}", experiment.description);
    }
    println!();
    println!("{}", table(expansion));
    println!();
    let runs = &expansion.runs;
    let flops: f64 = runs.iter().map(|run| run.total_flops as f64).sum();
    let tokens: u64 = runs.iter().map(|run| run.total_tokens).fold(0, u64::saturating_add);
    let seconds: Option<f64> = runs.iter().map(|run| run.estimate.seconds).sum();
    let time = seconds.map_or_else(|| "time unknown".to_owned(), |seconds| format!("about {}", duration(seconds)));
    let hardware = runs.first().map_or("", |run| run.hardware.as_str());
    println!("in all {} tokens, {flops:.2e} FLOPs, {time} on {hardware}", short(tokens as f64));
    for (axes, run_id) in &expansion.merged {
        let axes: Vec<String> = axes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        println!("the cell {} comes to the same plan as {run_id} and runs once", axes.join(" "));
    }
    if experiment.stand_in {
        println!("the profile stands in for the spec's own: this tests the shape, its speed is not comparable");
    }
}

fn table(expansion: &Expansion) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let headings = ["run", "layers × width", "parameters", "steps", "batch", "tokens", "FLOPs", "memory", "time"];
    table.set_header(headings);
    for run in &expansion.runs {
        table.add_row(row(run));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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
