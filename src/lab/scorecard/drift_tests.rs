//! Evaluations that cost more as a run goes on.

use super::fabricate::{Project, Wanted};
use super::*;
use nanochat_artifacts::{DriftRule, EvalRow, RunFolder, read_evals, write_evals};

const RULE: DriftRule = DriftRule { max_rss_growth: Some(4.0), max_slowdown: Some(0.03) };

/// One run whose evaluations are changed, by their place; those that get no finite time are left out.
fn project(name: &str, rule: DriftRule, change: impl Fn(usize, &mut EvalRow)) -> Project {
    let mut project = Project::new(name);
    project.record.drift = Some(rule);
    let folder: RunFolder = project.add(Wanted::seed(42, 1.0));
    let mut rows = read_evals(&folder.evals()).expect("read");
    rows.iter_mut().enumerate().for_each(|(place, row)| change(place, row));
    rows.retain(|row| row.eval_seconds.is_finite());
    write_evals(&folder.evals(), &rows).expect("written");
    project
}

fn steady(place: usize, row: &mut EvalRow) {
    // The first allocates and is slow: it doesn't count.
    row.rss_bytes = Some(if place == 0 { 100 << 20 } else { 300 << 20 });
    row.eval_seconds = if place == 0 { 2.0 } else { 0.5 };
}

#[test]
fn steady_evaluations_pass() {
    let card = project("steady", RULE, steady).scorecard();
    let drift = card.drift.expect("a judgement");
    assert_eq!(
        (drift.verdict(), drift.difference(), drift.ratio()),
        (Verdict::Pass, Some(0.0), Some(1.0)),
        "{drift:?}"
    );
    assert_eq!(card.cells[0].drift.as_ref().expect("a judgement").verdict(), Verdict::Pass);
}

#[test]
fn growth_and_slowdown_fail_on_their_own_and_fail_the_gate() {
    let growing = project("growing", RULE, |place, row| {
        steady(place, row);
        row.rss_bytes = row.rss_bytes.map(|bytes| bytes + ((place as u64) << 20));
    });
    let card = growing.scorecard();
    let drift = card.drift.clone().expect("a judgement");
    assert_eq!((drift.verdict(), drift.difference()), (Verdict::Fail, Some(5.0)), "{drift:?}");
    assert!(drift.reason.contains("grew by +5.0 MiB (allowed 4 MiB)"), "{}", drift.reason);
    assert_eq!(gate(&card), Gate::Failed);

    let slowing = project("slowing", RULE, |place, row| {
        steady(place, row);
        row.eval_seconds *= 1.0 + 0.02 * place as f64;
    });
    let drift = slowing.scorecard().drift.expect("a judgement");
    assert_eq!(drift.verdict(), Verdict::Fail, "{drift:?}");
    // A bound that isn't stated doesn't bind.
    let unbound = DriftRule { max_slowdown: None, ..RULE };
    let slowing = project("slowing-allowed", unbound, |place, row| {
        steady(place, row);
        row.eval_seconds *= 1.0 + 0.02 * place as f64;
    });
    assert_eq!(slowing.scorecard().drift.expect("a judgement").verdict(), Verdict::Pass);
}

#[test]
fn what_cannot_be_judged_says_why() {
    let silent = project("silent", RULE, |_, row| row.rss_bytes = None);
    let drift = silent.scorecard().drift.expect("a judgement");
    assert_eq!(drift.verdict(), Verdict::Missing);
    // CORE in two of five evaluations leaves too few of either kind.
    let mixed = project("mixed", RULE, |place, row| {
        steady(place, row);
        row.core_metric = (place == 1 || place == 3).then_some(0.1);
        row.eval_seconds = if place < 5 { row.eval_seconds } else { f64::INFINITY };
    });
    let drift = mixed.scorecard().drift.expect("a judgement");
    assert!(drift.reason.contains("it takes 4: lower `eval.every`"), "{}", drift.reason);
    // Without the rule there is no judgement.
    let mut without = Project::new("without");
    without.add(Wanted::seed(42, 1.0));
    assert_eq!(without.scorecard().drift, None);
}
