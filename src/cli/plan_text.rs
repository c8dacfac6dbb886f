//! Plans as text.

use comfy_table::{CellAlignment, Table, presets};
use indicatif::DecimalBytes;

use nanochat_artifacts::QualityClaim;
use nanochat_experiment::{Expansion, Experiment};
use nanochat_plan::{Needs, Outlook, OutlookState, Power, RunPlan};

use super::output::plain_json;
use super::{CliError, Format};
use crate::run::{Opened, duration};

/// Prints a spec's warnings to standard error.
pub fn warn(experiment: &Experiment) {
    for warning in &experiment.warnings {
        super::output::report(&miette::Report::new(warning.clone()));
    }
}

/// Prints a table of the runs, and their total cost.
pub fn print(opened: &Opened, outlook: &[Outlook], power: Option<&Power>, needs: &Needs) {
    let Opened { experiment, expansion, .. } = opened;
    let plural = if expansion.runs.len() == 1 { "" } else { "s" };
    say!("{}: {} run{plural}", experiment.name, expansion.runs.len());
    if !experiment.description.is_empty() {
        say!("{}", experiment.description);
    }
    say!();
    super::output::verdict_lines(&table(expansion, outlook, needs).to_string());
    reasons(outlook).iter().for_each(|reason| say!("{reason}"));
    say!();
    let runs = &expansion.runs;
    let flops: f64 = runs.iter().map(|run| run.total_flops as f64).sum();
    let tokens: u64 = runs.iter().map(|run| run.total_tokens).fold(0, u64::saturating_add);
    let hardware = runs.first().map_or("", |run| run.hardware.as_str());
    let seconds: Option<f64> = runs.iter().map(|run| needs.seconds(run)).sum();
    let time = seconds.map_or_else(|| "an unknown time".to_owned(), |seconds| format!("about {}", duration(seconds)));
    say!("total: {} tokens, {flops:.2e} FLOPs, {time} on {hardware}", short(tokens as f64));
    print_needs(opened, needs);
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
        None => super::output::say_sentence(
            "no noise of this configuration is recorded, so nobody knows which difference the seeds can tell; `nanochat noise SPEC` measures it",
        ),
    }
}

/// Prints rate, evaluations, disk, and what has to be known or done first.
fn print_needs(opened: &Opened, needs: &Needs) {
    let profile = opened.experiment.profile();
    for rate in &needs.rates {
        let from = match &rate.measured_on {
            Some(run) => format!("as measured in results/{run}"),
            None if profile.is_some_and(|profile| profile.efficiency >= 1.0) => "as its `hardware` states".to_owned(),
            None => format!(
                "{:.0}% of the profile's peak, which is assumed: no run of this engine on {} in {} is recorded",
                100.0 * profile.map_or(0.0, |profile| profile.efficiency),
                profile.map_or("it", |profile| &profile.name),
                rate.dtype
            ),
        };
        let per_second = match rate.tflops {
            tflops if tflops < 1.0 => format!("{:.0} GFLOP/s", tflops * 1e3),
            tflops => format!("{tflops:.0} TFLOP/s"),
        };
        super::output::say_sentence(&format!("rate: {per_second} in {}, {from}", rate.dtype));
    }
    let core = match needs.core_evaluations {
        0 => String::new(),
        times => format!(", {times} of CORE"),
    };
    let Needs { evaluations, evaluation_tokens, checkpoint_bytes, .. } = needs;
    say!("evaluations: {evaluations} of bits per byte on {} tokens in all{core}", short(*evaluation_tokens as f64));
    let data = needs.data_bytes.map(|bytes| format!("{} of data, ", DecimalBytes(bytes))).unwrap_or_default();
    say!("disk: {data}{} of checkpoints", DecimalBytes(*checkpoint_bytes));
    needs.remarks.iter().for_each(|remark| super::output::say_sentence(&format!("note: {remark}")));
}

fn table(expansion: &Expansion, outlook: &[Outlook], needs: &Needs) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let headings =
        ["run", "layers × width", "parameters", "steps", "batch", "tokens", "FLOPs", "memory", "time", "on disk"];
    table.set_header(headings);
    for (run, outlook) in expansion.runs.iter().zip(outlook) {
        table.add_row(row(run, needs).into_iter().chain([on_disk(outlook).to_owned()]));
    }
    super::terminal::fit(&mut table, &["FLOPs", "tokens", "batch", "layers × width", "memory", "parameters"]);
    for column in table.column_iter_mut().skip(2).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn on_disk(outlook: &Outlook) -> &'static str {
    match outlook.state {
        OutlookState::Done => "done",
        OutlookState::New => "new",
        OutlookState::Changed => "changed",
        OutlookState::Failed => "failed",
        OutlookState::Interrupted => "interrupted",
        OutlookState::Running => "running",
    }
}

/// Why runs are not new, a line a reason with the number of runs that have it.
fn reasons(outlook: &[Outlook]) -> Vec<String> {
    let mut reasons: Vec<(&'static str, &str, Vec<&str>)> = Vec::new();
    for one in outlook.iter().filter(|one| one.state != OutlookState::New) {
        let state = on_disk(one);
        match reasons.iter_mut().find(|(known, reason, _)| (*known, *reason) == (state, one.reason.as_str())) {
            Some((.., runs)) => runs.push(&one.run_id),
            None => reasons.push((state, &one.reason, vec![&one.run_id])),
        }
    }
    let line = |(state, reason, runs): (&str, &str, Vec<&str>)| match runs.as_slice() {
        [run] => format!("{state}: {run}: {reason}"),
        runs => format!("{state}: {} runs: {reason}", runs.len()),
    };
    reasons.into_iter().map(line).collect()
}

/// Prints the smallest difference that the planned seeds can detect; a smaller tolerance is a warning.
fn print_power(power: &Power) {
    match power.smallest_difference {
        Some(_) if power.is_enough == Some(false) => tell!("warning: {}", power.sentence),
        _ => super::output::say_sentence(&power.sentence),
    }
}

fn row(run: &RunPlan, needs: &Needs) -> [String; 9] {
    [
        run.run_id.clone(),
        format!("{} × {}", run.model.n_layer, run.model.n_embd),
        short(run.parameters.total as f64),
        run.num_iterations.to_string(),
        short(run.total_batch_size as f64),
        short(run.total_tokens as f64),
        format!("{:.2e}", run.total_flops as f64),
        format!("{:.2} GiB", needs.memory_gib(run)),
        needs.seconds(run).map_or_else(|| "?".to_owned(), duration),
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
