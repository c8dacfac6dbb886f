//! Quality: the candidate is no worse than the baseline by more than the tolerance.
//!
//! With at least three independent runs an arm: non-inferiority on the two-sided 95% interval of the difference of
//! means, paired by seed when both arms have the same seeds, else Welch's. The verdict is `pass` when the whole interval lies on
//! the good side of the tolerance, `fail` when it lies on the bad side, `inconclusive` when it straddles. (So either
//! error has a rate of at most 2.5%.) With fewer runs: a comparison of points, labelled so.

use super::arms::{self, Arm};
use super::budget::{Match, quality_match};
use super::statistics::{self, Estimated, rounded};
use super::{BaselineEvidence, CONFIDENCE, RUNS_FOR_INTERVAL};
use nanochat_artifacts::{
    BaselineRun, Bound, Finding, Judgement, Method, Outcome, QualityRule, RunDocuments, RunStatus, Verdict,
};
pub use nanochat_plan::QualityMetric as Metric;

/// Judges one cell.
pub(super) fn judge(
    runs: &[&RunDocuments],
    rule: &QualityRule,
    evidence: &BaselineEvidence,
    commit: &str,
) -> Judgement {
    let metric = rule.metric;
    let candidate = arms::candidate(runs, metric);
    let mut judgement = Judgement::missing(metric.word(), "");
    judgement.candidate = candidate.figure();
    judgement.bound = rule.absolute.map(|bound| Bound::at(signed(bound, metric)));
    let (matched, note) = match matched_baseline(runs, evidence, commit) {
        Ok(matched) => matched,
        Err((outcome, reason)) => return Judgement { outcome, reason, ..judgement },
    };
    let baseline = arms::baseline(&matched, metric).with_note(note);
    let Some(reference) = statistics::mean(&baseline.figures()) else {
        judgement.reason = format!("the recorded baseline has no {}; record one that was evaluated", metric);
        return judgement;
    };
    let tolerance = rule.absolute.unwrap_or(0.0) + rule.relative.unwrap_or(0.0) * reference.abs();
    judgement.baseline = baseline.figure();
    judgement.bound = Some(Bound::at(rounded(signed(tolerance, metric))));
    if let Some(reason) = unfinished(runs) {
        judgement.reason = reason;
        return judgement;
    }
    if candidate.values.is_empty() {
        judgement.reason = format!("no run has a {}; ask for it in the spec's `eval`", metric);
        return judgement;
    }
    compare(judgement, &candidate, &baseline, tolerance, metric, evidence.noun())
}

/// The bound that the difference is held against: above zero where less is better, below where more is.
pub(super) fn signed(tolerance: f64, metric: Metric) -> f64 {
    if metric.lower_is_better() { tolerance } else { -tolerance }
}

/// Says which planned runs didn't finish, and why; none when all did.
pub(super) fn unfinished(runs: &[&RunDocuments]) -> Option<String> {
    let open: Vec<String> = runs
        .iter()
        .filter_map(|run| run.unfinished_because().map(|why| format!("`{}` {why}", run.plan.run_id)))
        .collect();
    let first = open.first()?;
    let others = if open.len() > 1 { format!(" (and {} more)", open.len() - 1) } else { String::new() };
    Some(format!(
        "{} of {} planned runs are finished: {first}{others}; `nanochat run` takes up what is missing",
        runs.len() - open.len(),
        runs.len()
    ))
}

/// The baseline's runs that match all of ours in budget, those in our precision where there are any, with a remark else.
pub(super) fn matched_baseline<'b>(
    runs: &[&RunDocuments],
    evidence: &'b BaselineEvidence,
    commit: &str,
) -> Result<(Vec<&'b BaselineRun>, Option<String>), (Outcome, String)> {
    let (matched, note) = of_same_precision(runs, matched_runs(runs, evidence, commit)?);
    // Between cells the axes tell of another precision.
    Ok((matched, note.filter(|_| !matches!(evidence, BaselineEvidence::Control(_)))))
}

/// The baseline's runs that match all of ours in budget, or the verdict that there are none.
fn matched_runs<'b>(
    runs: &[&RunDocuments],
    evidence: &'b BaselineEvidence,
    commit: &str,
) -> Result<Vec<&'b BaselineRun>, (Outcome, String)> {
    let recorded = recorded_runs(evidence, commit)?;
    let finished: Vec<_> = runs.iter().filter_map(|run| run.finished().map(|summary| (&run.plan, summary))).collect();
    if finished.is_empty() {
        let reason = unfinished(runs).unwrap_or_else(|| "no run is finished".to_string());
        return Err((Outcome::Missing(None), reason));
    }
    let mut matched = Vec::new();
    let mut nearest: Option<Vec<String>> = None;
    let mut unproven = None;
    for baseline in recorded {
        let matches = finished.iter().map(|(plan, summary)| quality_match(plan, summary, baseline));
        let worst = matches.max_by_key(|found| match found {
            Match::Matched => 0,
            Match::Unproven(_) => 1,
            Match::Differs(differences) => 1 + differences.len(),
        });
        match worst {
            Some(Match::Matched) => matched.push(baseline),
            Some(Match::Unproven(what)) => unproven = Some(what),
            Some(Match::Differs(found)) if nearest.as_ref().is_none_or(|best| found.len() < best.len()) => {
                nearest = Some(found)
            }
            _ => {}
        }
    }
    match (matched.is_empty(), unproven, nearest) {
        (false, ..) => Ok(matched),
        (true, Some(what), _) => Err((
            Outcome::Missing(None),
            format!("the recorded baseline doesn't say {what}; record it again with `nanochat baseline run`"),
        )),
        (true, None, Some(differences)) => Err((
            Outcome::NotComparable(None),
            format!("no recorded baseline run has this budget; the nearest differs in {}", differences.join(", ")),
        )),
        (true, None, None) => Err((Outcome::Missing(None), "the recorded baseline has no finished run".to_string())),
    }
}

/// Of matched runs those in our precision; all of them, with a remark, where there is none.
fn of_same_precision<'b>(
    runs: &[&RunDocuments],
    matched: Vec<&'b BaselineRun>,
) -> (Vec<&'b BaselineRun>, Option<String>) {
    let Some(ours) = runs.first().map(|run| run.plan.dtype) else { return (matched, None) };
    let same: Vec<_> = matched.iter().copied().filter(|base| base.dtype == ours).collect();
    match (same.is_empty(), matched.first()) {
        (true, Some(other)) => {
            let note = format!("the baseline was recorded in {}, not in {}", other.dtype.word(), ours.word());
            (matched, Some(note))
        }
        _ => (same, None),
    }
}

/// The finished runs of the recording, if it is there and of the pinned commit.
pub(super) fn recorded_runs<'b>(
    evidence: &'b BaselineEvidence,
    commit: &str,
) -> Result<Vec<&'b BaselineRun>, (Outcome, String)> {
    match evidence {
        BaselineEvidence::NotNamed => Err((
            Outcome::Missing(None),
            "the spec names no recorded baseline: record one with `nanochat baseline run` and name it in `baseline.results`".into(),
        )),
        BaselineEvidence::Absent(path) => Err((
            Outcome::Missing(None),
            format!("the recorded baseline `{path}` isn't there: record it with `nanochat baseline run`"),
        )),
        BaselineEvidence::Recorded(result) if result.commit != commit => Err((
            Outcome::NotComparable(None),
            format!("the recording is of baseline commit {}, the spec pins {commit}", result.commit),
        )),
        BaselineEvidence::NoControl(axes) => Err((
            Outcome::Missing(None),
            format!("no run of the control ({axes}) is there: `nanochat run` takes up what is missing"),
        )),
        BaselineEvidence::Control(result) if result.runs.is_empty() => Err((
            Outcome::Missing(None),
            format!("no run of the control ({}) is finished: `nanochat run` takes up what is missing", result.name),
        )),
        BaselineEvidence::Recorded(result) | BaselineEvidence::Control(result) => {
            Ok(result.runs.iter().filter(|run| run.status == RunStatus::Finished).collect())
        }
    }
}

/// Compares the arms, on an interval if both have enough runs, else as points. `noun` names a run of the other arm.
pub(super) fn compare(
    judgement: Judgement,
    candidate: &Arm,
    baseline: &Arm,
    tolerance: f64,
    metric: Metric,
    noun: &str,
) -> Judgement {
    let (ours, theirs) = (candidate.figures(), baseline.figures());
    let difference = statistics::mean(&ours).zip(statistics::mean(&theirs)).map_or(f64::NAN, |(a, b)| a - b);
    let found = Finding { difference: Some(rounded(difference)), ..Finding::default() };
    let worse = |difference: f64| if metric.lower_is_better() { difference } else { -difference };
    let note = baseline.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let counts = format!("over {} against {}", plural(ours.len(), "seed"), plural(theirs.len(), noun));
    let bound = format!("the tolerance of {tolerance:.6}");
    if ours.len().min(theirs.len()) < RUNS_FOR_INTERVAL {
        let passed = worse(difference) <= tolerance;
        let reason = format!(
            "point comparison, no interval ({counts}; {RUNS_FOR_INTERVAL} an arm give one): the difference of {difference:+.6} is {} {bound}{note}",
            if passed { "within" } else { "beyond" }
        );
        let outcome = Finding { method: Method::Point, ..found }.within(passed);
        return Judgement { outcome, reason, ..judgement };
    }
    let pairs = candidate.paired_with(baseline);
    let (estimate, method, how) = match &pairs {
        Some(pairs) => (statistics::paired(pairs, CONFIDENCE), Method::NonInferiorityPaired, "paired by seed"),
        None => (statistics::welch(&ours, &theirs, CONFIDENCE), Method::NonInferiorityWelch, "Welch's t"),
    };
    let Some(estimate) = estimate else { return Judgement { outcome: Outcome::Missing(Some(found)), ..judgement } };
    let finding = Finding { method, ..interval_finding(&estimate, found) };
    let (best, worst) = ordered(worse(estimate.low), worse(estimate.high));
    let mut outcome = finding.judged(decide(best, worst, tolerance));
    let relation = match &mut outcome {
        Outcome::Pass(_) => "within".to_string(),
        Outcome::Inconclusive { more_runs, .. } => {
            let distance = (tolerance - worse(estimate.value)).abs();
            let (more, words) = deciding_runs(&ours, &theirs, pairs.as_deref(), distance);
            *more_runs = more;
            format!("neither within nor beyond ({words})")
        }
        _ => "beyond".to_string(),
    };
    let reason = format!(
        "the difference of {:+.6} {counts} ({how}) has the 95% interval [{:+.6}, {:+.6}], {relation} {bound}{note}",
        estimate.value, estimate.low, estimate.high
    );
    Judgement { outcome, reason, ..judgement }
}

/// Verdict on an interval of "how much worse".
pub(super) fn decide(best: f64, worst: f64, tolerance: f64) -> Verdict {
    if worst <= tolerance {
        Verdict::Pass
    } else if best > tolerance {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    }
}

fn ordered(a: f64, b: f64) -> (f64, f64) {
    if a <= b { (a, b) } else { (b, a) }
}

/// How many more runs an arm would bring the interval's end to the bound, with the words for it.
fn deciding_runs(ours: &[f64], theirs: &[f64], pairs: Option<&[(f64, f64)]>, distance: f64) -> (Option<u64>, String) {
    let needed = match pairs {
        Some(pairs) => {
            let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
            let variance = statistics::variance(&differences);
            variance.and_then(|v| statistics::pairs_to_resolve(distance, v.sqrt(), CONFIDENCE))
        }
        None => {
            let variance = statistics::variance(ours).zip(statistics::variance(theirs)).map(|(a, b)| (a + b) / 2.0);
            variance.and_then(|v| statistics::runs_to_resolve(distance, v.sqrt(), CONFIDENCE))
        }
    };
    let have = ours.len().min(theirs.len()) as u64;
    match needed {
        Some(needed) => {
            let more = needed.saturating_sub(have).max(1);
            (Some(more), format!("about {} more an arm would decide", plural(more as usize, "run")))
        }
        None => {
            (None, "the difference lies so near the bound that no practical number of runs would decide".to_string())
        }
    }
}

/// `1 seed`, `3 seeds`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A finding with the interval of an estimate.
pub(super) fn interval_finding(estimate: &Estimated, finding: Finding) -> Finding {
    Finding { interval: Some(rounded_interval(estimate)), confidence: Some(CONFIDENCE), ..finding }
}

/// The ends of an estimate's interval, rounded for the document.
pub(super) fn rounded_interval(estimate: &Estimated) -> (f64, f64) {
    (rounded(estimate.low), rounded(estimate.high))
}
