//! What a sweep shows: the metric against each swept axis, over two axes, and against FLOPs.
//!
//! Means over seeds with their own 95% intervals, as the cells have them. A power law is fitted to the logarithms by least
//! squares: through the minima of the budgets where a model axis is swept at several budgets, else through all cells.

use std::collections::BTreeMap;

use nanochat_artifacts::{CellSummary, ExperimentDocuments};
use serde_json::Value;

use super::cells::axis;
use super::statistics;
use super::{CONFIDENCE, answer};

/// Axis of the budgets whose cells are comparable with each other alone.
const BUDGET: &str = "budget.flops";
/// Fewest cells that a power law is fitted to.
const FITTED: usize = 3;
/// Points of a fitted curve.
const CURVE: u32 = 40;

/// A chart of cells or of means over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepChart {
    /// Heading.
    pub title: String,
    /// What is on the horizontal axis.
    pub x_label: String,
    /// Whether it is logarithmic.
    pub log_x: bool,
    /// Values that the horizontal axis names; none where it chooses.
    pub x_values: Vec<f64>,
    /// The lines.
    pub lines: Vec<SweepLine>,
    /// Said under the chart.
    pub note: String,
}

/// A line of such a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SweepLine {
    /// Its name.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Whether it is a fit and no measurement.
    pub fitted: bool,
    /// Its points.
    pub points: Vec<SweepPoint>,
    /// Its points stand by themselves, without a line from one to the next.
    pub scattered: bool,
    /// Draw the intervals as a band around the line, not as bars.
    pub banded: bool,
}

/// A point with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPoint {
    /// Horizontal place.
    pub x: f64,
    /// Vertical place.
    pub y: f64,
    /// Interval of the latter.
    pub interval: Option<(f64, f64)>,
}

/// The metric over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Axis of the rows.
    pub row_axis: String,
    /// Axis of the columns.
    pub column_axis: String,
    /// Values of the columns.
    pub columns: Vec<String>,
    /// Each row: its value, and the metric in each column.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// The charts of a sweep, and its map where two axes vary.
pub fn sweep(documents: &ExperimentDocuments, cells: &[CellSummary]) -> (Vec<SweepChart>, Option<HeatMap>) {
    let cells: Vec<&CellSummary> = cells.iter().filter(|cell| cell.mean_val_bpb.is_some()).collect();
    let varying = varying(&cells);
    let mut charts: Vec<SweepChart> =
        varying.iter().filter_map(|(key, values)| by_axis(&cells, key, &numbers(values)?)).collect();
    charts.extend(by_flops(documents, &cells));
    let map = match varying.as_slice() {
        [(rows, row_values), (columns, column_values)] => {
            Some(heat(&cells, (rows, row_values), (columns, column_values)))
        }
        _ => None,
    };
    (charts, map)
}

/// Axes of several values, with these in the order of the plan.
fn varying(cells: &[&CellSummary]) -> Vec<(String, Vec<Value>)> {
    let mut found: BTreeMap<&String, Vec<Value>> = BTreeMap::new();
    for (key, value) in cells.iter().flat_map(|cell| &cell.axes) {
        let values = found.entry(key).or_default();
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    found.into_iter().filter(|(_, values)| values.len() > 1).map(|(key, values)| (key.clone(), values)).collect()
}

/// The values as numbers, ascending; none where one isn't.
fn numbers(values: &[Value]) -> Option<Vec<f64>> {
    let mut numbers = values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()?;
    numbers.sort_by(f64::total_cmp);
    Some(numbers)
}

/// Whether values are spread by ratios more evenly than by differences, or widely.
pub(super) fn is_logarithmic(values: &[f64]) -> bool {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return false };
    if *first <= 0.0 {
        return false;
    }
    let unevenness = |step: fn(f64, f64) -> f64| {
        let steps: Vec<f64> = values.windows(2).filter_map(|pair| Some(step(*pair.first()?, *pair.get(1)?))).collect();
        steps.iter().copied().fold(0.0, f64::max) / steps.iter().copied().fold(f64::INFINITY, f64::min)
    };
    let by_ratio = values.len() > 2 && unevenness(|a, b| (b / a).ln()) < unevenness(|a, b| b - a);
    last / first >= 8.0 || (by_ratio && last / first >= 3.0)
}

/// One line for each combination of the other axes.
fn by_axis(cells: &[&CellSummary], key: &str, values: &[f64]) -> Option<SweepChart> {
    let mut lines: Vec<SweepLine> = Vec::new();
    for cell in cells {
        let (Some(x), Some(y)) = (cell.axes.get(key).and_then(Value::as_f64), cell.mean_val_bpb) else { continue };
        let others: Vec<String> = cell.axes.iter().filter(|(other, _)| *other != key).map(axis).collect();
        let name = others.join(", ");
        let point = SweepPoint { x, y, interval: cell.interval_val_bpb };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(SweepLine { colour: lines.len(), name, points: vec![point], ..SweepLine::default() }),
        }
    }
    lines.retain(|line| line.points.len() > 1);
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
    if lines.is_empty() {
        return None;
    }
    let has_budgets = key != BUDGET && cells.iter().any(|cell| cell.axes.contains_key(BUDGET));
    let note = if has_budgets { minima(&lines) } else { String::new() };
    let title = if note.is_empty() {
        format!("Validation bits per byte by {key}")
    } else {
        format!("Budgets of equal FLOPs by {key}")
    };
    let log_x = is_logarithmic(values);
    Some(SweepChart { title, x_label: key.to_string(), log_x, x_values: values.to_vec(), lines, note })
}

/// Where the parabola through a line's points, over the logarithm of its axis, is lowest: place and height.
fn minimum(line: &SweepLine) -> Option<(f64, f64)> {
    let points: Vec<(f64, f64)> = line.points.iter().filter(|p| p.x > 0.0).map(|p| (p.x.ln(), p.y)).collect();
    let (first, last) = (points.first()?.0, points.last()?.0);
    let centre = statistics::mean(&points.iter().map(|p| p.0).collect::<Vec<_>>())?;
    let sum = |power: i32| points.iter().map(|(x, _)| (x - centre).powi(power)).sum::<f64>();
    let with = |power: i32| points.iter().map(|(x, y)| (x - centre).powi(power) * y).sum::<f64>();
    let (n, s2, s3, s4) = (points.len() as f64, sum(2), sum(3), sum(4));
    // Normal equations of a + b·x + c·x², centred so that the sum of x is zero.
    let (m0, m1, m2) = (with(0), with(1), with(2));
    let determinant = n * (s2 * s4 - s3 * s3) - s2 * s2 * s2;
    let c = (n * (s2 * m2 - s3 * m1) - s2 * s2 * m0) / determinant;
    let b = (m1 - c * s3) / s2;
    let a = (m0 - c * s2) / n;
    let place = -b / (2.0 * c);
    let inside = points.len() > 2 && c > 0.0 && (first..=last).contains(&(place + centre));
    inside.then(|| ((place + centre).exp(), a + b * place + c * place * place))
}

fn minima(lines: &[SweepLine]) -> String {
    let found = lines.iter().filter_map(|line| {
        let (place, height) = minimum(line)?;
        Some(format!("{}: {place:.1} ({height:.4} bpb)", line.name))
    });
    let found: Vec<String> = found.collect();
    if found.is_empty() {
        "No budget has its minimum inside.".into()
    } else {
        format!("Minima of parabolas: {}.", found.join("; "))
    }
}

/// Bits per byte against training FLOPs with a fitted power law, where cells spend different FLOPs.
fn by_flops(documents: &ExperimentDocuments, cells: &[&CellSummary]) -> Option<SweepChart> {
    let flops = |cell: &CellSummary| {
        let run = documents.runs.iter().find(|run| cell.runs.contains(&run.plan.run_id))?;
        Some(run.plan.total_flops as f64).filter(|flops| *flops > 0.0)
    };
    let point = |cell: &&CellSummary| {
        Some(SweepPoint { x: flops(cell)?, y: cell.mean_val_bpb?, interval: cell.interval_val_bpb })
    };
    let mut points: Vec<SweepPoint> = cells.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let (first, last) = (points.first()?.x, points.last()?.x);
    if last / first < 1.5 {
        return None;
    }
    let fitted_to = match cells.iter().any(|cell| cell.axes.contains_key(BUDGET)) {
        true => best_of_each_budget(cells, &flops),
        false => points.iter().map(|point| (point.x, point.y)).collect(),
    };
    let (law, note) = power_law(&fitted_to).map_or((None, String::new()), |(line, note)| (Some(line), note));
    let measured = SweepLine { name: "cells".into(), scattered: true, points, ..SweepLine::default() };
    Some(SweepChart {
        title: "Validation bits per byte by training FLOPs".into(),
        x_label: "FLOPs".into(),
        log_x: true,
        x_values: Vec::new(),
        lines: [Some(measured), law].into_iter().flatten().collect(),
        note,
    })
}

fn best_of_each_budget(cells: &[&CellSummary], flops: &impl Fn(&CellSummary) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut best: Vec<(&Value, f64, f64)> = Vec::new();
    for cell in cells {
        let (Some(budget), Some(flops), Some(bpb)) = (cell.axes.get(BUDGET), flops(cell), cell.mean_val_bpb) else {
            continue;
        };
        match best.iter_mut().find(|(other, _, _)| *other == budget) {
            Some(entry) if entry.2 > bpb => *entry = (budget, flops, bpb),
            Some(_) => {}
            None => best.push((budget, flops, bpb)),
        }
    }
    best.into_iter().map(|(_, flops, bpb)| (flops, bpb)).collect()
}

/// The line of a power law through points, with the 95% band of its mean, and the law in words.
fn power_law(points: &[(f64, f64)]) -> Option<(SweepLine, String)> {
    if points.len() < FITTED || points.iter().any(|(x, y)| *x <= 0.0 || *y <= 0.0) {
        return None;
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let column = |get: fn(&(f64, f64)) -> f64| logs.iter().map(get).collect::<Vec<_>>();
    let (x, y) = (column(|p| p.0), column(|p| p.1));
    let (mean_x, mean_y) = (statistics::mean(&x)?, statistics::mean(&y)?);
    let spread: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let slope = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let left: f64 = logs.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    let degrees = logs.len() as f64 - 2.0;
    let deviation = (left / degrees).sqrt();
    let quantile = statistics::student_t_quantile(0.5 + CONFIDENCE / 2.0, degrees);
    let reach = quantile * deviation / spread.sqrt();
    let (low, high) =
        (x.iter().copied().fold(f64::INFINITY, f64::min), x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    if !(spread > 0.0 && slope.is_finite() && reach.is_finite()) {
        return None;
    }
    let at = |place: u32| {
        let x = low + (high - low) * f64::from(place) / f64::from(CURVE);
        let y = mean_y + slope * (x - mean_x);
        let half = quantile * deviation * (1.0 / logs.len() as f64 + (x - mean_x).powi(2) / spread).sqrt();
        SweepPoint { x: x.exp(), y: y.exp(), interval: Some(((y - half).exp(), (y + half).exp())) }
    };
    let (from, to) = (slope - reach, slope + reach);
    let note = format!(
        "Fitted to {} points: bits per byte ∝ FLOPs^{slope:.4}, 95% interval of the exponent {from:.4} to {to:.4}; the band is that of the mean.",
        points.len()
    );
    let line = SweepLine {
        name: "power law".into(),
        colour: 1,
        fitted: true,
        scattered: false,
        points: (0..=CURVE).map(at).collect(),
        banded: true,
    };
    Some((line, note))
}

fn heat(cells: &[&CellSummary], rows: (&String, &[Value]), columns: (&String, &[Value])) -> HeatMap {
    let value = |row: &Value, column: &Value| {
        let is_here =
            |cell: &&&CellSummary| cell.axes.get(rows.0) == Some(row) && cell.axes.get(columns.0) == Some(column);
        cells.iter().find(is_here).and_then(|cell| cell.mean_val_bpb)
    };
    let of_row = |row: &Value| (answer::text(row), columns.1.iter().map(|column| value(row, column)).collect());
    HeatMap {
        row_axis: rows.0.clone(),
        column_axis: columns.0.clone(),
        columns: columns.1.iter().map(answer::text).collect(),
        rows: rows.1.iter().map(of_row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_logarithmic_where_its_values_are_ratios() {
        for (values, expected) in [
            (&[0.01, 0.1][..], true),
            (&[0.2, 0.3], false),
            (&[1.0, 2.0, 4.0], true),
            (&[1.0, 2.0, 3.0], false),
            (&[8.0, 10.0, 12.0, 14.0], false),
            (&[0.0, 1.0, 10.0], false),
            (&[1e18, 2.15e18, 4.64e18, 1e19], true),
        ] {
            assert_eq!(is_logarithmic(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_parabola_gives_back_its_minimum() {
        let at = |depth: f64| SweepPoint { x: depth, y: 0.9 + 0.05 * (depth / 12.0).ln().powi(2), interval: None };
        let line = SweepLine { points: [8.0, 10.0, 14.0, 20.0].map(at).to_vec(), ..SweepLine::default() };
        let (place, height) = minimum(&line).expect("a minimum");
        assert!((place - 12.0).abs() < 1e-6 && (height - 0.9).abs() < 1e-9, "{place} {height}");
        let falling = SweepLine { points: [8.0, 10.0].map(at).to_vec(), ..SweepLine::default() };
        assert_eq!(minimum(&falling), None);
    }

    #[test]
    fn a_power_law_gives_back_its_exponent_and_an_interval() {
        let exact: Vec<(f64, f64)> = [1e18, 1e19, 1e20, 1e21].map(|x: f64| (x, 20.0 * x.powf(-0.05))).to_vec();
        let (line, note) = power_law(&exact).expect("a law");
        assert!(note.contains("FLOPs^-0.0500"), "{note}");
        assert_eq!(line.points.len(), 41);
        // By hand: y = 0, 1, 1, 2 over x = 0, 1, 2, 3 has the slope 0.6 and a residual sum of squares of 0.2.
        let by_hand: Vec<(f64, f64)> =
            [(0.0, 0.0), (1.0, 1.0), (2.0, 1.0), (3.0, 2.0)].map(|(x, y): (f64, f64)| (x.exp(), y.exp())).to_vec();
        let (_, note) = power_law(&by_hand).expect("a law");
        // 0.6 ± 4.303 · √(0.2 / 2 / 5)
        assert!(note.contains("FLOPs^0.6000, 95% interval of the exponent -0.0085 to 1.2085"), "{note}");
        assert!(power_law(&by_hand[..2]).is_none());
    }
}
