//! The data of the templates, built from the documents. The template engine cleans and escapes all of it.

use schemars::JsonSchema;
use serde::Serialize;

use super::differences::{Differences, differences};
use super::effort::{Effort, effort};
use super::named_arms::{NamedArm, named_arms};
use super::plot::{self, Plot};
use super::provenance::{self, Arm, Provenance};
use super::{ReportError, Sources};
use crate::scorecard::{self, Curve, DRAWN_RUNS, HeatMap};
use nanochat_artifacts::{
    CellSummary, Judgement, Ranking, RunDocuments, RunStatus, SpeedBlock, SpeedComparison, Verdict,
};

/// Everything that a template can print.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Context {
    /// Name of the experiment.
    pub experiment: String,
    /// What it is about.
    pub description: String,
    /// Rules of the verdicts.
    pub ruleset: String,
    /// The answer to the spec's question, from rules v2 on.
    pub answer: Option<String>,
    /// The cells by their quality, from rules v2 on.
    pub rankings: Vec<Ranking>,
    /// Quality, speed and reproducibility over all cells.
    pub verdicts: Vec<VerdictView>,
    /// Every matrix cell.
    pub cells: Vec<CellSummary>,
    /// One entry a cell, in the same order: its quality and speed intervals as drawings.
    pub cell_intervals: Vec<CellIntervals>,
    /// Speed against each variant of the baseline, cell by cell, the fastest variant first.
    pub timed: Vec<TimedView>,
    /// Runs of both arms, back to back.
    pub blocks: Vec<BlockView>,
    /// Every run that has a plan.
    pub runs: Vec<RunView>,
    /// Number of runs planned.
    pub planned: u64,
    /// Number of runs finished.
    pub finished: u64,
    /// What a sweep shows: by each axis, by FLOPs, and as means over seeds.
    pub sweeps: Vec<Plot>,
    /// The metric over two axes.
    pub heat: Option<HeatView>,
    /// Line charts.
    pub plots: Vec<Plot>,
    /// The curve for Markdown.
    pub curve: Option<Curve>,
    /// Baseline and candidate side by side.
    pub arms: Vec<Arm>,
    /// The arms that the spec names.
    pub named_arms: Vec<NamedArm>,
    /// What the cells differ in, the best beside the worst.
    pub differences: Option<Differences>,
    /// When it ran, by which command, and what it took.
    pub effort: Effort,
    /// Where it all comes from.
    pub provenance: Provenance,
    /// How much a short report prints.
    pub limits: Limits,
    /// Version of this program.
    pub version: String,
}

/// One of the three verdicts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct VerdictView {
    /// `Quality`, `Speed` or `Reproducibility`.
    pub name: &'static str,
    /// The verdict and its figures.
    pub judgement: Judgement,
    /// Its interval as a drawing.
    pub interval: Option<IntervalView>,
}

/// The metric over two axes, with a shade for each figure.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HeatView {
    /// Axis of the rows.
    pub row_axis: String,
    /// Axis of the columns.
    pub column_axis: String,
    /// Values of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<HeatRow>,
}

/// A row of such a map.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HeatRow {
    /// Value of the row's axis.
    pub label: String,
    /// The figure in each column, and how good it is: 0 for the worst and 100 for the best of the map.
    pub figures: Vec<Option<(f64, f64)>>,
}

/// The intervals of a cell as drawings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CellIntervals {
    /// Of the quality difference.
    pub quality: Option<IntervalView>,
    /// Of the speed ratio.
    pub speed: Option<IntervalView>,
}

/// A cell against one variant of the baseline.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TimedView {
    /// Label of the cell.
    pub cell: String,
    /// Number of the cell: its colour.
    pub colour: usize,
    /// The comparison, without its blocks' figures.
    pub comparison: SpeedComparison,
    /// Its interval as a drawing.
    pub interval: Option<IntervalView>,
    /// Largest peak memory of the cell's runs in bytes.
    pub candidate_peak_rss_bytes: Option<u64>,
}

/// One run of each arm, back to back.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BlockView {
    /// Label of the cell.
    pub cell: String,
    /// The baseline's variant.
    pub variant: String,
    /// The figures.
    pub block: SpeedBlock,
}

/// An interval on a line, in percent of its width.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IntervalView {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Point estimate.
    pub value: f64,
    /// No difference (0) or equal speed (1).
    pub neutral: f64,
    /// The bound.
    pub bound: f64,
    /// What the drawing says in words.
    pub title: String,
}

/// One run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunView {
    /// Run id.
    pub id: String,
    /// Label of its cell.
    pub cell: String,
    /// Number of its cell, from 0: its colour.
    pub colour: usize,
    /// Seed.
    pub seed: u64,
    /// Which repeat, 0 the first.
    pub repeat: u64,
    /// `finished`, `interrupted`, `failed`, or `planned`.
    pub status: &'static str,
    /// Why it isn't finished.
    pub reason: Option<String>,
    /// Steps done.
    pub steps: u64,
    /// Steps planned.
    pub planned_steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Training FLOPs planned.
    pub total_flops: f64,
    /// Final validation bits per byte.
    pub final_val_bpb: Option<f64>,
    /// CORE metric.
    pub core_metric: Option<f64>,
    /// Final training loss.
    pub train_loss: Option<f64>,
    /// Median tokens per second.
    pub tokens_per_second: Option<f64>,
    /// All of it, in seconds.
    pub elapsed_seconds: Option<f64>,
    /// Peak memory in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Hash of the final weights.
    pub weights_sha256: Option<String>,
}

/// How many rows a short report prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Limits {
    /// Rows of the table of cells.
    pub cells: usize,
    /// Rows of the table of runs.
    pub runs: usize,
}

impl Limits {
    /// Tried in this order until the comment is short enough.
    pub const LADDER: [Self; 4] = [
        Self { cells: 60, runs: 60 },
        Self { cells: 60, runs: 20 },
        Self { cells: 20, runs: 10 },
        Self { cells: 5, runs: 0 },
    ];
}

/// Builds the context.
pub(super) fn build(sources: &Sources) -> Result<Context, ReportError> {
    let (card, documents) = (&sources.scorecard, &sources.documents);
    let verdict =
        |name, judgement: &Judgement| VerdictView { name, judgement: judgement.clone(), interval: interval(judgement) };
    let curves = scorecard::curves(documents, &card.cells, sources.baseline.as_ref())?;
    let (charts, heat) = scorecard::sweep(documents, &card.cells);
    let labels: Vec<&str> = card.cells.iter().map(|cell| cell.label.as_str()).collect();
    let note = match curves.left_out {
        0 => String::new(),
        more => format!("The first {DRAWN_RUNS} runs; {more} more are in the table."),
    };
    Ok(Context {
        experiment: card.experiment.clone(),
        description: card.description.clone(),
        ruleset: card.ruleset.clone(),
        answer: card.answer.clone(),
        rankings: card.rankings().cloned().collect(),
        verdicts: [
            Some(verdict("Quality", &card.quality)),
            Some(verdict("Speed", &card.speed)),
            Some(verdict("Reproducibility", &card.reproducibility)),
            card.drift.as_ref().map(|drift| verdict("Drift", drift)),
        ]
        .into_iter()
        .flatten()
        .filter(|view| view.judgement.verdict() != Verdict::Off)
        .collect(),
        cells: card.cells.clone(),
        cell_intervals: cell_intervals(&card.cells),
        timed: timed(&card.cells),
        blocks: blocks(&card.cells),
        runs: documents.runs.iter().map(|run| run_view(run, &card.cells)).collect(),
        planned: card.planned,
        finished: card.finished,
        sweeps: charts.iter().chain(&curves.means).filter_map(plot::lay_out_sweep).collect(),
        heat: heat.as_ref().map(heat_view),
        plots: curves.charts.iter().filter_map(|chart| plot::lay_out(chart, &note, &labels)).collect(),
        curve: curves.curve,
        arms: provenance::arms(sources),
        named_arms: named_arms(sources),
        differences: differences(sources),
        effort: effort(sources),
        provenance: provenance::provenance(sources),
        limits: Limits::LADDER[0],
        version: env!("CARGO_PKG_VERSION").to_string(),
    })
}

fn timed(cells: &[CellSummary]) -> Vec<TimedView> {
    let of_cell = |(colour, cell): (usize, &CellSummary)| {
        let view = |comparison: &SpeedComparison| TimedView {
            cell: cell.label.clone(),
            colour,
            comparison: comparison.clone(),
            interval: interval(&comparison.judgement),
            candidate_peak_rss_bytes: cell.peak_rss_bytes,
        };
        cell.speed_variants.iter().map(view).collect::<Vec<_>>()
    };
    cells.iter().enumerate().flat_map(of_cell).collect()
}

fn blocks(cells: &[CellSummary]) -> Vec<BlockView> {
    let of_variant = |cell: &CellSummary, comparison: &SpeedComparison| {
        let view = |block: &SpeedBlock| BlockView {
            cell: cell.label.clone(),
            variant: comparison.variant.clone(),
            block: block.clone(),
        };
        comparison.blocks.iter().map(view).collect::<Vec<_>>()
    };
    cells.iter().flat_map(|cell| cell.speed_variants.iter().flat_map(move |one| of_variant(cell, one))).collect()
}

fn cell_intervals(cells: &[CellSummary]) -> Vec<CellIntervals> {
    let quality = intervals(&cells.iter().map(|cell| &cell.quality).collect::<Vec<_>>());
    let speed = intervals(&cells.iter().map(|cell| &cell.speed).collect::<Vec<_>>());
    quality.into_iter().zip(speed).map(|(quality, speed)| CellIntervals { quality, speed }).collect()
}

fn heat_view(map: &HeatMap) -> HeatView {
    let all = || map.rows.iter().flat_map(|(_, figures)| figures.iter().flatten().copied());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let goodness = |figure: f64| if high > low { (100.0 * (high - figure) / (high - low)).round() } else { 50.0 };
    let row = |(label, figures): &(String, Vec<Option<f64>>)| HeatRow {
        label: label.clone(),
        figures: figures.iter().map(|figure| figure.map(|figure| (figure, goodness(figure)))).collect(),
    };
    HeatView {
        row_axis: map.row_axis.clone(),
        column_axis: map.column_axis.clone(),
        columns: map.columns.clone(),
        rows: map.rows.iter().map(row).collect(),
    }
}

/// Ends, estimate, no difference, and bound of an interval.
fn marks(judgement: &Judgement) -> Option<[f64; 5]> {
    let (low, high) = judgement.interval()?;
    let value = judgement.difference().or(judgement.ratio())?;
    let neutral = if judgement.ratio().is_some() { 1.0 } else { 0.0 };
    Some([low, high, value, neutral, judgement.bound?.effective()])
}

/// Places an interval on a line that shows the neutral value, the bound and both ends with some air.
pub(super) fn interval(judgement: &Judgement) -> Option<IntervalView> {
    intervals(&[judgement]).pop().flatten()
}

/// Places intervals on lines of one scale, so that they can be compared by eye.
pub(super) fn intervals(judgements: &[&Judgement]) -> Vec<Option<IntervalView>> {
    let all: Vec<f64> = judgements.iter().filter_map(|judgement| marks(judgement)).flatten().collect();
    judgements.iter().map(|judgement| on_scale(judgement, &all)).collect()
}

fn on_scale(judgement: &Judgement, all: &[f64]) -> Option<IntervalView> {
    let [low, high, value, neutral, bound] = marks(judgement)?;
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let air = 0.08 * (most - least).max(f64::MIN_POSITIVE);
    let place = |v: f64| (1000.0 * (v - least + air) / (most - least + 2.0 * air)).round() / 10.0;
    Some(IntervalView {
        low: place(low),
        high: place(high),
        value: place(value),
        neutral: place(neutral),
        bound: place(bound),
        title: format!("{value:.6}, 95% interval {low:.6} to {high:.6}, bound {bound:.6}"),
    })
}

fn run_view(run: &RunDocuments, cells: &[CellSummary]) -> RunView {
    let (colour, cell) = scorecard::cell_of(run, cells);
    let summary = run.summary.as_ref();
    RunView {
        id: run.plan.run_id.clone(),
        cell: cell.to_string(),
        colour,
        seed: run.plan.seed,
        repeat: run.plan.repeat,
        status: match summary.map(|summary| summary.status) {
            Some(RunStatus::Finished) => "finished",
            Some(RunStatus::Interrupted) => "interrupted",
            Some(RunStatus::Failed) => "failed",
            None => "planned",
        },
        reason: run.unfinished_because(),
        steps: summary.map_or(0, |summary| summary.steps),
        planned_steps: run.plan.num_iterations,
        tokens: summary.map_or(0, |summary| summary.tokens),
        total_flops: run.plan.total_flops as f64,
        final_val_bpb: summary.and_then(|summary| summary.final_val_bpb),
        core_metric: summary.and_then(|summary| summary.core_metric),
        train_loss: summary.and_then(|summary| summary.train_loss),
        tokens_per_second: summary.and_then(|summary| summary.tokens_per_second),
        elapsed_seconds: summary.map(|summary| summary.elapsed_seconds),
        peak_rss_bytes: summary.map(|summary| summary.peak_memory_bytes()),
        weights_sha256: summary.and_then(|summary| summary.weights_sha256.clone()),
    }
}
