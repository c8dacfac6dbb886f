//! Groups runs into matrix cells and judges each.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::claims::{self, Claims, Lender};
use super::evidence::Sweep;
use super::quality::Metric;
use super::statistics::{self, rounded};
use super::{
    BaselineEvidence, CONFIDENCE, Rules, ScorecardError, arms, control, drift, fallbacks, quality, ranking,
    reproducibility, speed, timing,
};
use nanochat_artifacts::{
    CellSummary, ExperimentDocuments, ExperimentRecord, Judgement, Ranking, RunDocuments, SpeedClaim, Tables, Verdict,
};
use nanochat_plan::{ARM_AXIS, RunPlan};

/// All cells in the order in which the plan names them, each with its verdicts.
pub(super) fn judged(
    documents: &ExperimentDocuments,
    tables: &Tables,
    baseline: &BaselineEvidence,
    rules: Rules<'_>,
) -> Result<(Vec<CellSummary>, Vec<Ranking>), ScorecardError> {
    let groups = grouped(&documents.runs);
    let record = &documents.record;
    let claims = match rules {
        Rules::V1 => None,
        Rules::V2(lenders) => {
            Some(Claims { arms: documents.arms.as_ref(), ..claims_of(record, &groups, baseline, lenders) })
        }
    };
    let judged = (0..groups.len()).into_par_iter().map(|place| {
        let runs = groups.get(place).map(Vec::as_slice).unwrap_or_default();
        judge(runs, documents, tables, baseline, claims.as_ref().map(|claims| (claims, place)))
    });
    let mut cells = judged.collect::<Result<Vec<CellSummary>, ScorecardError>>()?;
    let rankings = claims.as_ref().map(ranking::rankings).unwrap_or_default();
    match rankings.is_empty() {
        true => mark_best(&mut cells, record.quality.metric),
        false => mark_first(&mut cells, &rankings),
    }
    Ok((cells, rankings))
}

/// What rules v2 judge all cells by.
fn claims_of<'a>(
    record: &'a ExperimentRecord,
    groups: &'a [Vec<&'a RunDocuments>],
    evidence: &'a BaselineEvidence,
    lenders: &'a [Lender],
) -> Claims<'a> {
    Claims {
        rule: &record.quality,
        cells: groups,
        sweep: Sweep::new(groups.iter().map(|runs| claims::sample(runs, record.quality.metric)).collect()),
        controls: controls(record, groups),
        evidence,
        commit: &record.baseline_commit,
        arms: None,
        lenders,
    }
}

/// The control of every cell: the one with the same values of the other axes, where the control is an arm and so has a cell
/// for each of them; else the only one.
fn controls(record: &ExperimentRecord, groups: &[Vec<&RunDocuments>]) -> Vec<Option<usize>> {
    let is_control =
        |runs: &Vec<&RunDocuments>| runs.first().is_some_and(|run| control::is_control(record.control.as_ref(), run));
    let others = |plan: &RunPlan| {
        let named = |key: &String| record.control.as_ref().is_some_and(|control| control.contains_key(key));
        plan.axes.iter().filter(|(key, _)| !named(key)).map(axis).collect::<Vec<_>>()
    };
    let any = groups.iter().position(is_control);
    let of_cell = |cell: &Vec<&RunDocuments>| {
        let own = cell.first().map(|run| others(&run.plan)).unwrap_or_default();
        // A cell may have axes that vary in its arm alone.
        let same = |runs: &Vec<&RunDocuments>| {
            let theirs = runs.first().map(|run| others(&run.plan)).unwrap_or_default();
            is_control(runs) && theirs.iter().all(|axis| own.contains(axis))
        };
        groups.iter().position(same).or(any)
    };
    groups.iter().map(of_cell).collect()
}

/// Runs by the values of their axes, in order of first appearance.
fn grouped(runs: &[RunDocuments]) -> Vec<Vec<&RunDocuments>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&RunDocuments>> = Vec::new();
    for run in runs {
        let place = *places.entry(label(run)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// `model.depth=12`; an arm by its name alone.
pub(super) fn axis((key, value): (&String, &serde_json::Value)) -> String {
    match value {
        serde_json::Value::String(name) if key == ARM_AXIS => name.clone(),
        serde_json::Value::String(text) => format!("{key}={text}"),
        other => format!("{key}={}", super::answer::number(other)),
    }
}

/// `model.depth=12, optimizer.matrix_lr=0.02`.
pub(super) fn label(run: &RunDocuments) -> String {
    let axes: Vec<String> = run.plan.axes.iter().map(axis).collect();
    if axes.is_empty() { "all runs".to_string() } else { axes.join(", ") }
}

fn judge(
    runs: &[&RunDocuments],
    documents: &ExperimentDocuments,
    tables: &Tables,
    baseline: &BaselineEvidence,
    claims: Option<(&Claims<'_>, usize)>,
) -> Result<CellSummary, ScorecardError> {
    let record = &documents.record;
    let commit = &record.baseline_commit;
    let bpb = arms::candidate(runs, Metric::ValBpb).figures();
    let summaries = || runs.iter().filter_map(|run| run.finished());
    let rates: Vec<f64> = summaries().filter_map(|summary| summary.tokens_per_second).collect();
    let interval = statistics::mean_interval(&bpb, CONFIDENCE);
    let mut seeds: Vec<u64> = runs.iter().map(|run| run.plan.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let control = runs.first().is_some_and(|run| control::is_control(record.control.as_ref(), run));
    let (quality, answer) = match claims {
        None => (quality::judge(runs, &record.quality, baseline, commit), None),
        Some((claims, place)) => claims.quality(place),
    };
    let answer = answer.filter(|_| !control);
    let in_session = claims.and_then(|(claims, place)| timed_together(claims, place, documents));
    let (speed, speed_variants) = match in_session {
        Some(timed) => timed,
        None => {
            let timed = speed::judge(runs, &record.speed, baseline, commit, tables)?;
            if claims.is_some() { session_missing(record, claims::speed(&record.speed, timed)) } else { timed }
        }
    };
    let (quality, speed) = (fallbacks::named(quality, runs, documents), fallbacks::named(speed, runs, documents));
    let (quality, speed, speed_variants) = match control {
        true => (itself(quality), itself(speed), Vec::new()),
        false => (quality, speed, speed_variants),
    };
    Ok(CellSummary {
        axes: runs.first().map(|run| run.plan.axes.clone()).unwrap_or_default(),
        label: runs.first().map(|run| label(run)).unwrap_or_default(),
        runs: runs.iter().map(|run| run.plan.run_id.clone()).collect(),
        seeds,
        planned: runs.len() as u64,
        finished: summaries().count() as u64,
        planned_tokens: runs.first().map_or(0, |run| run.plan.total_tokens),
        spent_tokens: runs.iter().filter_map(|run| run.summary.as_ref().map(|summary| summary.tokens)).sum(),
        best: false,
        control,
        answer,
        quality,
        speed,
        speed_variants,
        reproducibility: reproducibility::judge(runs, &record.reproducibility),
        drift: record.drift.as_ref().map(|rule| drift::judge(runs, rule, tables)).transpose()?,
        mean_val_bpb: statistics::mean(&bpb).map(rounded),
        std_val_bpb: statistics::variance(&bpb).map(|variance| rounded(variance.sqrt())),
        interval_val_bpb: interval.as_ref().map(quality::rounded_interval),
        tokens_per_second: statistics::median(&rates).map(rounded),
        peak_rss_bytes: summaries().map(|summary| summary.peak_memory_bytes()).max(),
    })
}

/// Cells that are compared with a cell, without a session and without anything to compare their runs by: the session is missing.
fn session_missing(record: &ExperimentRecord, judged: speed::Judged) -> speed::Judged {
    let (judgement, variants) = judged;
    let is_open = judgement.verdict() == Verdict::NotComparable && variants.is_empty() && record.control.is_some();
    if !is_open {
        return (judgement, variants);
    }
    let reason = "speed is judged from a timing session, and there is none; `nanochat run` makes one";
    (Judgement { candidate: judgement.candidate, ..Judgement::missing(&judgement.metric, reason) }, variants)
}

/// Speed from the experiment's timing session; none where it has none, or claims nothing of speed.
fn timed_together(claims: &Claims<'_>, place: usize, documents: &ExperimentDocuments) -> Option<speed::Judged> {
    let (record, rule) = (documents.timing.as_ref()?, &documents.record.speed);
    let claim = rule.claim.filter(|claim| *claim != SpeedClaim::Off)?;
    let control = claims.controls.get(place).copied().flatten()?;
    let (runs, others) = (claims.cells.get(place)?, claims.cells.get(control)?);
    Some(timing::judge(record, rule, claim, runs, others))
}

/// The judgement of the control, which isn't held against itself.
fn itself(judgement: Judgement) -> Judgement {
    if judgement.verdict() == Verdict::Off {
        return judgement;
    }
    Judgement {
        candidate: judgement.candidate,
        ..Judgement::missing(&judgement.metric, "the control: the other cells are held against it")
    }
}

/// Marks the first cell of each ranking.
fn mark_first(cells: &mut [CellSummary], rankings: &[Ranking]) {
    for first in rankings.iter().filter_map(|ranking| ranking.cells.first()) {
        if let Some(cell) = cells.iter_mut().find(|cell| cell.label == first.label) {
            cell.best = true;
        }
    }
}

/// Marks the cell with the best mean of the metric, when there are cells to choose from.
fn mark_best(cells: &mut [CellSummary], metric: Metric) {
    let better = |a: f64, b: f64| if metric.lower_is_better() { a < b } else { a > b };
    let mut best: Option<(usize, f64)> = None;
    for (place, cell) in cells.iter().enumerate() {
        if let Some(value) = cell.quality.candidate.figure
            && best.is_none_or(|(_, leader)| better(value, leader))
        {
            best = Some((place, value));
        }
    }
    let candidates = cells.iter().filter(|cell| cell.quality.candidate.figure.is_some()).count();
    if let Some(cell) = best.filter(|_| candidates > 1).and_then(|(place, _)| cells.get_mut(place)) {
        cell.best = true;
    }
}
