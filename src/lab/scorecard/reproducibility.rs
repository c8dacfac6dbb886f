//! Reproducibility: runs that share a plan must come out the same.
//!
//! `bitwise`: same seed, machine, threads and build: equal weights, loss trace and evaluations. `numeric`: on whatever
//! machine or thread count, final bits per byte within a stated bound. `statistical`: within what seeds alone do, as a 95%
//! prediction interval over at least three other seeds. A cell without repeats is `missing`.

use std::collections::BTreeMap;

use super::quality::plural;
use super::statistics::{self, rounded};
use super::{CONFIDENCE, RUNS_FOR_INTERVAL};
use nanochat_artifacts::{
    ArmFigure, Bound, Environment, EvalRow, Finding, Judgement, Method, Outcome, ReproducibilityRule, RunDocuments,
    Summary, read_evals,
};
use nanochat_plan::ReproducibilityLevel;

/// Largest relative difference of final bits per byte that counts as numerically the same: a fourth of the default
/// quality tolerance, some twice the noise between seeds that published runs show.
pub const NUMERIC_BOUND: f64 = 5e-4;

/// A finished run with all that repeats are compared on.
struct Finished<'a> {
    run: &'a RunDocuments,
    summary: &'a Summary,
}

/// Judges one cell.
pub(super) fn judge(runs: &[&RunDocuments], rule: &ReproducibilityRule) -> Judgement {
    let metric = rule.require.word();
    let groups = repeated(runs);
    if groups.is_empty() {
        let reason = "no run is repeated in this cell: ask for it by `reproducibility: { repeats: 1 }`";
        return Judgement::missing(metric, reason);
    }
    let mut judgement: Option<Judgement> = None;
    for group in groups.values() {
        let next = judge_group(metric, group, runs, rule.require);
        if judgement.as_ref().is_none_or(|worst| super::severity(next.verdict()) > super::severity(worst.verdict())) {
            judgement = Some(next);
        }
    }
    judgement.unwrap_or_else(|| Judgement::missing(metric, "no run is repeated"))
}

/// Whether a cell was planned with repeats.
pub(super) fn has_repeats(runs: &[&RunDocuments]) -> bool {
    !repeated(runs).is_empty()
}

/// Runs that share a plan, where there are at least two.
fn repeated<'a>(runs: &[&'a RunDocuments]) -> BTreeMap<&'a str, Vec<&'a RunDocuments>> {
    let mut groups: BTreeMap<&str, Vec<&RunDocuments>> = BTreeMap::new();
    for run in runs {
        groups.entry(run.plan.plan_hash.as_str()).or_default().push(run);
    }
    groups.retain(|_, group| group.len() > 1);
    groups
}

fn judge_group(
    metric: &str,
    group: &[&RunDocuments],
    cell: &[&RunDocuments],
    level: ReproducibilityLevel,
) -> Judgement {
    let mut judgement = Judgement::missing(metric, "");
    if let Some((run, why)) = group.iter().find_map(|run| run.unfinished_because().map(|why| (run, why))) {
        judgement.reason = format!("`{}` {why}; `nanochat run` takes up what is missing", run.plan.run_id);
        return judgement;
    }
    let mut finished: Vec<_> =
        group.iter().filter_map(|run| run.finished().map(|summary| Finished { run, summary })).collect();
    finished.sort_by_key(|one| one.run.plan.repeat);
    let Some((first, repeats)) = finished.split_first() else { return judgement };
    judgement.baseline = ArmFigure { figure: first.summary.final_val_bpb, runs: 1 };
    let apart = |repeat: &Finished<'_>| Some((repeat.summary.final_val_bpb? - first.summary.final_val_bpb?).abs());
    let farthest = repeats.iter().max_by(|a, b| apart(a).unwrap_or(0.0).total_cmp(&apart(b).unwrap_or(0.0)));
    let figure = farthest.and_then(|repeat| repeat.summary.final_val_bpb);
    judgement.candidate = ArmFigure { figure, runs: repeats.len() as u64 };
    let found = Finding { difference: farthest.and_then(apart).map(rounded), ..Finding::default() };
    match level {
        ReproducibilityLevel::Bitwise => bitwise(judgement, found, first, repeats),
        ReproducibilityLevel::Numeric => numeric(judgement, found, first),
        ReproducibilityLevel::Statistical => statistical(judgement, found, first, cell),
    }
}

fn bitwise(mut judgement: Judgement, found: Finding, first: &Finished<'_>, repeats: &[Finished<'_>]) -> Judgement {
    let found = Finding { method: Method::Bitwise, ..found };
    judgement.bound = Some(Bound::at(0.0));
    let mut checked = Vec::new();
    for repeat in repeats {
        if let Some(reason) = copied(first, repeat) {
            return Judgement { outcome: Outcome::Missing(Some(found)), reason, ..judgement };
        }
        if let Some(reason) = other_conditions(first.run, repeat.run) {
            return Judgement { outcome: Outcome::NotComparable(Some(found)), reason, ..judgement };
        }
        match differences(first, repeat) {
            Err(reason) => return Judgement { outcome: Outcome::Missing(Some(found)), reason, ..judgement },
            Ok((differing, _)) if !differing.is_empty() => {
                judgement.outcome = Outcome::Fail(found);
                judgement.reason = format!(
                    "`{}` and its repeat `{}` differ in {}",
                    first.run.plan.run_id,
                    repeat.run.plan.run_id,
                    differing.join(", ")
                );
                return judgement;
            }
            Ok((_, same)) => checked = same,
        }
    }
    judgement.outcome = Outcome::Pass(found);
    judgement.reason = format!(
        "{} of `{}` on the same machine and build: {} are equal bit for bit",
        plural(repeats.len(), "repeat"),
        first.run.plan.run_id,
        checked.join(", ")
    );
    judgement
}

/// Why a run is no repeat of another: their tables hold measured times, which no two runs have in common.
fn copied(first: &Finished<'_>, repeat: &Finished<'_>) -> Option<String> {
    const TIMED: &str = "steps.parquet";
    let table = |one: &Finished<'_>| one.summary.files_sha256.get(TIMED).cloned();
    let same = table(first).is_some_and(|hash| Some(hash) == table(repeat))
        && first.summary.steps > 0
        && first.summary.arm.is_none();
    same.then(|| {
        format!(
            "`{}` has the {TIMED} of `{}`, measured times included: it is a copy and no repeat",
            repeat.run.plan.run_id, first.run.plan.run_id
        )
    })
}

/// Why two runs can't be expected to agree bit for bit; none when they can.
fn other_conditions(first: &RunDocuments, repeat: &RunDocuments) -> Option<String> {
    let (Some(a), Some(b)) = (&first.environment, &repeat.environment) else {
        return Some("a run doesn't say where it was made (no environment.json)".to_string());
    };
    let differs = |what: &str, get: fn(&Environment) -> String| (get(a) != get(b)).then(|| what.to_string());
    let found: Vec<String> = [
        differs("machines", |e| e.machine_id.clone()),
        differs("builds of nanochat", |e| e.binary_sha256.clone()),
        differs("thread counts", |e| e.threads.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let repeat_id = &repeat.plan.run_id;
    (!found.is_empty()).then(|| {
        format!(
            "`{}` and `{repeat_id}` ran on different {}: bit equality is asked of equal ones",
            first.plan.run_id,
            found.join(" and ")
        )
    })
}

/// What differs, and what is the same, between two runs; or which evidence is lacking.
fn differences(first: &Finished<'_>, repeat: &Finished<'_>) -> Result<(Vec<String>, Vec<&'static str>), String> {
    let (a, b) = (first.summary, repeat.summary);
    let mut differing = Vec::new();
    let mut same = Vec::new();
    let mut compare = |what: &'static str, a: Option<&String>, b: Option<&String>| match (a, b) {
        (Some(a), Some(b)) if a == b => {
            same.push(what);
            Ok(())
        }
        (Some(_), Some(_)) => {
            differing.push(what.to_string());
            Ok(())
        }
        _ => Err(format!("the hash of {what} is not recorded; run it again")),
    };
    compare("the loss trace", a.loss_trace_sha256.as_ref(), b.loss_trace_sha256.as_ref())?;
    compare("the final weights", a.weights_sha256.as_ref(), b.weights_sha256.as_ref())?;
    let evals = |one: &Finished<'_>| read_evals(&one.run.folder.evals()).map_err(|e| e.to_string());
    let (ours, theirs) = (evals(first)?, evals(repeat)?);
    let bits = |rows: &[EvalRow]| {
        rows.iter().map(|r| (r.step, r.val_bpb.map(f64::to_bits), r.core_metric.map(f64::to_bits))).collect::<Vec<_>>()
    };
    match bits(&ours).iter().zip(bits(&theirs)).find(|(a, b)| **a != *b) {
        Some((row, _)) => differing.push(format!("the evaluation at step {}", row.0)),
        None if ours.len() != theirs.len() => differing.push("the number of evaluations".to_string()),
        None => same.push("all evaluations"),
    }
    Ok((differing, same))
}

fn numeric(mut judgement: Judgement, found: Finding, first: &Finished<'_>) -> Judgement {
    let found = Finding { method: Method::Numeric, ..found };
    let (Some(difference), Some(reference)) = (found.difference, judgement.baseline.figure) else {
        judgement.outcome = Outcome::Missing(Some(found));
        judgement.reason = "the runs have no final bits per byte".to_string();
        return judgement;
    };
    let bound = NUMERIC_BOUND * reference.abs();
    judgement.bound = Some(Bound::at(rounded(bound)));
    judgement.outcome = found.within(difference <= bound);
    judgement.reason = format!(
        "the farthest repeat of `{}` lies {difference:.3e} bits per byte away, {} the bound of {bound:.3e} ({}%)",
        first.run.plan.run_id,
        if difference <= bound { "within" } else { "beyond" },
        NUMERIC_BOUND * 100.0
    );
    judgement
}

fn statistical(mut judgement: Judgement, found: Finding, first: &Finished<'_>, cell: &[&RunDocuments]) -> Judgement {
    let found = Finding { method: Method::Statistical, ..found };
    judgement.outcome = Outcome::Missing(Some(found.clone()));
    let seeds: Vec<f64> = cell
        .iter()
        .filter(|run| run.plan.repeat == 0)
        .filter_map(|run| run.finished().and_then(|summary| summary.final_val_bpb))
        .collect();
    let (Some(repeat), true) = (judgement.candidate.figure, seeds.len() >= RUNS_FOR_INTERVAL) else {
        judgement.reason = format!(
            "the noise between seeds needs at least {RUNS_FOR_INTERVAL} seeds in the cell, there are {}",
            seeds.len()
        );
        return judgement;
    };
    let count = seeds.len() as f64;
    let (Some(center), Some(variance)) = (statistics::mean(&seeds), statistics::variance(&seeds)) else {
        return judgement;
    };
    let quantile = statistics::student_t_quantile(0.5 + CONFIDENCE / 2.0, count - 1.0);
    let reach = quantile * (variance * (1.0 + 1.0 / count)).sqrt();
    let distance = (repeat - center).abs();
    judgement.bound = Some(Bound::at(rounded(reach)));
    judgement.outcome = Finding { confidence: Some(CONFIDENCE), ..found }.within(distance <= reach);
    judgement.reason = format!(
        "the farthest repeat of `{}` lies {distance:.3e} bits per byte from the mean of {} seeds, {} their 95% prediction interval of ±{reach:.3e}",
        first.run.plan.run_id,
        seeds.len(),
        if distance <= reach { "within" } else { "beyond" }
    );
    judgement
}
