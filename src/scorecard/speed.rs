//! Speed: the ratio of throughputs, candidate over baseline, on one machine only.
//!
//! A throughput recorded on another machine is context, never a verdict. With at least three runs an arm the interval is
//! Welch's on the logarithms of the runs' medians; with fewer, a block bootstrap over the step times inside the runs, which
//! doesn't see the noise between runs and says so. A difference below the minimum effect counts as none: the ratio is
//! held against `min_ratio × (1 − minimum effect)`.

use std::collections::BTreeMap;

use super::budget::{digits, shape_differences};
use super::quality::{plural, recorded_runs, rounded_interval, undecided, unfinished};
use super::statistics::{self, rounded};
use super::{BaselineEvidence, CONFIDENCE, RUNS_FOR_INTERVAL};
use crate::artifacts::{BaselineRun, Judgement, LAST_WARMUP_STEP, RunDocuments, SpeedRule, Verdict};

/// Differences of throughput below this share count as none.
pub const MINIMUM_EFFECT: f64 = 0.005;
/// Draws of the bootstrap.
pub(super) const DRAWS: usize = 2000;
/// Seed of the bootstrap, so that a scorecard can be recomputed.
pub(super) const SEED: u64 = 0x6e61_6e6f_6368_6174;

/// Judges one cell. `seconds` holds the steady step times of its runs, by run id.
pub(super) fn judge(
    runs: &[&RunDocuments],
    rule: &SpeedRule,
    evidence: &BaselineEvidence,
    commit: &str,
    seconds: &BTreeMap<String, Vec<f64>>,
) -> Judgement {
    let mut judgement = undecided(&rule.metric, Verdict::Missing, "");
    judgement.threshold = Some(rule.min_ratio);
    judgement.minimum_effect = Some(MINIMUM_EFFECT);
    let finished: Vec<_> = runs.iter().copied().filter(|run| run.finished().is_some()).collect();
    judgement.candidate_runs = finished.len() as u64;
    judgement.candidate = statistics::median(&throughputs(&finished)).map(rounded);
    let recorded = match recorded_runs(evidence, commit) {
        Ok(recorded) => recorded,
        Err((verdict, reason)) => return Judgement { verdict, reason, ..judgement },
    };
    if let Some(reason) = unfinished(runs) {
        return Judgement { reason, ..judgement };
    }
    let same_shape: Vec<_> = match finished.first() {
        Some(run) => recorded.iter().copied().filter(|base| shape_differences(&run.plan, base).is_empty()).collect(),
        None => Vec::new(),
    };
    if same_shape.is_empty() {
        let differences =
            finished.first().zip(recorded.first()).map(|(run, base)| shape_differences(&run.plan, base).join(", "));
        let verdict = if differences.is_some() { Verdict::NotComparable } else { Verdict::Missing };
        let reason = differences.map_or("the recorded baseline has no finished run".to_string(), |differences| {
            format!("no recorded baseline run has this shape and batch; the first differs in {differences}")
        });
        return Judgement { verdict, reason, ..judgement };
    }
    judgement.baseline_runs = same_shape.len() as u64;
    let rates: Vec<f64> = same_shape.iter().filter_map(|base| base.tokens_per_second).collect();
    judgement.baseline = statistics::median(&rates).map(rounded);
    match on_one_machine(&finished, &same_shape) {
        Err(reason) => Judgement { verdict: Verdict::NotComparable, reason, ..judgement },
        Ok((ours, theirs)) => compare(judgement, &ours, &theirs, rule, seconds),
    }
}

fn throughputs(runs: &[&RunDocuments]) -> Vec<f64> {
    runs.iter().filter_map(|run| run.finished().and_then(|summary| summary.tokens_per_second)).collect()
}

/// The runs of both arms that ran on one and the same machine, or why there are none.
fn on_one_machine<'a, 'b>(
    finished: &[&'a RunDocuments],
    recorded: &[&'b BaselineRun],
) -> Result<(Vec<&'a RunDocuments>, Vec<&'b BaselineRun>), String> {
    if let Some(run) = finished.iter().find(|run| run.environment.as_ref().is_some_and(|e| !e.hardware_matches_profile))
    {
        return Err(format!(
            "`{}` ran on a machine that isn't what the profile `{}` says (the mismatch was allowed)",
            run.plan.run_id, run.plan.hardware
        ));
    }
    let machine = |run: &RunDocuments| run.environment.as_ref().map(|environment| environment.machine_id.clone());
    for base in recorded {
        let Some(id) = &base.machine_id else { continue };
        let ours: Vec<_> = finished.iter().copied().filter(|run| machine(run).as_ref() == Some(id)).collect();
        if !ours.is_empty() {
            let theirs = recorded.iter().copied().filter(|other| other.machine_id.as_ref() == Some(id)).collect();
            return Ok((ours, theirs));
        }
    }
    let here = finished.first().and_then(|run| machine(run)).unwrap_or_else(|| "unknown".into());
    let there = recorded.iter().find_map(|base| base.machine_id.clone());
    Err(match there {
        Some(there) => format!(
            "the baseline was timed on machine {}, these runs on {}: a throughput recorded elsewhere is context, not evidence",
            digits(&there),
            digits(&here)
        ),
        None => "the recording doesn't say on which machine it was timed".to_string(),
    })
}

/// Compares arms on one machine.
fn compare(
    mut judgement: Judgement,
    ours: &[&RunDocuments],
    theirs: &[&BaselineRun],
    rule: &SpeedRule,
    seconds: &BTreeMap<String, Vec<f64>>,
) -> Judgement {
    judgement.candidate_runs = ours.len() as u64;
    judgement.baseline_runs = theirs.len() as u64;
    let our_rates = throughputs(ours);
    let their_rates: Vec<f64> = theirs.iter().filter_map(|base| base.tokens_per_second).collect();
    judgement.candidate = statistics::median(&our_rates).map(rounded);
    judgement.baseline = statistics::median(&their_rates).map(rounded);
    let over_runs = our_rates.len().min(their_rates.len()) >= RUNS_FOR_INTERVAL;
    let estimate = if over_runs {
        judgement.method = "welch_log_ratio".to_string();
        statistics::welch_log_ratio(&our_rates, &their_rates, CONFIDENCE)
    } else {
        judgement.method = "bootstrap".to_string();
        let our_steps: Vec<_> = ours.iter().filter_map(|run| seconds.get(&run.plan.run_id).cloned()).collect();
        let their_steps: Vec<_> =
            theirs.iter().map(|base| steady(&base.step_seconds)).filter(|s| !s.is_empty()).collect();
        let complete = our_steps.len() == ours.len() && their_steps.len() == theirs.len();
        complete.then(|| bootstrap(&our_steps, &their_steps, ours, theirs)).flatten()
    };
    let Some(estimate) = estimate.filter(|estimate| estimate.value.is_finite()) else {
        judgement.method = "none".to_string();
        judgement.reason = "the time of each step is not recorded on both sides; run or record it again".to_string();
        return judgement;
    };
    judgement.ratio = Some(rounded(estimate.value));
    judgement.interval = Some(rounded_interval(&estimate));
    judgement.confidence = Some(CONFIDENCE);
    let bound = rule.min_ratio * (1.0 - MINIMUM_EFFECT);
    judgement.verdict = match () {
        () if estimate.low >= bound => Verdict::Pass,
        () if estimate.high < bound => Verdict::Fail,
        () => Verdict::Inconclusive,
    };
    if judgement.verdict == Verdict::Inconclusive && over_runs {
        judgement.more_runs = deciding_runs(&our_rates, &their_rates, (estimate.value / bound).ln().abs());
    }
    judgement.reason = sentence(&judgement, &estimate, rule, bound);
    judgement
}

/// Step times through the bootstrap, scaled so that a step of other size counts by its tokens.
fn bootstrap(
    our_steps: &[Vec<f64>],
    their_steps: &[Vec<f64>],
    ours: &[&RunDocuments],
    theirs: &[&BaselineRun],
) -> Option<statistics::Estimated> {
    let per_token = |steps: &[f64], batch: u64| steps.iter().map(|seconds| seconds / batch as f64).collect::<Vec<_>>();
    let our_steps: Vec<_> =
        our_steps.iter().zip(ours).map(|(s, run)| per_token(s, run.plan.total_batch_size)).collect();
    let their_steps: Vec<_> =
        their_steps.iter().zip(theirs).map(|(s, base)| per_token(s, base.total_batch_size)).collect();
    statistics::bootstrap_speed_ratio(&our_steps, &their_steps, DRAWS, CONFIDENCE, SEED)
}

/// The steps of a recorded run that count, as for our own runs.
fn steady(seconds: &[f64]) -> Vec<f64> {
    let first = if seconds.len() > LAST_WARMUP_STEP as usize + 1 {
        LAST_WARMUP_STEP as usize + 1
    } else {
        seconds.len().min(2).saturating_sub(1)
    };
    seconds.get(first..).unwrap_or_default().to_vec()
}

fn deciding_runs(ours: &[f64], theirs: &[f64], distance: f64) -> Option<u64> {
    let logs = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let (a, b) = (statistics::variance(&logs(ours))?, statistics::variance(&logs(theirs))?);
    let needed = statistics::runs_to_resolve(distance, ((a + b) / 2.0).sqrt(), CONFIDENCE)?;
    Some(needed.saturating_sub(ours.len().min(theirs.len()) as u64).max(1))
}

fn sentence(judgement: &Judgement, estimate: &statistics::Estimated, rule: &SpeedRule, bound: f64) -> String {
    let how = match judgement.method.as_str() {
        "bootstrap" => "bootstrap over the steps inside the runs, blind to noise between runs",
        _ => "Welch's t on logarithms",
    };
    let relation = match judgement.verdict {
        Verdict::Pass => "at or above".to_string(),
        Verdict::Fail => "below".to_string(),
        _ => match judgement.more_runs {
            Some(more) => format!("across (about {} more an arm would decide)", plural(more as usize, "run")),
            None => "across (at least 3 runs an arm would give an interval over runs)".to_string(),
        },
    };
    format!(
        "the ratio {:.4} over {} against {} ({how}) has the 95% interval [{:.4}, {:.4}], {relation} {bound:.4} (at least {} asked, less the minimum effect of {}%)",
        estimate.value,
        plural(judgement.candidate_runs as usize, "run"),
        plural(judgement.baseline_runs as usize, "baseline run"),
        estimate.low,
        estimate.high,
        rule.min_ratio,
        MINIMUM_EFFECT * 100.0
    )
}
