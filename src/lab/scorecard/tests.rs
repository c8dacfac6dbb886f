//! Statistics against scipy, verdicts on fabricated results, and error rates by simulation.

use serde_json::Value;

use super::fabricate::{COMMIT, MACHINE, Project, Wanted};
use super::statistics::*;
use super::*;
use nanochat_artifacts::{Judgement, RunStatus, Scorecard};
use nanochat_plan::ReproducibilityLevel;

pub(super) fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{what}: {ours} is not {theirs}");
}

fn scipy() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/statistics/scipy.json")).expect("the fixture")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

#[test]
fn distributions_agree_with_scipy() {
    let figures = scipy();
    for row in figures["t_quantile"].as_array().expect("rows") {
        let row = floats(row);
        let ours = student_t_quantile(row[1], row[0]);
        assert!((ours - row[2]).abs() <= 1e-9 * row[2].abs().max(1e-6), "t quantile {row:?}: {ours}");
    }
    for row in figures["chi_squared_quantile"].as_array().expect("rows") {
        let row = floats(row);
        let ours = chi_squared_quantile(row[1], row[0]);
        assert!((ours - row[2]).abs() <= 1e-9 * row[2], "chi-squared quantile {row:?}: {ours}");
    }
}

#[test]
fn intervals_agree_with_scipy() {
    for case in scipy()["two_arms"].as_array().expect("cases") {
        let (ours, theirs) = (floats(&case["candidate"]), floats(&case["baseline"]));
        let same = |estimate: Option<Estimated>, key: &str| {
            let (estimate, figures) = (estimate.expect("an estimate"), floats(&case[key]));
            close(estimate.low, figures[0], key);
            close(estimate.high, figures[1], key);
        };
        same(welch(&ours, &theirs, 0.95), "welch");
        same(mean_interval(&ours, 0.95), "mean_interval");
        same(deviation_interval(&ours, 0.95), "deviation_interval");
        close(variance(&ours).expect("a variance").sqrt(), case["std"].as_f64().expect("a number"), "std");
        let ratio = welch_log_ratio(&ours, &theirs, 0.95).expect("an estimate");
        let figures = floats(&case["log_ratio"]);
        close(ratio.value, figures[0], "ratio");
        close(ratio.low, figures[1], "ratio low");
        close(ratio.high, figures[2], "ratio high");
        if !case["paired"].is_null() {
            let pairs: Vec<_> = ours.iter().copied().zip(theirs).collect();
            same(paired(&pairs, 0.95), "paired");
        }
    }
}

#[test]
fn small_helpers_hold() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(median(&[]), None);
    assert_eq!(variance(&[1.0]), None);
    assert_eq!(quantile(&[0.0, 10.0], 0.25), Some(2.5));
    assert_eq!(rounded(0.1 + 0.2), 0.3);
    assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0], 0.95), Some(Estimated { value: -1.0, low: -1.0, high: -1.0 }));
    let n = runs_to_resolve(0.0005, 0.00023, 0.95).expect("some number");
    let half = |n: f64| student_t_quantile(0.975, 2.0 * n - 2.0) * 0.00023 * (2.0 / n).sqrt();
    assert!(half(n as f64) < 0.0005 && half(n as f64 - 1.0) >= 0.0005);
    assert_eq!(runs_to_resolve(0.0, 1.0, 0.95), None);
}

#[test]
fn bootstrap_is_deterministic_and_finds_the_ratio() {
    let mut generator = SplitMix64::new(7);
    let mut noisy =
        |scale: f64| (0..200).map(|_| scale * (1.0 + 0.01 * generator.below(100) as f64 / 100.0)).collect::<Vec<_>>();
    let (slow, fast) = (vec![noisy(0.3)], vec![noisy(0.2)]);
    let first = bootstrap_speed_ratio(&fast, &slow, 500, 0.95, 1).expect("an estimate");
    assert_eq!(Some(first), bootstrap_speed_ratio(&fast, &slow, 500, 0.95, 1));
    assert!(first.low < 1.5 && 1.5 < first.high && first.high - first.low < 0.02, "{first:?}");
    assert!(bootstrap_speed_ratio(&[vec![]], &slow, 10, 0.95, 1).is_none());
    let single = bootstrap_speed_ratio(&[vec![0.1]], &[vec![0.2]], 10, 0.95, 1).expect("an estimate");
    assert_eq!((single.low, single.high), (single.value, single.value));
}

/// Three seeds with these figures, against baseline runs with those.
fn against(ours: &[f64], theirs: &[f64]) -> Scorecard {
    let mut project = Project::new("quality");
    (42..).zip(ours).for_each(|(seed, bpb)| drop(project.add(Wanted::seed(seed, *bpb))));
    let runs = (142..).zip(theirs).map(|(seed, bpb)| project.baseline_run(seed, *bpb, 0.2)).collect();
    project.baseline(runs);
    project.scorecard()
}

pub(super) fn check(judgement: &Judgement, verdict: Verdict, method: &str, words: &[&str]) {
    let found = serde_json::to_value(judgement.method()).expect("a word");
    assert_eq!((judgement.verdict(), found.as_str()), (verdict, Some(method)), "{}", judgement.reason);
    words.iter().for_each(|word| assert!(judgement.reason.contains(word), "{word:?} is not in {:?}", judgement.reason));
}

#[test]
fn quality_is_decided_on_intervals() {
    let base = [1.0000, 1.0002, 0.9998];
    let cases: [(&[f64], Verdict, &str); 5] = [
        (&[1.0001, 0.9999, 1.0000], Verdict::Pass, "within the tolerance"),
        (&[0.98, 0.981, 0.979], Verdict::Pass, "within"),
        (&[1.006, 1.0062, 1.0058], Verdict::Fail, "beyond"),
        (&[1.0016, 1.0020, 1.0018], Verdict::Inconclusive, "more an arm would decide"),
        (&[1.000, 1.004, 0.996], Verdict::Inconclusive, "more an arm would decide"),
    ];
    for (ours, verdict, words) in cases {
        let scorecard = against(ours, &base);
        check(&scorecard.quality, verdict, "non_inferiority_welch", &[words, "3 seeds", "3 baseline runs"]);
        let expected = welch(ours, &base, 0.95).expect("an estimate");
        assert_eq!(scorecard.quality.interval(), Some((rounded(expected.low), rounded(expected.high))));
        assert_eq!(scorecard.quality.bound, Some(nanochat_artifacts::Bound::at(0.002)));
        assert_eq!(scorecard.quality.more_runs().is_some(), verdict == Verdict::Inconclusive);
    }
}

#[test]
fn few_runs_are_compared_as_points() {
    for (ours, verdict) in [(1.0019, Verdict::Pass), (1.0021, Verdict::Fail)] {
        let scorecard = against(&[ours], &[1.0]);
        check(&scorecard.quality, verdict, "point", &["point comparison, no interval", "1 seed", "1 baseline run"]);
        assert_eq!(
            (scorecard.quality.interval(), scorecard.quality.finding().and_then(|found| found.confidence)),
            (None, None)
        );
    }
}

#[test]
fn equal_seeds_are_paired() {
    let mut project = Project::new("paired");
    let ours = [(42, 1.0010), (43, 1.0510), (44, 0.9510)];
    ours.iter().for_each(|(seed, bpb)| drop(project.add(Wanted::seed(*seed, *bpb))));
    let runs =
        ours.iter().zip([1e-4, -1e-4, 0.0]).map(|((seed, bpb), d)| project.baseline_run(*seed, bpb - 0.001 + d, 0.2));
    let runs = runs.collect();
    project.baseline(runs);
    check(&project.scorecard().quality, Verdict::Pass, "non_inferiority_paired", &["paired by seed"]);
}

#[test]
fn a_seed_without_effect_counts_once() {
    let mut project = Project::new("one-seed");
    (42..45).for_each(|seed| drop(project.add(Wanted::seed(seed, 1.0))));
    let mut runs: Vec<_> = [42, 43, 44].map(|seed| project.baseline_run(seed, 1.0, 0.2)).into();
    runs.iter_mut().for_each(|run| run.losses = vec![6.9, 6.5, 6.1]);
    project.baseline(runs.clone());
    check(&project.scorecard().quality, Verdict::Pass, "point", &["count as one", "1 baseline run"]);
    runs.iter_mut().for_each(|run| run.losses.clear());
    project.baseline(runs);
    check(&project.scorecard().quality, Verdict::Pass, "point", &["count as one"]);
    let same: Vec<_> = (0..3).map(|_| project.baseline_run(42, 1.0, 0.2)).collect();
    project.baseline(same);
    assert_eq!(project.scorecard().quality.baseline.runs, 1, "one seed, however often");
}

#[test]
fn missing_evidence_says_what_and_how() {
    let mut project = Project::new("missing");
    project.add(Wanted::seed(42, 1.0));
    check(
        &project.scorecard().quality,
        Verdict::Missing,
        "none",
        &["names no recorded baseline", "nanochat baseline run"],
    );
    project.record.baseline_results = Some("results/baselines/none.json".into());
    check(&project.scorecard().quality, Verdict::Missing, "none", &["`results/baselines/none.json` isn't there"]);
    let base = project.baseline_run(42, 1.0, 0.2);
    let silent = nanochat_artifacts::BaselineRun { data_sha256: None, first_batch_sha256: None, ..base.clone() };
    project.baseline(vec![silent]);
    check(&project.scorecard().quality, Verdict::Missing, "none", &["doesn't say which data"]);
    project.baseline(vec![base]);
    assert_eq!(project.scorecard().quality.verdict(), Verdict::Pass);
    project.add(Wanted { status: RunStatus::Failed, ..Wanted::seed(43, 1.0) });
    let scorecard = project.scorecard();
    check(&scorecard.quality, Verdict::Missing, "none", &["1 of 2 planned runs are finished", "`s43-", "failed"]);
    project.record.runs.push("s44-00000000".into());
    check(&project.scorecard().reproducibility, Verdict::Missing, "none", &["not started"]);
    assert_eq!((scorecard.planned, scorecard.finished), (2, 1));
}

#[test]
fn other_budgets_are_not_compared() {
    type Change = fn(&mut nanochat_artifacts::BaselineRun);
    let cases: [(&str, Change); 8] = [
        ("model.n_layer (4 here, 5 in the baseline)", |b| b.model.n_layer = 5),
        ("model.window_pattern", |b| b.model.window_pattern = "L".into()),
        ("optimizer steps", |b| b.steps += 1),
        ("training tokens", |b| b.tokens += 1),
        ("tokens per step", |b| b.total_batch_size *= 2),
        ("the data (SHA-256 bbbbbbbbbbbb… here", |b| b.data_sha256 = Some("9".repeat(64))),
        ("the tokenizer", |b| b.tokenizer_sha256 = Some("9".repeat(64))),
        ("evaluation tokens (65536 here, 32768", |b| b.flags = vec!["--eval-tokens".into(), "32769".into()]),
    ];
    for (words, change) in cases {
        let mut project = Project::new("budget");
        project.add(Wanted::seed(42, 1.0));
        let mut base = project.baseline_run(42, 1.0, 0.2);
        change(&mut base);
        project.baseline(vec![base]);
        check(&project.scorecard().quality, Verdict::NotComparable, "none", &[words]);
    }
    let mut project = Project::new("budget");
    project.add(Wanted::seed(42, 1.0));
    let mut base = project.baseline_run(42, 1.0, 0.2);
    base.first_batch_sha256 = Some("9".repeat(64));
    project.baseline(vec![base.clone()]);
    check(&project.scorecard().quality, Verdict::NotComparable, "none", &["the first batch"]);
    base.flags = vec!["--device-batch-size=8".into()];
    project.baseline(vec![base]);
    assert_eq!(project.scorecard().quality.verdict(), Verdict::Pass, "micro-batches of other size hash differently");
    project.record.baseline_commit = "0".repeat(40);
    check(&project.scorecard().quality, Verdict::NotComparable, "none", &[COMMIT]);
}

#[test]
fn speed_needs_one_machine() {
    let judge = |seconds: f64, machine: &str, matches: bool| {
        let mut project = Project::new("speed");
        let wanted = Wanted { machine: machine.into(), ..Wanted::seed(42, 1.0) };
        project.add_with(wanted, |_, _, environment| environment.hardware_matches_profile = matches);
        let base = project.baseline_run(42, 1.0, seconds);
        project.baseline(vec![base]);
        project.scorecard().speed
    };
    check(
        &judge(0.3, MACHINE, true),
        Verdict::Pass,
        "bootstrap",
        &["at or above 0.9950", "blind to noise between runs"],
    );
    check(&judge(0.15, MACHINE, true), Verdict::Fail, "bootstrap", &["below 0.9950"]);
    let other = judge(0.3, "ffff", true);
    check(&other, Verdict::NotComparable, "none", &["context, not evidence"]);
    assert!(other.ratio().is_none() && other.baseline.figure.is_some() && other.candidate.figure.is_some());
    check(&judge(0.3, MACHINE, false), Verdict::NotComparable, "none", &["isn't what it says"]);
}

#[test]
fn speed_over_runs_uses_their_medians() {
    let mut project = Project::new("speeds");
    (42..46)
        .for_each(|seed| drop(project.add(Wanted { seconds: 0.2 + seed as f64 * 1e-5, ..Wanted::seed(seed, 1.0) })));
    let runs = (42..46).map(|seed| project.baseline_run(seed, 1.0, 0.25 + seed as f64 * 1e-5)).collect();
    project.baseline(runs);
    let speed = project.scorecard().speed;
    check(&speed, Verdict::Pass, "welch_log_ratio", &["4 runs", "4 baseline runs"]);
    assert!((speed.ratio().expect("a ratio") - 1.25).abs() < 0.01);
    assert_eq!(speed.bound.and_then(|bound| bound.minimum_effect), Some(0.005));
}

#[test]
fn repeats_have_to_be_equal_bit_for_bit() {
    let judge = |change: fn(&mut Wanted)| {
        let mut project = Project::new("repeats");
        project.add(Wanted::seed(42, 1.0));
        let mut repeat = Wanted::seed(42, 1.0).repeat(1);
        change(&mut repeat);
        project.add(repeat);
        project.scorecard().reproducibility
    };
    check(&judge(|_| {}), Verdict::Pass, "bitwise", &["the loss trace, the final weights, all evaluations are equal"]);
    check(&judge(|r| r.bpb += 1e-12), Verdict::Fail, "bitwise", &["differ in", "the final weights"]);
    check(&judge(|r| r.machine = "other".into()), Verdict::NotComparable, "bitwise", &["different machines"]);
    check(&judge(|r| r.binary = "other".into()), Verdict::NotComparable, "bitwise", &["different builds"]);
    check(&judge(|r| r.status = RunStatus::Interrupted), Verdict::Missing, "none", &["was interrupted"]);
    let mut alone = Project::new("alone");
    alone.add(Wanted::seed(42, 1.0));
    check(&alone.scorecard().reproducibility, Verdict::Missing, "none", &["repeats: 1"]);
}

#[test]
fn weaker_levels_have_stated_bounds() {
    let judge = |level, apart: f64, seeds: u64| {
        let mut project = Project::new("levels");
        project.record.reproducibility.require = level;
        (42..42 + seeds).for_each(|seed| drop(project.add(Wanted::seed(seed, 1.0 + 1e-4 * (seed as f64 - 43.0)))));
        project.add(Wanted { machine: "other".into(), ..Wanted::seed(42, 1.0 + apart) }.repeat(1));
        project.scorecard().reproducibility
    };
    use ReproducibilityLevel::{Numeric, Statistical};
    check(&judge(Numeric, 1e-4, 1), Verdict::Pass, "numeric", &["within the bound"]);
    check(&judge(Numeric, 1e-2, 1), Verdict::Fail, "numeric", &["beyond the bound"]);
    check(&judge(Statistical, 1e-4, 1), Verdict::Missing, "statistical", &["at least 3 seeds"]);
    check(&judge(Statistical, 1e-4, 3), Verdict::Pass, "statistical", &["within"]);
    check(&judge(Statistical, 1e-2, 3), Verdict::Fail, "statistical", &["beyond"]);
}

#[test]
fn the_worst_cell_decides() {
    let mut project = Project::new("matrix");
    for (depth, bpb) in [(4, 1.0), (5, 0.9)] {
        (42..44).for_each(|seed| drop(project.add(Wanted::seed(seed, bpb).depth(depth))));
    }
    project.add(Wanted::seed(42, 1.0).depth(4).repeat(1));
    let base = project.baseline_run(42, 1.0, 0.3);
    project.baseline(vec![base]);
    let scorecard = project.scorecard();
    let verdicts: Vec<_> =
        scorecard.cells.iter().map(|cell| (cell.label.as_str(), cell.quality.verdict(), cell.best)).collect();
    assert_eq!(verdicts, [("model.depth=4", Verdict::Pass, false), ("model.depth=5", Verdict::NotComparable, true)]);
    check(&scorecard.quality, Verdict::NotComparable, "none", &["1 of 2 cells", "model.depth=5: "]);
    check(&scorecard.reproducibility, Verdict::Pass, "bitwise", &["depth4-s42"]);
    assert_eq!((scorecard.runs.len(), scorecard.finished), (5, 5));
}

#[test]
fn gates_follow_the_worst() {
    let passing = against(&[1.0, 1.0001, 0.9999], &[1.0, 1.0001, 0.9999]);
    assert_eq!(gate(&passing), Gate::Passed);
    let failing = against(&[1.1], &[1.0]);
    assert_eq!(gate(&failing), Gate::Failed);
    let mut project = Project::new("alone");
    project.add(Wanted::seed(42, 1.0));
    assert_eq!(gate(&project.scorecard()), Gate::NothingCompared);
}

#[test]
fn scorecards_are_deterministic_and_rest_on_every_file() {
    let mut project = Project::new("evidence");
    let folder = project.add(Wanted::seed(42, 1.0));
    let base = project.baseline_run(42, 1.0, 0.3);
    project.baseline(vec![base]);
    let first = project.scorecard();
    assert_eq!(first, project.scorecard());
    assert_eq!(first.evidence.len(), 7, "{:?}", first.evidence.keys());
    for path in [folder.plan(), folder.summary(), folder.environment()] {
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, format!("{text}\n")).expect("written");
        assert_ne!(first.evidence, project.scorecard().evidence, "{}", path.display());
        std::fs::write(&path, text).expect("written");
    }
    project.record.ruleset = "v0".into();
    project.write_record();
    let error = build(&project.experiment(), project.path()).expect_err("refused");
    assert!(error.to_string().contains("`v0`"), "{error}");
}

/// Two projects with one cell and three seeds, the later one changed.
fn before_and_after(change: impl Fn(&mut Wanted)) -> compare::Comparison {
    let project = |change: &dyn Fn(&mut Wanted)| {
        let mut project = Project::new("same");
        for seed in 42..45 {
            let mut wanted = Wanted::seed(seed, 1.0 + 0.01 * (seed as f64 - 43.0));
            change(&mut wanted);
            project.add(wanted);
        }
        project.write_record();
        project
    };
    let (old, new) = (project(&|_| {}), project(&change));
    compare_folders(&old, &new)
}

fn compare_folders(old: &Project, new: &Project) -> compare::Comparison {
    let tree = |project: &Project| nanochat_artifacts::Tree::folder(project.path()).expect("a folder");
    compare::compare(&tree(old), &tree(new), &Default::default()).expect("compared")
}

#[test]
fn before_and_after_are_judged_in_pairs() {
    let cell = |comparison: compare::Comparison| comparison.experiments[0].cells[0].clone();
    let same = before_and_after(|_| {});
    assert_eq!((same.quality, same.speed), (Verdict::Pass, Verdict::Pass));
    assert_eq!(compare::gate(&same), Gate::Passed);
    let same = cell(same);
    assert!(same.identical);
    check(&same.quality, Verdict::Pass, "bitwise", &["the same as before, bit for bit"]);
    check(&same.speed, Verdict::Pass, "none", &["3 runs were not made again"]);
    let faster = cell(before_and_after(|wanted| wanted.seconds *= 0.99));
    assert!(faster.identical);
    check(&faster.speed, Verdict::Pass, "paired_log_ratio", &["3 pairs", "at or above 0.9950"]);
    let worse = before_and_after(|wanted| wanted.bpb += 0.005 + 1e-5 * wanted.seed as f64);
    assert_eq!(compare::gate(&worse), Gate::Failed);
    check(&cell(worse).quality, Verdict::Fail, "non_inferiority_paired", &["3 earlier runs", "beyond"]);
    // The same weights can't have other figures: nothing passes that says so.
    let with_weights = |bpb: f64| {
        let mut project = Project::new("judged");
        for seed in 42..45 {
            project.add_with(Wanted::seed(seed, bpb), |_, summary, _| summary.weights_sha256 = Some("0".repeat(64)));
        }
        project.write_record();
        project
    };
    let contradiction = compare_folders(&with_weights(1.0), &with_weights(2.0));
    assert_eq!(compare::gate(&contradiction), Gate::Unjudged);
    check(&cell(contradiction).quality, Verdict::NotComparable, "none", &["the same weights", "with other figures"]);
    let slower = before_and_after(|wanted| wanted.seconds *= 1.1);
    check(&cell(slower).speed, Verdict::Fail, "paired_log_ratio", &["below 0.9950"]);
    let moved = before_and_after(|wanted| wanted.machine = "other".into());
    check(&cell(moved).speed, Verdict::NotComparable, "none", &["different machines"]);
    let broken = before_and_after(|wanted| wanted.status = RunStatus::Failed);
    check(&cell(broken).quality, Verdict::Missing, "none", &["now, `s42-", "failed"]);
}

#[test]
fn changes_of_plan_and_input_are_named() {
    let project = |change: &dyn Fn(&mut nanochat_plan::RunPlan, &mut nanochat_artifacts::Summary)| {
        let mut project = Project::new("same");
        project.add_with(Wanted::seed(42, 1.0), |plan, summary, _| change(plan, summary));
        project.write_record();
        project
    };
    let old = project(&|_, _| {});
    let replanned = project(&|plan, summary| {
        plan.optimizer.matrix_lr = 0.03;
        plan.plan_hash = "1".repeat(64);
        summary.plan_hash = plan.plan_hash.clone();
    });
    let found = compare_folders(&old, &replanned);
    check(&found.experiments[0].cells[0].quality, Verdict::Inconclusive, "none", &["no interval (1 seed each)"]);
    let changed = &found.experiments[0].cells[0].changes[0];
    assert_eq!((changed.key.as_str(), &changed.now), ("optimizer.matrix_lr", &serde_json::json!(0.03)));
    assert_eq!(compare::gate(&found), Gate::Inconclusive);
    let other_data = project(&|_, summary| summary.data_sha256 = "9".repeat(64));
    let found = compare_folders(&old, &other_data);
    check(&found.experiments[0].cells[0].quality, Verdict::NotComparable, "none", &["the data of"]);
    assert_eq!(compare::gate(&found), Gate::Unjudged);
    let single = project(&|_, summary| summary.weights_sha256 = Some("9".repeat(64)));
    let found = compare_folders(&old, &single).experiments[0].cells[0].clone();
    check(&found.quality, Verdict::Pass, "point", &["1 earlier run"]);
    check(&found.speed, Verdict::Pass, "bootstrap", &["blind to noise"]);
    let mut other = Project::new("other");
    other.add(Wanted::seed(42, 1.0));
    other.write_record();
    let found = compare_folders(&old, &other);
    assert_eq!(
        (found.appeared, found.vanished, found.quality),
        (vec!["other".to_string()], vec!["same".to_string()], Verdict::Missing)
    );
    let nothing = Project::new("nothing");
    let tree = nanochat_artifacts::Tree::folder(nothing.path()).expect("a folder");
    assert!(compare::compare(&tree, &tree, &Default::default()).is_err());
}

#[test]
fn revisions_are_read_from_git_objects() {
    let git = |folder: &std::path::Path, arguments: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
        let output = std::process::Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let mut project = Project::new("same");
    if !git(project.path(), &["init", "-q"]) {
        println!("skipped: git is not installed");
        return;
    }
    let commit = |project: &Project, message| {
        project.write_record();
        assert!(git(project.path(), &["add", "-A"]) && git(project.path(), &["commit", "-q", "-m", message]));
    };
    project.add(Wanted::seed(42, 1.0));
    commit(&project, "before");
    let run = project.add(Wanted::seed(43, 1.01));
    project.add_with(Wanted::seed(42, 1.1), |_, _, _| {});
    project.record.runs.pop();
    commit(&project, "after");
    std::fs::remove_dir_all(run.path()).expect("the work tree plays no part");
    let tree = |revision: &str| nanochat_artifacts::Tree::revision(project.path(), revision);
    let found =
        compare::compare(&tree("HEAD~1").expect("a commit"), &tree("HEAD").expect("a commit"), &Default::default())
            .expect("compared");
    let experiment = &found.experiments[0];
    assert_eq!((experiment.appeared.len(), experiment.vanished.len()), (1, 0));
    assert_eq!(
        (experiment.cells[0].quality.baseline.figure, experiment.cells[0].quality.candidate.figure),
        (Some(1.0), Some(1.1))
    );
    check(&experiment.cells[0].quality, Verdict::Fail, "point", &["beyond"]);
    assert_eq!(experiment.cells[0].speed.method(), nanochat_artifacts::Method::Bootstrap);
    assert!(found.before.starts_with("HEAD~1 ("), "{}", found.before);
    for bad in ["nonsense", "--help", ""] {
        assert!(tree(bad).is_err(), "{bad}");
    }
}
