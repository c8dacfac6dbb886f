//! Before and after across plans: the change of a plan is the treatment.

use super::fabricate::{Project, Wanted};
use super::{Gate, compare};
use nanochat_artifacts::{Effect, Method, QualityClaim, SpeedClaim, Tree, Verdict};

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
    compare::compare(&tree(before), &tree(after)).expect("compared")
}

const BEFORE: [f64; 3] = [0.750, 0.752, 0.751];
const BETTER: [f64; 3] = [0.717, 0.718, 0.7185];

#[test]
fn a_changed_learning_rate_is_judged_by_the_claim() {
    let before = at_rate(0.2, None, &BEFORE);
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
        let found = compared(&before, &at_rate(0.3, claim, &figures));
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
    let before = at_rate(0.2, None, &BEFORE);
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
