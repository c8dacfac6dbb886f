//! Geometry of the line charts: scales, ticks and points, worked out here so that a template only has to draw.

use schemars::JsonSchema;
use serde::Serialize;

use super::text;
use crate::scorecard::{Chart, Line, SweepChart, SweepLine, SweepPoint};

/// Width of the drawing, in its own units.
pub(super) const WIDTH: f64 = 480.0;
/// Height of the drawing.
pub(super) const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;
/// Most points of one series that answer to the pointer.
const MAX_HOVER: usize = 40;
/// Most points of one series, and of a chart, that answer to the keyboard and to a touch: each is a press of the Tab key.
const MAX_FOCUS: usize = 6;
const MAX_FOCUS_OF_CHART: usize = 24;
/// Most entries of a legend.
const MAX_LEGEND: usize = 12;

/// One line chart.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Plot {
    /// Heading.
    pub title: String,
    /// What is on the horizontal axis.
    pub x_label: String,
    /// What is on the vertical axis.
    pub y_label: String,
    /// Said under the chart.
    pub note: String,
    /// Width of the drawing.
    pub width: f64,
    /// Height of the drawing.
    pub height: f64,
    /// Left, right, top and bottom edge of the area inside the axes.
    pub area: (f64, f64, f64, f64),
    /// Marks on the horizontal axis.
    pub x_ticks: Vec<Tick>,
    /// Marks on the vertical axis.
    pub y_ticks: Vec<Tick>,
    /// The lines.
    pub series: Vec<Series>,
    /// What the colours mean, the first of them.
    pub legend: Vec<LegendEntry>,
    /// Number of colours beyond those of the legend.
    pub more: usize,
    /// Whether it says so little that it is drawn small.
    pub is_small: bool,
}

/// What a colour means.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LegendEntry {
    /// In words.
    pub name: String,
    /// Which colour: the number of the cell, from 0.
    pub colour: usize,
    /// Whether it is the baseline's.
    pub baseline: bool,
}

/// A mark on an axis.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Tick {
    /// Where it is drawn.
    pub at: f64,
    /// What it says.
    pub label: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Series {
    /// Its name, for the pointer.
    pub name: String,
    /// Which colour: the number of the cell, from 0.
    pub colour: usize,
    /// Whether it is the baseline's.
    pub baseline: bool,
    /// The line as coordinates for an SVG polyline.
    pub points: String,
    /// Points that answer to the pointer.
    pub hover: Vec<Point>,
    /// Whether its points are shown too.
    pub dotted: bool,
    /// Whether it is a fit and no measurement.
    pub fitted: bool,
    /// The band around it as coordinates for an SVG polygon.
    pub band: Option<String>,
    /// Intervals of its points: horizontal place, upper and lower end.
    pub bars: Vec<(f64, f64, f64)>,
}

/// A point that answers to the pointer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Point {
    /// Horizontal place.
    pub x: f64,
    /// Vertical place.
    pub y: f64,
    /// What it says.
    pub title: String,
    /// Whether it answers to the keyboard and to a touch too.
    pub takes_focus: bool,
}

/// Lets some points of each line take the focus, the last one among them.
fn with_focus(mut series: Vec<Series>) -> Vec<Series> {
    let most = (MAX_FOCUS_OF_CHART / series.len().max(1)).clamp(1, MAX_FOCUS);
    for line in series.iter_mut().take(MAX_FOCUS_OF_CHART) {
        let every = line.hover.len().div_ceil(most).max(1);
        let last = line.hover.len().saturating_sub(1);
        line.hover.iter_mut().enumerate().for_each(|(i, point)| point.takes_focus = (last - i).is_multiple_of(every));
    }
    series
}

/// One entry a colour, and the number of those left out; none for a single line.
fn legend(series: &[Series], name: impl Fn(&Series) -> String) -> (Vec<LegendEntry>, usize) {
    let mut entries: Vec<LegendEntry> = Vec::new();
    for line in series.iter().filter(|line| !line.fitted) {
        let entry = LegendEntry { name: without_sections(&name(line)), colour: line.colour, baseline: line.baseline };
        let is_known = entries.iter().any(|one| (one.colour, one.baseline) == (entry.colour, entry.baseline));
        if !is_known && !entry.name.is_empty() {
            entries.push(entry);
        }
    }
    if entries.len() < 2 {
        return (Vec::new(), 0);
    }
    let more = entries.len().saturating_sub(MAX_LEGEND);
    entries.truncate(MAX_LEGEND);
    (entries, more)
}

/// `depth=1, flops=6e10` of `model.depth=1, budget.flops=6e10`: the tables have the whole keys.
fn without_sections(label: &str) -> String {
    let short = |part: &str| match part.split_once('=') {
        Some((key, value)) => format!("{}={value}", key.rsplit('.').next().unwrap_or(key)),
        None => part.to_owned(),
    };
    label.split(", ").map(short).collect::<Vec<_>>().join(", ")
}

/// Lays a chart of a sweep out; none when there is nothing to draw.
pub(super) fn lay_out_sweep(chart: &SweepChart) -> Option<Plot> {
    let all = || chart.lines.iter().flat_map(|line| line.points.iter());
    let ends = |point: &SweepPoint| point.interval.map_or([point.y, point.y], |(low, high)| [low, high]);
    let on_axis = |x: f64| if chart.log_x { x.log10() } else { x };
    let x = Scale::over(all().map(|p| on_axis(p.x)), LEFT, WIDTH - RIGHT, false, chart.x_values.is_empty())?;
    let y = Scale::over(all().flat_map(ends), HEIGHT - BOTTOM, TOP, false, false)?;
    let place = |a: f64, b: f64| (tenths(x.place(on_axis(a))), tenths(y.place(b)));
    let words = |points: &[(f64, f64)]| points.iter().map(|(a, b)| format!("{a},{b}")).collect::<Vec<_>>().join(" ");
    let series = |line: &SweepLine| {
        let points: Vec<(f64, f64)> = line.points.iter().map(|p| place(p.x, p.y)).collect();
        let side = |upper: bool| {
            let end =
                move |p: &SweepPoint| Some(place(p.x, p.interval.map(|(low, high)| if upper { high } else { low })?));
            line.points.iter().map(end).collect::<Option<Vec<_>>>()
        };
        let band = line.banded.then(|| side(true).zip(side(false))).flatten();
        let band =
            band.map(|(upper, lower)| words(&upper.into_iter().chain(lower.into_iter().rev()).collect::<Vec<_>>()));
        let bar =
            |p: &SweepPoint| p.interval.map(|(low, high)| (place(p.x, p.y).0, place(p.x, high).1, place(p.x, low).1));
        let title = |p: &SweepPoint| {
            let interval =
                p.interval.map(|(low, high)| format!(", {} to {}", figure(low), figure(high))).unwrap_or_default();
            let name = if line.name.is_empty() { String::new() } else { format!("{}: ", line.name) };
            format!("{name}{} bpb{interval} at {} {}", figure(p.y), text::short(p.x), chart.x_label)
        };
        let hover = line.points.iter().filter(|_| !line.fitted).map(|p| {
            let (x, y) = place(p.x, p.y);
            Point { x, y, title: title(p), takes_focus: false }
        });
        Series {
            name: line.name.clone(),
            colour: line.colour,
            baseline: false,
            points: if line.scattered { String::new() } else { words(&points) },
            hover: hover.collect(),
            dotted: !line.banded,
            fitted: line.fitted,
            band,
            bars: line.points.iter().filter(|_| !line.banded).filter_map(bar).collect(),
        }
    };
    let named = |value: &f64| Tick { at: tenths(x.place(on_axis(*value))), label: text::short(*value) };
    let x_ticks = match (chart.x_values.is_empty(), chart.log_x) {
        (false, _) => apart(chart.x_values.iter().map(named).collect()),
        (true, true) => decades(&x).iter().map(named).collect(),
        (true, false) => x.ticks(),
    };
    let series = with_focus(chart.lines.iter().map(series).collect());
    let (legend, more) = legend(&series, |line| line.name.clone());
    Some(Plot {
        title: chart.title.clone(),
        x_label: chart.x_label.clone(),
        y_label: "bpb".to_string(),
        note: chart.note.clone(),
        width: WIDTH,
        height: HEIGHT,
        area: (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM),
        x_ticks,
        y_ticks: y.ticks(),
        series,
        legend,
        more,
        is_small: false,
    })
}

/// Ticks that don't run into each other.
fn apart(ticks: Vec<Tick>) -> Vec<Tick> {
    let mut kept: Vec<Tick> = Vec::new();
    for tick in ticks {
        if kept.last().is_none_or(|last| tick.at - last.at >= 30.0) {
            kept.push(tick);
        }
    }
    kept
}

/// Powers of ten on a logarithmic scale, with 2 and 5 times them where there are few.
fn decades(scale: &Scale) -> Vec<f64> {
    let (low, high) = (scale.low.floor() as i32, scale.high.ceil() as i32);
    let factors: &[f64] = if scale.high - scale.low > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (low..=high).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    all.filter(|value| (scale.low..=scale.high).contains(&value.log10())).collect()
}

/// Lays a chart out; none when there is nothing to draw. `cells` are the cells' labels.
pub(super) fn lay_out(chart: &Chart, note: &str, cells: &[&str]) -> Option<Plot> {
    let drawn = || chart.lines.iter().filter(|line| line.values.len() > 1);
    let all = || drawn().flat_map(|line| line.values.iter());
    let x = Scale::over(all().map(|p| p.0), LEFT, WIDTH - RIGHT, false, true)?;
    let y = Scale::over(all().map(|p| p.1), HEIGHT - BOTTOM, TOP, chart.from_zero, false)?;
    let series = with_focus(drawn().map(|line| series(line, &x, &y, chart)).collect());
    let (legend, more) = legend(&series, |line| match line.baseline {
        true => "baseline".to_owned(),
        false => cells.get(line.colour).map_or_else(String::new, |label| (*label).to_owned()),
    });
    Some(Plot {
        title: chart.title.to_string(),
        x_label: chart.x_label.to_string(),
        y_label: chart.y_label.to_string(),
        note: note.to_string(),
        width: WIDTH,
        height: HEIGHT,
        area: (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM),
        x_ticks: x.ticks(),
        y_ticks: y.ticks(),
        series,
        legend,
        more,
        is_small: chart.is_small,
    })
}

fn series(line: &Line, x: &Scale, y: &Scale, chart: &Chart) -> Series {
    let values = &line.values;
    let place = |(a, b): &(f64, f64)| (tenths(x.place(*a)), tenths(y.place(*b)));
    let points: Vec<String> = values.iter().map(place).map(|(a, b)| format!("{a},{b}")).collect();
    let every = values.len().div_ceil(MAX_HOVER).max(1);
    let last = values.len() - 1;
    let hover = values
        .iter()
        .enumerate()
        .filter(|(i, _)| (last - i).is_multiple_of(every))
        .map(|(_, p)| Point {
            x: place(p).0,
            y: place(p).1,
            title: format!(
                "{}: {} {} at {} {}",
                line.name,
                figure(p.1),
                chart.y_label,
                text::short(p.0),
                chart.x_label
            ),
            takes_focus: false,
        })
        .collect();
    Series {
        name: line.name.clone(),
        colour: line.colour,
        baseline: line.baseline,
        points: points.join(" "),
        hover,
        dotted: false,
        fitted: false,
        band: None,
        bars: Vec::new(),
    }
}

/// Four to five significant digits for the pointer.
fn figure(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.4}") } else { text::short(value) }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A linear scale with round ticks.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64, from_zero: bool, tight: bool) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if from_zero {
            low = low.min(0.0);
        }
        let spread = if high > low { high - low } else { high.abs().max(1e-9) * 0.1 };
        let air = if tight { 0.0 } else { 0.05 * spread };
        let low = if from_zero && low == 0.0 { 0.0 } else { low - air };
        Some(Self { low, high: high + air.max(spread * 1e-9), step: round_step(spread / 6.0), from, to })
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<Tick> {
        let first = (self.low / self.step).ceil();
        let count = ((self.high / self.step).floor() - first).clamp(0.0, 20.0) as usize;
        (0..=count)
            .map(|i| {
                let value = (first + i as f64) * self.step;
                Tick { at: tenths(self.place(value)), label: self.label(value) }
            })
            .collect()
    }

    /// As many decimals as tell neighbours apart.
    fn label(&self, value: f64) -> String {
        if self.high.abs().max(self.low.abs()) >= 1000.0 {
            return text::short(value);
        }
        let shown = |decimals: i32| {
            let scaled = self.step * 10f64.powi(decimals);
            (scaled - scaled.round()).abs() < 1e-6
        };
        let decimals = (0..8).find(|decimals| shown(*decimals)).unwrap_or(8) as usize;
        format!("{value:.decimals$}").replace('-', "−")
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, at least as large as asked.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = least / power;
    let steps = [1.0, 2.0, 2.5, 5.0];
    power * steps.into_iter().find(|step| factor <= step + 1e-9).unwrap_or(10.0)
}
