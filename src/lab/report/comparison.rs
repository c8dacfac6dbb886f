//! The comparison of two sets of results, as a Markdown comment and as a page.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::context::{IntervalView, Limits, intervals};
use super::plot::{self, Plot};
use super::{Rendered, ReportError, render_both, templates};
use crate::scorecard::compare::{ComparedCell, Comparison};
use crate::scorecard::{SweepChart, SweepLine, SweepPoint};
use nanochat_artifacts::{Judgement, Verdict};
use nanochat_plan::Change;

/// What the templates `compare.md` and `compare.html` are given.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ComparisonContext {
    /// The earlier side.
    pub before: String,
    /// The later side.
    pub after: String,
    /// What changed in quality, in one sentence.
    pub answer: Option<String>,
    /// Changes of rules and inputs, and removed results, that a person must approve; each in one phrase.
    pub approvals: Vec<String>,
    /// A person has approved them.
    pub approved: bool,
    /// The worst verdict on quality.
    pub quality: Verdict,
    /// The worst verdict on speed.
    pub speed: Verdict,
    /// Experiments of which both sides hold the same recordings.
    pub untouched: Vec<String>,
    /// Changes without a verdict, and results that are stale against their spec.
    pub unjudged: Vec<String>,
    /// Results that other code made than there is now.
    pub other_code: Vec<String>,
    /// One entry a matrix cell that both sides have, of experiments that somebody touched.
    pub rows: Vec<ComparisonRow>,
    /// Validation curves of both sides over each other, cell by cell.
    pub plots: Vec<Plot>,
    /// Experiments, and runs as `experiment/run`, that only the later side has.
    pub appeared: Vec<String>,
    /// Those that only the earlier side has.
    pub vanished: Vec<String>,
    /// How much a short report prints.
    pub limits: Limits,
    /// Version of this program.
    pub version: String,
}

/// One matrix cell on both sides.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ComparisonRow {
    /// The experiment.
    pub experiment: String,
    /// What its axes say.
    pub label: String,
    /// What changed in the plan: keys with both values.
    pub changes: Vec<String>,
    /// Whether the weights are the same bit for bit.
    pub identical: bool,
    /// Quality after against before.
    pub quality: Judgement,
    /// Speed after against before.
    pub speed: Judgement,
    /// The quality interval as a drawing.
    pub quality_interval: Option<IntervalView>,
    /// The speed interval as a drawing.
    pub speed_interval: Option<IntervalView>,
}

/// Renders a comparison in both forms.
///
/// # Errors
/// As [`super::render`].
pub fn render_comparison(comparison: &Comparison, overrides: Option<&Path>) -> Result<Rendered, ReportError> {
    let names = [templates::COMPARE_HTML, templates::COMPARE_MARKDOWN];
    render_both(overrides, names, context(comparison), |context, limits| context.limits = limits)
}

fn changed(change: &Change) -> String {
    format!("{} {} → {}", change.key, change.before, change.now)
}

/// Most cells whose curves are drawn.
const DRAWN_CELLS: usize = 12;

/// Both sides' validation curves of a cell.
fn overlaid(experiment: &str, cell: &ComparedCell) -> Option<Plot> {
    let curves = cell.curves.as_ref()?;
    let line = |(colour, name, values): (usize, &str, &Vec<(u64, f64)>)| SweepLine {
        name: name.to_string(),
        colour,
        points: values.iter().map(|(x, y)| SweepPoint { x: *x as f64, y: *y, interval: None }).collect(),
        ..SweepLine::default()
    };
    plot::lay_out_sweep(&SweepChart {
        title: format!("{experiment}, {}", cell.label),
        x_label: "tokens".into(),
        log_x: false,
        x_values: Vec::new(),
        lines: [(0, "before", &curves.before), (1, "after", &curves.after)].map(line).to_vec(),
        note: String::new(),
    })
}

fn context(comparison: &Comparison) -> ComparisonContext {
    let touched = || comparison.experiments.iter().filter(|one| !comparison.untouched.contains(&one.name));
    let unjudged = touched().filter_map(|one| Some(format!("{}: {}", one.name, one.unjudged.as_ref()?)));
    let stale = comparison.stale.iter().map(|one| format!("{}: {}", one.experiment, one.reason));
    let unjudged = unjudged.chain(stale).collect();
    let rows = touched().flat_map(|experiment| {
        experiment.cells.iter().map(|cell| ComparisonRow {
            experiment: experiment.name.clone(),
            label: cell.label.clone(),
            changes: cell.changes.iter().map(changed).collect(),
            identical: cell.identical,
            quality: cell.quality.clone(),
            speed: cell.speed.clone(),
            quality_interval: None,
            speed_interval: None,
        })
    });
    let mut rows: Vec<ComparisonRow> = rows.collect();
    let quality = intervals(&rows.iter().map(|row| &row.quality).collect::<Vec<_>>());
    let speed = intervals(&rows.iter().map(|row| &row.speed).collect::<Vec<_>>());
    for (row, (quality, speed)) in rows.iter_mut().zip(quality.into_iter().zip(speed)) {
        (row.quality_interval, row.speed_interval) = (quality, speed);
    }
    let named = |get: fn(&crate::scorecard::compare::ComparedExperiment) -> &Vec<String>, whole: &[String]| {
        let runs =
            comparison.experiments.iter().flat_map(|one| get(one).iter().map(|run| format!("{}/{run}", one.name)));
        whole.iter().cloned().chain(runs).collect::<Vec<_>>()
    };
    ComparisonContext {
        before: comparison.before.clone(),
        after: comparison.after.clone(),
        answer: comparison.answer.clone(),
        approvals: comparison.approvals.iter().map(ToString::to_string).collect(),
        approved: comparison.approved,
        quality: comparison.quality,
        speed: comparison.speed,
        untouched: comparison.untouched.clone(),
        unjudged,
        other_code: comparison.other_code.iter().map(|one| format!("{}: {}", one.experiment, one.reason)).collect(),
        rows,
        plots: touched()
            .flat_map(|one| one.cells.iter().filter_map(|cell| overlaid(&one.name, cell)))
            .take(DRAWN_CELLS)
            .collect(),
        appeared: named(|one| &one.appeared, &comparison.appeared),
        vanished: named(|one| &one.vanished, &comparison.vanished),
        limits: Limits::LADDER[0],
        version: env!("CARGO_PKG_VERSION").to_string(),
    }
}
