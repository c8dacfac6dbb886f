//! What the templates are given, built from the documents: everything that came from a file is cleaned here, and
//! escaped once more by the template engine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::plot::{self, Line, Plot, Words};
use super::provenance::{self, Arm, Provenance};
use super::text::clean;
use super::{ReportError, Sources};
use crate::scorecard::drift::EVALUATIONS_NEEDED;
use nanochat_artifacts::{
    BaselineRun, CellSummary, Judgement, LAST_WARMUP_STEP, RunDocuments, RunStatus, SpeedBlock, SpeedComparison,
    StepRow, read_evals, read_steps,
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
    /// Line charts.
    pub plots: Vec<Plot>,
    /// The curve for Markdown.
    pub curve: Option<Curve>,
    /// Baseline and candidate side by side.
    pub arms: Vec<Arm>,
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

/// The validation curve for a Mermaid chart: every line has one value a mark.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Curve {
    /// Optimizer steps.
    pub steps: Vec<u64>,
    /// One line a cell: its label and values.
    pub lines: Vec<(String, Vec<f64>)>,
    /// Lower end of the axis.
    pub low: f64,
    /// Upper end of the axis.
    pub high: f64,
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
    /// The least that is tried.
    pub const SMALLEST: Self = Self { cells: 5, runs: 0 };
    /// Tried in this order until the comment is short enough.
    pub const LADDER: [Self; 4] =
        [Self { cells: 60, runs: 60 }, Self { cells: 60, runs: 20 }, Self { cells: 20, runs: 10 }, Self::SMALLEST];
}

/// Most lines in the Mermaid chart, which has no legend.
const CURVE_LINES: usize = 6;
/// Most marks in the Mermaid chart.
const CURVE_MARKS: usize = 20;
/// Steps that training time leaves out, as the baseline counts it.
const UNTIMED_STEPS: usize = LAST_WARMUP_STEP as usize + 1;
/// Most variants of the baseline that are drawn.
const DRAWN_BASELINES: usize = 8;
/// Most runs whose tables are drawn.
const DRAWN_RUNS: usize = 48;

/// Builds the context.
pub(super) fn build(sources: &Sources) -> Result<Context, ReportError> {
    let (card, documents) = (&sources.scorecard, &sources.documents);
    let verdict = |name, judgement: &Judgement| VerdictView {
        name,
        judgement: cleaned(judgement),
        interval: interval(judgement),
    };
    let tables = Tables::read(sources)?;
    Ok(Context {
        experiment: clean(&card.experiment),
        description: clean(&card.description),
        ruleset: clean(&card.ruleset),
        verdicts: [
            Some(verdict("Quality", &card.quality)),
            Some(verdict("Speed", &card.speed)),
            Some(verdict("Reproducibility", &card.reproducibility)),
            card.drift.as_ref().map(|drift| verdict("Drift", drift)),
        ]
        .into_iter()
        .flatten()
        .collect(),
        cells: card.cells.iter().map(cleaned_cell).collect(),
        cell_intervals: card
            .cells
            .iter()
            .map(|cell| CellIntervals { quality: interval(&cell.quality), speed: interval(&cell.speed) })
            .collect(),
        timed: timed(&card.cells),
        blocks: blocks(&card.cells),
        runs: documents.runs.iter().map(|run| run_view(run, &card.cells)).collect(),
        planned: card.planned,
        finished: card.finished,
        plots: tables.plots(sources),
        curve: tables.curve(&card.cells),
        arms: provenance::arms(sources),
        provenance: provenance::provenance(sources),
        limits: Limits::LADDER[0],
        version: env!("CARGO_PKG_VERSION").to_string(),
    })
}

pub(super) fn cleaned(judgement: &Judgement) -> Judgement {
    Judgement {
        metric: clean(&judgement.metric),
        method: clean(&judgement.method),
        reason: clean(&judgement.reason),
        ..judgement.clone()
    }
}

fn cleaned_cell(cell: &CellSummary) -> CellSummary {
    CellSummary {
        axes: BTreeMap::new(),
        label: clean(&cell.label),
        runs: cell.runs.iter().map(|run| clean(run)).collect(),
        quality: cleaned(&cell.quality),
        speed: cleaned(&cell.speed),
        speed_variants: cell.speed_variants.iter().map(cleaned_comparison).collect(),
        reproducibility: cleaned(&cell.reproducibility),
        drift: cell.drift.as_ref().map(cleaned),
        ..cell.clone()
    }
}

fn cleaned_comparison(comparison: &SpeedComparison) -> SpeedComparison {
    SpeedComparison {
        variant: clean(&comparison.variant),
        judgement: cleaned(&comparison.judgement),
        blocks: comparison.blocks.iter().map(cleaned_block).collect(),
        ..comparison.clone()
    }
}

fn cleaned_block(block: &SpeedBlock) -> SpeedBlock {
    SpeedBlock { candidate_run: clean(&block.candidate_run), ..block.clone() }
}

fn timed(cells: &[CellSummary]) -> Vec<TimedView> {
    let of_cell = |(colour, cell): (usize, &CellSummary)| {
        let view = |comparison: &SpeedComparison| TimedView {
            cell: clean(&cell.label),
            colour,
            comparison: cleaned_comparison(comparison),
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
            cell: clean(&cell.label),
            variant: clean(&comparison.variant),
            block: cleaned_block(block),
        };
        comparison.blocks.iter().map(view).collect::<Vec<_>>()
    };
    cells.iter().flat_map(|cell| cell.speed_variants.iter().flat_map(move |one| of_variant(cell, one))).collect()
}

/// Places an interval on a line that shows the neutral value, the bound and both ends with some air.
pub(super) fn interval(judgement: &Judgement) -> Option<IntervalView> {
    let (low, high) = judgement.interval?;
    let value = judgement.difference.or(judgement.ratio)?;
    let neutral = if judgement.ratio.is_some() { 1.0 } else { 0.0 };
    let bound = judgement.threshold? * (1.0 - judgement.minimum_effect.unwrap_or(0.0));
    let all = [low, high, value, neutral, bound];
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

fn cell_of<'a>(run: &RunDocuments, cells: &'a [CellSummary]) -> (usize, &'a str) {
    let found = cells.iter().enumerate().find(|(_, cell)| cell.runs.contains(&run.plan.run_id));
    found.map_or((0, ""), |(place, cell)| (place, cell.label.as_str()))
}

fn run_view(run: &RunDocuments, cells: &[CellSummary]) -> RunView {
    let (colour, cell) = cell_of(run, cells);
    let summary = run.summary.as_ref();
    RunView {
        id: clean(&run.plan.run_id),
        cell: clean(cell),
        colour,
        seed: run.plan.seed,
        repeat: run.plan.repeat,
        status: match summary.map(|summary| summary.status) {
            Some(RunStatus::Finished) => "finished",
            Some(RunStatus::Interrupted) => "interrupted",
            Some(RunStatus::Failed) => "failed",
            None => "planned",
        },
        reason: run.unfinished_because().map(|why| clean(&why)),
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
        weights_sha256: summary.and_then(|summary| summary.weights_sha256.as_deref().map(clean)),
    }
}

/// The tables of the runs that are drawn.
struct Tables<'a> {
    runs: Vec<Drawn<'a>>,
    left_out: usize,
}

struct Drawn<'a> {
    run: &'a RunDocuments,
    name: String,
    colour: usize,
    steps: Vec<StepRow>,
    bpb: Vec<Measured>,
}

/// One evaluation of validation bits per byte.
struct Measured {
    step: u64,
    tokens: u64,
    seconds: f64,
    bpb: f64,
    /// Seconds that it took.
    cost: f64,
}

impl<'a> Tables<'a> {
    fn read(sources: &'a Sources) -> Result<Self, ReportError> {
        let all = &sources.documents.runs;
        let mut runs = Vec::new();
        for run in all.iter().filter(|run| run.plan.repeat == 0 && run.summary.is_some()).take(DRAWN_RUNS) {
            let (colour, _) = cell_of(run, &sources.scorecard.cells);
            let folder = &run.folder;
            let steps = if folder.steps().is_file() { read_steps(&folder.steps())? } else { Vec::new() };
            let evals = if folder.evals().is_file() { read_evals(&folder.evals())? } else { Vec::new() };
            let bpb = evals.iter().filter_map(|row| {
                let (step, tokens, seconds) = (row.step, row.tokens, row.training_seconds);
                row.val_bpb.map(|bpb| Measured { step, tokens, seconds, bpb, cost: row.eval_seconds })
            });
            runs.push(Drawn { run, name: clean(&run.plan.run_id), colour, steps, bpb: bpb.collect() });
        }
        let drawable = all.iter().filter(|run| run.plan.repeat == 0 && run.summary.is_some()).count();
        Ok(Self { left_out: drawable - runs.len(), runs })
    }

    fn plots(&self, sources: &Sources) -> Vec<Plot> {
        let baselines = one_of_each_variant(sources);
        let bpb = |x: fn(&RunDocuments, &Measured) -> f64| {
            self.lines(|drawn| settled(&drawn.bpb).iter().map(|m| (x(drawn.run, m), m.bpb)).collect())
        };
        let of_baseline = |values: &dyn Fn(&BaselineRun) -> Vec<(f64, f64)>| -> Vec<Line> {
            baselines.iter().map(|(name, base)| Line::of_baseline(name, values(base))).collect()
        };
        let mut by_tokens = bpb(|_, m| m.tokens as f64);
        by_tokens.extend(of_baseline(&|base| {
            let settled = base.evals.iter().filter(|(step, _)| *step > 0 || base.evals.len() < 3);
            settled.map(|(step, bpb)| ((step * base.total_batch_size) as f64, *bpb)).collect()
        }));
        let rate = |drawn: &Drawn<'_>| {
            let batch = drawn.run.plan.total_batch_size as f64;
            drawn.steps.iter().skip(1).map(|row| (row.step as f64, batch / row.seconds)).collect()
        };
        let memory = |drawn: &Drawn<'_>| {
            drawn.steps.iter().map(|row| (row.step as f64, row.rss_bytes as f64 / f64::from(1 << 20))).collect()
        };
        let shapes_differ = self.runs.windows(2).any(|pair| match pair {
            [a, b] => a.run.plan.flops_per_token != b.run.plan.flops_per_token,
            _ => false,
        });
        let words =
            |title, x_label, y_label, from_zero| Words { title, x_label, y_label, note: self.note(), from_zero };
        let mut plots = vec![plot::lay_out(words("Validation bits per byte", "tokens", "bpb", false), &by_tokens)];
        if by_tokens.iter().any(|line| line.values.len() >= 6) {
            let late: Vec<Line> = by_tokens.iter().map(later_half).collect();
            plots.push(plot::lay_out(words("Validation bits per byte, the later half", "tokens", "bpb", false), &late));
        }
        if shapes_differ {
            let flops = bpb(|run, m| m.tokens as f64 * run.plan.flops_per_token as f64);
            plots.push(plot::lay_out(words("Validation bits per byte by compute", "FLOPs", "bpb", false), &flops));
        }
        let mut by_time = bpb(|_, m| m.seconds);
        by_time.extend(of_baseline(&|base| {
            let steady = |step: u64| base.step_seconds.iter().take(step as usize).skip(UNTIMED_STEPS).sum::<f64>();
            let settled = base.evals.iter().filter(|(step, _)| *step > 0 || base.evals.len() < 3);
            settled.map(|(step, bpb)| (steady(*step), *bpb)).collect()
        }));
        plots
            .push(plot::lay_out(words("Validation bits per byte by time", "seconds in steps", "bpb", false), &by_time));
        if baselines.is_empty() {
            let loss = self.lines(|drawn| drawn.steps.iter().map(|row| (row.step as f64, row.loss)).collect());
            plots.push(plot::lay_out(words("Training loss", "steps", "nats per token", false), &loss));
        } else {
            let mut loss = self.lines(|drawn| running_mean(drawn.steps.iter().map(|row| row.loss)));
            loss.extend(of_baseline(&|base| (0..).map(f64::from).zip(base.losses.iter().copied()).collect()));
            let title = "Training loss, running mean";
            plots.push(plot::lay_out(words(title, "steps", "nats per token", false), &loss));
        }
        let mut rates = self.lines(rate);
        rates.extend(of_baseline(&|base| {
            let batch = base.total_batch_size as f64;
            (0..).map(f64::from).zip(base.step_seconds.iter().map(|seconds| batch / seconds)).skip(1).collect()
        }));
        plots.push(plot::lay_out(words("Throughput", "steps", "tokens per second", true), &rates));
        plots.push(plot::lay_out(words("Resident memory", "steps", "MiB", true), &self.lines(memory)));
        let cost = self.lines(|drawn| drawn.bpb.iter().map(|m| (m.step as f64, m.cost)).collect());
        if cost.iter().any(|line| line.values.len() >= EVALUATIONS_NEEDED) {
            plots.push(plot::lay_out(words("Time of an evaluation", "steps", "seconds", true), &cost));
        }
        plots.into_iter().flatten().collect()
    }

    fn lines(&self, values: impl Fn(&Drawn<'_>) -> Vec<(f64, f64)>) -> Vec<Line> {
        self.runs
            .iter()
            .map(|drawn| Line {
                name: drawn.name.clone(),
                colour: drawn.colour,
                baseline: false,
                values: values(drawn),
            })
            .collect()
    }

    fn note(&self) -> String {
        if self.left_out > 0 {
            format!("The first {DRAWN_RUNS} runs; {} more are in the table.", self.left_out)
        } else {
            String::new()
        }
    }

    /// The first run of each cell, where they were evaluated at the same steps.
    fn curve(&self, cells: &[CellSummary]) -> Option<Curve> {
        let first = self.runs.iter().find(|drawn| drawn.bpb.len() > 1)?;
        let marks = settled(&first.bpb);
        let every = marks.len().div_ceil(CURVE_MARKS).max(1);
        let last = marks.len() - 1;
        let kept: Vec<u64> =
            marks.iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(every)).map(|(_, m)| m.step).collect();
        let mut lines: Vec<(String, Vec<f64>)> = Vec::new();
        for (place, cell) in cells.iter().enumerate().take(CURVE_LINES) {
            let Some(drawn) = self.runs.iter().find(|drawn| drawn.colour == place) else { continue };
            let at = |step: &u64| drawn.bpb.iter().find(|m| m.step == *step).map(|m| m.bpb);
            if let Some(values) = kept.iter().map(at).collect::<Option<Vec<f64>>>() {
                lines.push((clean(&cell.label), values));
            }
        }
        let all = || lines.iter().flat_map(|(_, values)| values.iter().copied());
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        (!lines.is_empty() && kept.len() > 1).then(|| Curve {
            steps: kept,
            lines,
            low: (low * 20.0).floor() / 20.0,
            high: (high * 20.0).ceil() / 20.0,
        })
    }
}

/// Of each variant and shape of the baseline its first finished run, with its name.
fn one_of_each_variant(sources: &Sources) -> Vec<(String, &BaselineRun)> {
    let mut chosen: Vec<(String, &BaselineRun)> = Vec::new();
    let finished =
        sources.baseline.iter().flat_map(|result| &result.runs).filter(|run| run.status == RunStatus::Finished);
    for run in finished {
        let named = run.provenance.as_ref().and_then(|provenance| provenance.variant.as_deref());
        let name = format!("baseline {}, {} layers", clean(named.unwrap_or(run.dtype.word())), run.model.n_layer);
        if !chosen.iter().any(|(other, earlier)| *other == name && earlier.model == run.model) {
            chosen.push((name, run));
        }
    }
    chosen.truncate(DRAWN_BASELINES);
    chosen
}

/// Losses smoothed as the baseline's log prints them: an exponential mean over some ten steps, without the pull to zero at
/// the start.
fn running_mean(losses: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    const KEPT: f64 = 0.9;
    let (mut mean, mut weight) = (0.0, 0.0);
    let smooth = losses.map(|loss| {
        mean = KEPT * mean + (1.0 - KEPT) * loss;
        weight = KEPT * weight + (1.0 - KEPT);
        mean / weight
    });
    (0..).map(f64::from).zip(smooth).collect()
}

/// The evaluations without the one of the untrained model, where there are others enough.
fn settled(measured: &[Measured]) -> &[Measured] {
    match measured {
        [first, rest @ ..] if first.step == 0 && rest.len() > 1 => rest,
        all => all,
    }
}

/// The points of a line beyond half of its way, for curves that lie close together.
fn later_half(line: &Line) -> Line {
    let end = line.values.last().map_or(0.0, |(x, _)| *x);
    let values = line.values.iter().copied().filter(|(x, _)| *x >= end / 2.0).collect();
    Line { name: line.name.clone(), colour: line.colour, baseline: line.baseline, values }
}
