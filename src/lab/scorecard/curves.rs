//! The curves of an experiment: evaluations, losses, throughput and memory over training, of its runs and of the baseline.

use schemars::JsonSchema;
use serde::Serialize;

use nanochat_artifacts::{
    ArtifactError, BaselineResult, BaselineRun, CellSummary, ExperimentDocuments, LAST_WARMUP_STEP, RunDocuments,
    RunStatus, StepRow, Tables,
};

use super::drift::EVALUATIONS_NEEDED;
use super::{SweepChart, SweepLine, SweepPoint, statistics, variants};

/// Everything that a report draws.
#[derive(Debug, Clone)]
pub struct Curves {
    /// Line charts.
    pub charts: Vec<Chart>,
    /// Means over seeds, where cells have several.
    pub means: Option<SweepChart>,
    /// The curve for Markdown.
    pub curve: Option<Curve>,
    /// Number of runs beyond the first [`DRAWN_RUNS`].
    pub left_out: usize,
}

/// One line chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Heading.
    pub title: &'static str,
    /// What is on the horizontal axis.
    pub x_label: &'static str,
    /// What is on the vertical axis.
    pub y_label: &'static str,
    /// Whether the vertical axis begins at zero.
    pub from_zero: bool,
    /// The lines; one of fewer than two points is not drawn.
    pub lines: Vec<Line>,
    /// Whether it is a check that found nothing, and is drawn small.
    pub is_small: bool,
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Number of the cell, from 0.
    pub colour: usize,
    /// Whether it is the baseline's.
    pub baseline: bool,
    /// Its points.
    pub values: Vec<(f64, f64)>,
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

/// Most lines in the Mermaid chart, which has no legend.
const CURVE_LINES: usize = 6;
/// Most marks in the Mermaid chart.
const CURVE_MARKS: usize = 20;
/// Most variants of the baseline that are drawn.
const DRAWN_BASELINES: usize = 8;
/// Most runs whose tables are drawn.
pub const DRAWN_RUNS: usize = 48;
/// Most points of one line.
const MAX_POINTS: usize = 160;

/// Computes the curves of an experiment whose cells were judged, with those of a recorded baseline.
///
/// # Errors
/// Tables that can't be read.
pub fn curves(
    documents: &ExperimentDocuments,
    cells: &[CellSummary],
    baseline: Option<&BaselineResult>,
) -> Result<Curves, ArtifactError> {
    let drawable = || documents.runs.iter().filter(|run| run.plan.repeat == 0 && run.summary.is_some());
    let tables = Tables::read(drawable().take(DRAWN_RUNS))?;
    let runs = drawable().take(DRAWN_RUNS).map(|run| Drawn::new(run, cells, &tables));
    let drawn = Drawings { runs: runs.collect::<Result<_, _>>()?, baselines: one_of_each_variant(baseline) };
    let left_out = drawable().count() - drawn.runs.len();
    Ok(Curves { charts: drawn.charts(), means: drawn.means(cells), curve: drawn.curve(cells), left_out })
}

/// Number and label of the cell that a run belongs to.
pub fn cell_of<'a>(run: &RunDocuments, cells: &'a [CellSummary]) -> (usize, &'a str) {
    let found = cells.iter().enumerate().find(|(_, cell)| cell.runs.contains(&run.plan.run_id));
    found.map_or((0, ""), |(place, cell)| (place, cell.label.as_str()))
}

/// The runs that are drawn, and of each variant of the baseline one run with its name.
struct Drawings<'a> {
    runs: Vec<Drawn<'a>>,
    baselines: Vec<(String, &'a BaselineRun)>,
}

struct Drawn<'a> {
    run: &'a RunDocuments,
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

impl<'a> Drawn<'a> {
    fn new(run: &'a RunDocuments, cells: &[CellSummary], tables: &Tables) -> Result<Self, ArtifactError> {
        let evals = tables.evals(run)?;
        let bpb = evals.iter().filter_map(|row| {
            let (step, tokens, seconds) = (row.step, row.tokens, row.training_seconds);
            row.val_bpb.map(|bpb| Measured { step, tokens, seconds, bpb, cost: row.eval_seconds })
        });
        Ok(Self { run, colour: cell_of(run, cells).0, steps: tables.steps(run)?, bpb: bpb.collect() })
    }

    /// The evaluations without that of the untrained model, where there are enough others.
    fn settled(&self) -> &[Measured] {
        match self.bpb.as_slice() {
            [first, rest @ ..] if first.step == 0 && rest.len() > 1 => rest,
            all => all,
        }
    }

    /// A figure of each step.
    fn by_step(&self, value: impl Fn(&StepRow) -> f64) -> Vec<(f64, f64)> {
        self.steps.iter().map(|row| (row.step as f64, value(row))).collect()
    }
}

impl Drawings<'_> {
    /// The mean of each cell over its seeds, with a band of one standard deviation, at the steps that all of them evaluated.
    fn means(&self, cells: &[CellSummary]) -> Option<SweepChart> {
        let of_cell = |(colour, cell): (usize, &CellSummary)| {
            let runs: Vec<&Drawn<'_>> = self.runs.iter().filter(|drawn| drawn.colour == colour).collect();
            let first = runs.first().filter(|_| runs.len() > 1)?;
            let at = |mark: &Measured| {
                let same = |drawn: &&Drawn<'_>| drawn.bpb.iter().find(|m| m.step == mark.step).map(|m| m.bpb);
                let values = runs.iter().map(same).collect::<Option<Vec<f64>>>()?;
                let (y, reach) = (statistics::mean(&values)?, statistics::variance(&values)?.sqrt());
                Some(SweepPoint { x: mark.tokens as f64, y, interval: Some((y - reach, y + reach)) })
            };
            let points: Vec<SweepPoint> = first.settled().iter().filter_map(at).collect();
            let name = format!("{}, {} seeds", cell.label, runs.len());
            (points.len() > 1).then(|| SweepLine { name, colour, points, banded: true, ..SweepLine::default() })
        };
        let lines: Vec<SweepLine> = cells.iter().enumerate().filter_map(of_cell).collect();
        (!lines.is_empty()).then(|| SweepChart {
            title: "Validation bits per byte, mean over seeds".into(),
            x_label: "tokens".into(),
            log_x: false,
            x_values: Vec::new(),
            lines,
            note: "The band is one standard deviation over the seeds to each side.".into(),
        })
    }

    fn charts(&self) -> Vec<Chart> {
        let by_tokens = self.bpb_by_tokens();
        let mut charts = vec![chart("Validation bits per byte", "tokens", "bpb", false, &by_tokens)];
        if by_tokens.iter().any(|line| line.values.len() >= 6) {
            let late: Vec<Line> = by_tokens.iter().map(later_half).collect();
            charts.push(chart("Validation bits per byte, the later half", "tokens", "bpb", false, &late));
        }
        let flops = |drawn: &Drawn<'_>| drawn.run.plan.flops_per_token;
        if self.runs.windows(2).any(|pair| matches!(pair, [a, b] if flops(a) != flops(b))) {
            let flops = self.bpb_by(|run, m| m.tokens as f64 * run.plan.flops_per_token as f64);
            charts.push(chart("Validation bits per byte by compute", "FLOPs", "bpb", false, &flops));
        }
        charts.push(chart("Validation bits per byte by time", "seconds in steps", "bpb", false, &self.bpb_by_time()));
        charts.push(self.loss());
        charts.push(chart("Throughput", "steps", "tokens per second", true, &self.throughput()));
        // Scripts of other programs don't say what memory they use after a step.
        let memory = self.lines(|drawn| {
            let mut memory = drawn.by_step(|row| row.rss_bytes as f64 / f64::from(1 << 20));
            memory.retain(|(_, mebibytes)| *mebibytes > 0.0);
            memory
        });
        charts.push(small_if_steady(chart("Resident memory", "steps", "MiB", true, &memory)));
        let cost = self.lines(|drawn| drawn.bpb.iter().map(|m| (m.step as f64, m.cost)).collect());
        if cost.iter().any(|line| line.values.len() >= EVALUATIONS_NEEDED) {
            charts.push(small_if_steady(chart("Time of an evaluation", "steps", "seconds", true, &cost)));
        }
        charts
    }

    fn bpb_by(&self, x: impl Fn(&RunDocuments, &Measured) -> f64) -> Vec<Line> {
        self.lines(|drawn| drawn.settled().iter().map(|m| (x(drawn.run, m), m.bpb)).collect())
    }

    fn bpb_by_tokens(&self) -> Vec<Line> {
        let mut lines = self.bpb_by(|_, m| m.tokens as f64);
        lines.extend(self.of_baseline(|base| {
            settled_evals(base).map(|(step, bpb)| ((step * base.total_batch_size) as f64, bpb)).collect()
        }));
        lines
    }

    fn bpb_by_time(&self) -> Vec<Line> {
        let mut lines = self.bpb_by(|_, m| m.seconds);
        lines.extend(self.of_baseline(|base| {
            let timed = |step: u64| base.step_seconds.iter().take(step as usize).skip(LAST_WARMUP_STEP as usize + 1);
            settled_evals(base).map(|(step, bpb)| (timed(step).sum::<f64>(), bpb)).collect()
        }));
        lines
    }

    /// The loss of each step; smoothed beside a baseline, whose log prints it so.
    fn loss(&self) -> Chart {
        if self.baselines.is_empty() {
            let loss = self.lines(|drawn| drawn.by_step(|row| row.loss));
            return chart("Training loss", "steps", "nats per token", false, &loss);
        }
        let mut loss = self.lines(|drawn| running_mean(drawn.steps.iter().map(|row| row.loss)));
        loss.extend(self.of_baseline(|base| (0..).map(f64::from).zip(base.losses.iter().copied()).collect()));
        chart("Training loss, running mean", "steps", "nats per token", false, &loss)
    }

    fn throughput(&self) -> Vec<Line> {
        let mut rates = self.lines(|drawn| {
            let batch = drawn.run.plan.total_batch_size as f64;
            drawn.by_step(|row| batch / row.seconds).into_iter().skip(1).collect()
        });
        rates.extend(self.of_baseline(|base| {
            let batch = base.total_batch_size as f64;
            (0..).map(f64::from).zip(base.step_seconds.iter().map(|seconds| batch / seconds)).skip(1).collect()
        }));
        rates
    }

    fn lines(&self, values: impl Fn(&Drawn<'_>) -> Vec<(f64, f64)>) -> Vec<Line> {
        let line = |drawn: &Drawn<'_>| Line {
            name: drawn.run.plan.run_id.clone(),
            colour: drawn.colour,
            baseline: false,
            values: values(drawn),
        };
        self.runs.iter().map(line).collect()
    }

    fn of_baseline(&self, values: impl Fn(&BaselineRun) -> Vec<(f64, f64)>) -> Vec<Line> {
        let line = |(name, base): &(String, &BaselineRun)| Line {
            name: name.clone(),
            colour: 0,
            baseline: true,
            values: values(base),
        };
        self.baselines.iter().map(line).collect()
    }

    /// The first run of each cell, where they were evaluated at the same steps.
    fn curve(&self, cells: &[CellSummary]) -> Option<Curve> {
        let first = self.runs.iter().find(|drawn| drawn.bpb.len() > 1)?;
        let marks = first.settled();
        let every = marks.len().div_ceil(CURVE_MARKS).max(1);
        let last = marks.len() - 1;
        let kept = marks.iter().enumerate().filter(|(place, _)| (last - place).is_multiple_of(every));
        let kept: Vec<u64> = kept.map(|(_, measured)| measured.step).collect();
        let mut lines: Vec<(String, Vec<f64>)> = Vec::new();
        for (place, cell) in cells.iter().enumerate().take(CURVE_LINES) {
            let Some(drawn) = self.runs.iter().find(|drawn| drawn.colour == place) else { continue };
            let at = |step: &u64| drawn.bpb.iter().find(|m| m.step == *step).map(|m| m.bpb);
            if let Some(values) = kept.iter().map(at).collect::<Option<Vec<f64>>>() {
                lines.push((cell.label.clone(), values));
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

fn chart(title: &'static str, x_label: &'static str, y_label: &'static str, from_zero: bool, lines: &[Line]) -> Chart {
    let lines = lines.iter().map(|line| Line { values: thinned(&line.values), ..line.clone() }).collect();
    Chart { title, x_label, y_label, from_zero, lines, is_small: false }
}

/// Growth from the first third of a line to its last, as a share, from which on a chart says something.
const STEADY: f64 = 0.1;

/// Draws a chart small whose lines don't grow once they have begun.
fn small_if_steady(mut chart: Chart) -> Chart {
    let is_steady = |line: &Line| {
        let values: Vec<f64> = line.values.iter().skip(1).map(|(_, value)| *value).collect();
        let third = (values.len() / 3).max(1);
        let (early, late) = (values.get(..third), values.get(values.len().saturating_sub(third)..));
        let means = early.and_then(statistics::mean).zip(late.and_then(statistics::mean));
        means.is_none_or(|(early, late)| late - early <= STEADY * early)
    };
    chart.is_small = chart.lines.iter().all(is_steady);
    chart
}

/// Evaluations of a recorded run without that of the untrained model, where there are enough others.
fn settled_evals(base: &BaselineRun) -> impl Iterator<Item = (u64, f64)> {
    base.evals.iter().copied().filter(|(step, _)| *step > 0 || base.evals.len() < 3)
}

/// Of each variant and shape of the baseline its first finished run, with its name.
fn one_of_each_variant(baseline: Option<&BaselineResult>) -> Vec<(String, &BaselineRun)> {
    let mut chosen: Vec<(String, &BaselineRun)> = Vec::new();
    let runs = baseline.iter().flat_map(|result| &result.runs);
    for run in runs.filter(|run| run.status == RunStatus::Finished) {
        let name = format!("baseline {}, {} layers", variants::name(run), run.model.n_layer);
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

/// The points of a line beyond half of its length, for curves that lie close together.
fn later_half(line: &Line) -> Line {
    let end = line.values.last().map_or(0.0, |(x, _)| *x);
    let values = line.values.iter().copied().filter(|(x, _)| *x >= end / 2.0).collect();
    Line { values, ..line.clone() }
}

/// At most [`MAX_POINTS`] points: means of stretches of equal length.
fn thinned(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = values.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if finite.len() <= MAX_POINTS {
        return finite;
    }
    let stretch = finite.len().div_ceil(MAX_POINTS);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / count, part.iter().map(|p| p.1).sum::<f64>() / count)
    };
    finite.chunks(stretch).map(mean).collect()
}
