//! The verdict over all cells is the worst of them: `fail`, then `inconclusive`, `not_comparable`, `missing`, `pass`.
//!
//! On speed, cells that differ in hardware alone (precision, threads) are ways to run the same candidate, as the
//! baseline's variants are: the fastest speaks for them, once all of them are judged.

use serde_json::Value;

use nanochat_artifacts::{CellSummary, ExperimentDocuments, Judgement, Outcome, Verdict};

/// How bad a verdict is: the higher, the worse.
pub fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Off | Verdict::Pass => 0,
        Verdict::Missing => 1,
        Verdict::NotComparable => 2,
        Verdict::Inconclusive => 3,
        Verdict::Fail => 4,
    }
}

/// The cells that something can be said of against the baseline: all but the control.
pub(super) fn candidates(cells: &[CellSummary]) -> Vec<CellSummary> {
    cells.iter().filter(|cell| !cell.control).cloned().collect()
}

/// The same over judgements that cells may lack.
pub(super) fn over_judged(
    cells: &[CellSummary],
    get: impl Fn(&CellSummary) -> Option<&Judgement>,
    absent: &[String],
    metric: &str,
) -> Judgement {
    let judged: Vec<_> = cells.iter().filter_map(|cell| Some((cell.label.as_str(), get(cell)?))).collect();
    over_all(&judged, cells.len(), absent, metric)
}

/// The worst judgement over cells, with planned runs that never started counting as missing evidence.
pub(super) fn over(
    cells: &[CellSummary],
    get: impl Fn(&CellSummary) -> &Judgement,
    absent: &[String],
    metric: &str,
) -> Judgement {
    let judged: Vec<_> = cells.iter().map(|cell| (cell.label.as_str(), get(cell))).collect();
    over_all(&judged, cells.len(), absent, metric)
}

fn over_all(judged: &[(&str, &Judgement)], cells: usize, absent: &[String], metric: &str) -> Judgement {
    let worst = worst_of(judged, cells);
    let lacking = absent.first().map(|first| {
        let more = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
        Judgement::missing(metric, format!("`{first}`{more} not started; `nanochat run` takes up what is missing"))
    });
    if let Some(off) = worst.as_ref().filter(|worst| worst.verdict() == Verdict::Off) {
        return off.clone();
    }
    match (worst, lacking) {
        (Some(worst), Some(lacking)) if severity(worst.verdict()) <= severity(Verdict::Missing) => Judgement {
            outcome: Outcome::Missing(worst.finding().cloned()),
            reason: format!("{}; so far: {}", lacking.reason, worst.reason),
            ..worst
        },
        (Some(worst), _) => worst,
        (None, Some(lacking)) => lacking,
        (None, None) => Judgement::missing(metric, "no runs are planned"),
    }
}

/// Speed: the worst over groups of cells that differ in hardware alone, the fastest of which speaks for its group.
pub(super) fn over_fastest(cells: &[CellSummary], absent: &[String], metric: &str) -> Judgement {
    let mut groups: Vec<(Vec<(&String, &Value)>, Vec<&CellSummary>)> = Vec::new();
    for cell in cells {
        let place: Vec<_> = cell.axes.iter().filter(|(key, _)| !is_hardware(key)).collect();
        match groups.iter_mut().find(|(other, _)| *other == place) {
            Some((_, group)) => group.push(cell),
            None => groups.push((place, vec![cell])),
        }
    }
    let speaking: Vec<CellSummary> = groups.iter().flat_map(|(_, group)| speaks_for(group)).collect();
    let all_speak = speaking.len() == cells.len();
    let judgement = over(&speaking, |cell| &cell.speed, absent, metric);
    if all_speak {
        return judgement;
    }
    let reason = match speaking.as_slice() {
        [one] => format!(
            "of {} cells that differ in hardware alone the fastest, {}: {}",
            cells.len(),
            one.label,
            judgement.reason
        ),
        _ => format!("the fastest of the cells that differ in hardware alone speak for them; {}", judgement.reason),
    };
    Judgement { reason, ..judgement }
}

fn is_hardware(key: &str) -> bool {
    key == "hardware" || key.starts_with("hardware.")
}

/// The fastest of cells that differ in hardware alone; all of them while one isn't judged.
fn speaks_for(group: &[&CellSummary]) -> Vec<CellSummary> {
    let judged = |cell: &&&CellSummary| cell.speed.ratio().is_some();
    let rate = |cell: &CellSummary| cell.speed.candidate.figure.unwrap_or(0.0);
    let fastest = group.iter().filter(judged).max_by(|a, b| rate(a).total_cmp(&rate(b)));
    match fastest {
        Some(fastest) if group.iter().all(|cell| judged(&cell)) => vec![(*fastest).clone()],
        _ => group.iter().map(|cell| (*cell).clone()).collect(),
    }
}

/// Reproducibility over the cells that were planned with repeats: it is a property of the engine, not of each cell.
pub(super) fn over_repeated(cells: &[CellSummary], documents: &ExperimentDocuments, absent: &[String]) -> Judgement {
    let repeated: Vec<CellSummary> = cells.iter().filter(|cell| repeats_planned(cell, documents)).cloned().collect();
    let rested_on = if repeated.is_empty() { cells } else { &repeated };
    over(rested_on, |cell| &cell.reproducibility, absent, "reproducibility")
}

fn repeats_planned(cell: &CellSummary, documents: &ExperimentDocuments) -> bool {
    let runs: Vec<_> = documents.runs.iter().filter(|run| cell.runs.contains(&run.plan.run_id)).collect();
    super::reproducibility::has_repeats(&runs)
}

fn worst_of(judged: &[(&str, &Judgement)], cells: usize) -> Option<Judgement> {
    let mut worst: Option<(&str, &Judgement)> = None;
    for (label, judgement) in judged {
        if worst.is_none_or(|(_, worst)| severity(judgement.verdict()) > severity(worst.verdict())) {
            worst = Some((label, judgement));
        }
    }
    let (label, judgement) = worst?;
    if judgement.verdict() == Verdict::Off || judged.len() == 1 && cells == 1 {
        return Some(judgement.clone());
    }
    let alike = judged.iter().filter(|(_, other)| other.verdict() == judgement.verdict()).count();
    let whole = judged.len();
    let reason = if judged.len() == 1 {
        format!("{label}: {}", judgement.reason)
    } else if alike == whole {
        format!("all {whole} cells alike; {label}: {}", judgement.reason)
    } else {
        format!("{alike} of {whole} cells, the worst verdict among them; {label}: {}", judgement.reason)
    };
    Some(Judgement { reason, ..judgement.clone() })
}
