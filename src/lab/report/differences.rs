//! What an experiment changes: the values in which its cells differ, the best cell beside the worst and the control.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Sources;
use crate::scorecard;
use nanochat_artifacts::CellSummary;
use nanochat_plan::{QualityMetric, RunPlan, changes};

/// Most cells that stand beside each other: of more there are the control, the best and the worst.
const BESIDE: usize = 4;
/// Most values that are shown.
const ROWS: usize = 24;

/// Cells beside each other, with the values in which they differ.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Differences {
    /// The cells, in order.
    pub cells: Vec<DifferingCell>,
    /// What differs: the axes first, then what follows from them in the plan.
    pub rows: Vec<DifferingValue>,
    /// Number of values beyond those.
    pub left_out: usize,
}

/// A cell beside others.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DifferingCell {
    /// Its number, from 0: its colour.
    pub place: usize,
    /// What its axes say.
    pub label: String,
    /// `best`, `worst`, `control`: what it is, in words.
    pub roles: Vec<&'static str>,
    /// Mean of the final validation bits per byte.
    pub mean_val_bpb: Option<f64>,
    /// Candidate minus control or baseline.
    pub difference: Option<f64>,
    /// Median tokens per second.
    pub tokens_per_second: Option<f64>,
}

/// A value in which cells differ.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DifferingValue {
    /// Dotted key of the spec, or of the plan.
    pub key: String,
    /// Whether it is an axis, and not what follows from one.
    pub is_axis: bool,
    /// The value in each cell.
    pub values: Vec<String>,
}

/// The cells of an experiment beside each other; none where there is one, or where commits are compared, whose diff says more.
pub(super) fn differences(sources: &Sources) -> Option<Differences> {
    let all = &sources.scorecard.cells;
    let worst = worst(all, sources.documents.record.quality.metric);
    let chosen = chosen(all, worst);
    let plans: Vec<&RunPlan> = chosen.iter().filter_map(|place| plan_of(sources, &all[*place])).collect();
    if chosen.len() < 2 || plans.len() != chosen.len() || plans.iter().any(|plan| plan.arm.is_some()) {
        return None;
    }
    let mut rows = rows(&plans);
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let cells = chosen.iter().map(|place| cell(*place, &all[*place], worst == Some(*place))).collect();
    Some(Differences { cells, rows, left_out })
}

/// Places of the cells that are shown.
fn chosen(all: &[CellSummary], worst: Option<usize>) -> Vec<usize> {
    let is_shown =
        |place: &usize| all.len() <= BESIDE || all[*place].control || all[*place].best || worst == Some(*place);
    (0..all.len()).filter(is_shown).take(BESIDE).collect()
}

/// The cell at the other end of the metric from the best; none where there is no best one, or several in groups that can't be
/// compared.
fn worst(all: &[CellSummary], metric: QualityMetric) -> Option<usize> {
    let measured = all.iter().enumerate().filter_map(|(place, cell)| Some((place, cell.quality.candidate.figure?)));
    let by_figure = |(_, a): &(usize, f64), (_, b): &(usize, f64)| match metric.lower_is_better() {
        true => a.total_cmp(b),
        false => b.total_cmp(a),
    };
    let (worst, _) = measured.max_by(by_figure)?;
    let is_alone = all.iter().filter(|cell| cell.best).count() == 1;
    (is_alone && !all[worst].best).then_some(worst)
}

fn cell(place: usize, cell: &CellSummary, is_worst: bool) -> DifferingCell {
    let roles = [("control", cell.control), ("best", cell.best), ("worst", is_worst)];
    DifferingCell {
        place,
        label: cell.label.clone(),
        roles: roles.into_iter().filter(|(_, is)| *is).map(|(role, _)| role).collect(),
        mean_val_bpb: cell.mean_val_bpb,
        difference: cell.quality.difference(),
        tokens_per_second: cell.tokens_per_second,
    }
}

/// The plan of a cell's first run.
fn plan_of<'a>(sources: &'a Sources, cell: &CellSummary) -> Option<&'a RunPlan> {
    let runs = sources.documents.runs.iter().map(|run| &run.plan);
    runs.filter(|plan| cell.runs.contains(&plan.run_id)).min_by_key(|plan| (plan.repeat, plan.seed))
}

fn rows(plans: &[&RunPlan]) -> Vec<DifferingValue> {
    let mut axes: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for key in plans.iter().flat_map(|plan| plan.axes.keys()) {
        axes.insert(key, plans.iter().map(|plan| plan.axes.get(key).map_or_else(none, text)).collect());
    }
    let mut rows: Vec<DifferingValue> = axes
        .iter()
        .filter(|(_, values)| differ(values))
        .map(|(key, values)| DifferingValue { key: (*key).clone(), is_axis: true, values: values.clone() })
        .collect();
    rows.extend(following(plans));
    rows.into_iter().map(|row| DifferingValue { values: shortened(row.values), ..row }).collect()
}

/// Values of the plan that differ from the first plan's and are no axes.
fn following(plans: &[&RunPlan]) -> Vec<DifferingValue> {
    let mut rows: Vec<DifferingValue> = Vec::new();
    for (place, plan) in plans.iter().enumerate().skip(1) {
        for change in changes(plans[0], plan) {
            if plan.axes.contains_key(&change.key) || ["seed", "repeat"].contains(&change.key.as_str()) {
                continue;
            }
            let known = rows.iter().position(|row| row.key == change.key);
            let row = known.unwrap_or_else(|| {
                let values = vec![text(&change.before); plans.len()];
                rows.push(DifferingValue { key: change.key.clone(), is_axis: false, values });
                rows.len() - 1
            });
            rows[row].values[place] = text(&change.now);
        }
    }
    rows
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => none(),
        Value::String(text) => text.clone(),
        other => scorecard::number(other),
    }
}

/// Longest number that is shown with all of its digits.
const LONGEST_NUMBER: usize = 9;

/// The values with five digits of long numbers, unless all are alike then.
fn shortened(values: Vec<String>) -> Vec<String> {
    let short = |text: &String| match text.parse::<f64>() {
        Ok(number) if text.len() > LONGEST_NUMBER => {
            format!("{number:.4e}").parse::<f64>().map_or_else(|_| text.clone(), |rounded| rounded.to_string())
        }
        _ => text.clone(),
    };
    let shown: Vec<String> = values.iter().map(short).collect();
    if differ(&shown) { shown } else { values }
}

fn differ(values: &[String]) -> bool {
    values.windows(2).any(|pair| pair[0] != pair[1])
}

fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_cut_where_that_leaves_them_different() {
        let shown = |values: [&str; 2]| shortened(values.map(str::to_owned).to_vec());
        assert_eq!(shown(["0.33019500405563956", "64"]), ["0.3302", "64"]);
        assert_eq!(shown(["0.33019500405563956", "0.33019500405563959"]).concat().len(), 38);
        assert_eq!(shown(["a text that is long", "–"]), ["a text that is long", "–"]);
        assert_eq!(text(&serde_json::json!(60_000_000_000_u64)), "6e10");
    }
}
