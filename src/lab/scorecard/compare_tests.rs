//! Before and after across plans: the change of a plan is the treatment.

use super::fabricate::{Project, Wanted};
use super::{Gate, Judging, compare};
use nanochat_artifacts::{Effect, Method, QualityClaim, SpeedClaim, Tree, Verdict};
use nanochat_plan::QualityMetric;

/// Three seeds at a learning rate, with these figures.
fn at_rate(rate: f64, claim: Option<QualityClaim>, figures: &[f64]) -> Project {
    let mut project = Project::new("rates");
    if let Some(claim) = claim {
        project.record.ruleset = "v2".into();
        project.record.quality.claim = Some(claim);
        project.record.speed.claim = Some(SpeedClaim::Off);
    }
    for (seed, bpb) in (42..).zip(figures) {
        project.add_with(Wanted::seed(seed, *bpb), |plan, summary, _| {
            plan.optimizer.matrix_lr = rate;
            plan.plan_hash = nanochat_plan::plan_hash(plan);
            summary.plan_hash = plan.plan_hash.clone();
        });
    }
    project.write_record();
    project
}

fn compared(before: &Project, after: &Project) -> compare::Comparison {
    let tree = |project: &Project| Tree::folder(project.path()).expect("a folder");
    compare::compare(&tree(before), &tree(after), &Default::default()).expect("compared")
}

const BEFORE: [f64; 3] = [0.750, 0.752, 0.751];
const BETTER: [f64; 3] = [0.717, 0.718, 0.7185];

#[test]
fn a_changed_learning_rate_is_judged_by_the_claim() {
    let cases = [
        (Some(QualityClaim::Better), BETTER, Verdict::Pass, Gate::Passed),
        (Some(QualityClaim::NoWorse), BETTER, Verdict::Pass, Gate::Passed),
        (None, BETTER, Verdict::Pass, Gate::Passed),
        (Some(QualityClaim::NoWorse), [0.780, 0.783, 0.781], Verdict::Fail, Gate::Failed),
        (Some(QualityClaim::Better), [0.7501, 0.7519, 0.7511], Verdict::Inconclusive, Gate::Inconclusive),
        (Some(QualityClaim::Off), [0.780, 0.783, 0.781], Verdict::Off, Gate::Passed),
        // A change that changes nothing is no worse, and not better.
        (Some(QualityClaim::Better), BEFORE, Verdict::Fail, Gate::Failed),
        (Some(QualityClaim::NoWorse), BEFORE, Verdict::Pass, Gate::Passed),
    ];
    for (claim, figures, verdict, gate) in cases {
        let found = compared(&at_rate(0.2, claim, &BEFORE), &at_rate(0.3, claim, &figures));
        let cell = &found.experiments[0].cells[0];
        assert_eq!(
            (cell.quality.verdict(), compare::gate(&found)),
            (verdict, gate),
            "{claim:?} {}",
            cell.quality.reason
        );
        let keys: Vec<&str> = cell.changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["optimizer.matrix_lr"], "the difference of the specs");
    }
    let before = at_rate(0.2, Some(QualityClaim::Better), &BEFORE);
    let found = compared(&before, &at_rate(0.3, Some(QualityClaim::Better), &BETTER));
    let cell = &found.experiments[0].cells[0];
    assert_eq!(
        (cell.quality.method(), cell.quality.finding().and_then(|f| f.effect)),
        (Method::Paired, Some(Effect::Better))
    );
    let answer = found.answer.expect("an answer");
    assert!(
        answer.starts_with("rates: matrix_lr 0.3 is better than 0.2: 0.0332 bpb lower (4.4%), 95% interval 0.03"),
        "{answer}"
    );
    assert!(answer.ends_with("3 seeds each"), "{answer}");
    assert_eq!(compared(&before, &before).answer.as_deref(), Some("nothing changed: 1 experiment is as it was"));
}

#[test]
fn a_change_that_is_not_judged_is_no_green_gate() {
    let before = at_rate(0.2, Some(QualityClaim::Better), &BEFORE);
    let mut longer = at_rate(0.3, Some(QualityClaim::Better), &[]);
    longer.steps = 80;
    for seed in 42..45 {
        longer.add(Wanted::seed(seed, 0.7));
    }
    longer.write_record();
    let found = compared(&before, &longer);
    let cell = &found.experiments[0].cells[0];
    assert_eq!(cell.quality.verdict(), Verdict::NotComparable);
    let wanted = "the two sides differ in the budget (327680 training tokens against 245760)";
    assert!(cell.quality.reason.contains(wanted), "{}", cell.quality.reason);
    assert_eq!(compare::gate(&found), Gate::Unjudged);
    // Beside another experiment that passes, too.
    let (mut both, mut all) = (Project::new("fine"), Project::new("fine"));
    for project in [&mut both, &mut all] {
        (42..45).for_each(|seed| drop(project.add(Wanted::seed(seed, 1.0))));
        project.write_record();
    }
    for (project, other) in [(&both, &before), (&all, &longer)] {
        let target = project.path().join("results/rates");
        let status = std::process::Command::new("cp").arg("-r").arg(other.experiment().path()).arg(target).status();
        assert!(status.expect("cp").success());
    }
    let found = compared(&both, &all);
    assert_eq!((found.untouched.as_slice(), compare::gate(&found)), (&["fine".to_string()][..], Gate::Unjudged));

    let mut stale = compared(&before, &before);
    assert_eq!(compare::gate(&stale), Gate::Passed);
    stale.stale.push(compare::Stale { experiment: "rates".into(), reason: "the spec plans another".into() });
    assert_eq!(compare::gate(&stale), Gate::Unjudged);
}

#[test]
fn one_seed_each_is_inconclusive() {
    let found = compared(&at_rate(0.2, None, &[0.75]), &at_rate(0.3, None, &[0.70]));
    let cell = &found.experiments[0].cells[0];
    assert_eq!((cell.quality.verdict(), compare::gate(&found)), (Verdict::Inconclusive, Gate::Inconclusive));
    assert_eq!(cell.quality.more_runs(), Some(1));
}

/// A change that is worse and bends the rules that it is judged by, or takes away what it would be judged on.
#[test]
fn rules_of_the_later_side_do_not_judge_until_a_person_approves_them() {
    let claim = Some(QualityClaim::NoWorse);
    let worse = |change: &dyn Fn(&mut Project)| {
        let mut project = at_rate(0.3, claim, &[0.780, 0.783, 0.781]);
        change(&mut project);
        project.write_record();
        project
    };
    let before = at_rate(0.2, claim, &BEFORE);
    let told =
        |found: &compare::Comparison| found.approvals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let bent = [
        (worse(&|p| p.record.quality.relative = Some(1.0)), "rates: quality.relative 0.002 → 1.0"),
        (
            worse(&|p| p.record.quality.metric = QualityMetric::CoreMetric),
            "rates: quality.metric val_bpb → core_metric",
        ),
        (worse(&|p| p.record.quality.claim = Some(QualityClaim::Off)), "rates: quality.claim no_worse → off"),
        (worse(&|p| p.record.ruleset = "v1".into()), "rates: ruleset v2 → v1"),
        (worse(&|p| drop(p.record.runs.remove(0))), "rates: seeds of all runs 42, 43, 44 → 43, 44"),
    ];
    for (after, wanted) in bent {
        let found = compared(&before, &after);
        assert!(told(&found).contains(wanted), "{wanted}: {}", told(&found));
        assert_eq!(compare::gate(&found), Gate::Failed, "{wanted}");
    }
    // Approved, the later side's rules hold.
    let after = worse(&|p| p.record.quality.relative = Some(1.0));
    let tree = |project: &Project| Tree::folder(project.path()).expect("a folder");
    let judging = Judging { approved: true, ..Judging::default() };
    let found = compare::compare(&tree(&before), &tree(&after), &judging).expect("compared");
    assert_eq!((found.approvals.len(), compare::gate(&found)), (1, Gate::Passed));
    // The rules of the spec come before those of the record.
    let spec = at_rate(0.2, Some(QualityClaim::Better), &BEFORE).record.clone();
    let rules = std::collections::BTreeMap::from([("rates".to_string(), spec)]);
    let judging = Judging { rules, removed_specs: vec!["rates".into()], ..Judging::default() };
    let better = at_rate(0.3, claim, &BETTER);
    let found = compare::compare(&tree(&before), &tree(&better), &judging).expect("compared");
    assert_eq!(told(&found), "rates: the spec there → removed\nrates: quality.claim better → no_worse");
    assert_eq!(compare::gate(&found), Gate::Unjudged, "it passes, and waits for a person");
}

#[test]
fn removed_results_and_other_inputs_wait_for_a_person() {
    let before = at_rate(0.2, None, &BEFORE);
    let mut other = Project::new("rates");
    for (seed, bpb) in (42..).zip(BEFORE) {
        other.add_with(Wanted::seed(seed, bpb), |_, summary, _| summary.data_sha256 = "9".repeat(64));
    }
    other.write_record();
    let found = compared(&before, &other);
    assert!(found.approvals.iter().any(|one| one.what == "the data (SHA-256)"), "{:?}", found.approvals);
    assert_eq!(compare::gate(&found), Gate::Unjudged);
    let mut gone = Project::new("another");
    gone.add(Wanted::seed(42, 0.7));
    gone.write_record();
    let found = compared(&before, &gone);
    assert_eq!(
        found.approvals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["rates: the results recorded → removed"]
    );
    assert_eq!(compare::gate(&found), Gate::Unjudged);
    // A noise document that verdicts may rest on.
    let noisy = at_rate(0.2, None, &BEFORE);
    for (project, text) in [(&before, "{}"), (&noisy, "{ }")] {
        std::fs::write(project.experiment().noise(), text).expect("written");
    }
    let found = compared(&before, &noisy);
    assert!(found.approvals.iter().any(|one| one.what == "the file results/rates/noise.json"), "{:?}", found.approvals);
}
