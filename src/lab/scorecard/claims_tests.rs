//! Claims, rankings and answers on made-up results (rules v2).

use std::collections::BTreeMap;

use serde_json::json;

use super::fabricate::{Project, Wanted};
use super::statistics::{SplitMix64, student_t_quantile};
use super::tests::close;
use super::{Gate, gate, noise};
use nanochat_artifacts::{
    CellSummary, Effect, Method, NoiseRecord, QualityClaim, Scorecard, SpeedClaim, Verdict, read_experiment,
    write_document,
};
use nanochat_plan::Precision::{Bf16, F32};
use nanochat_plan::configuration_hash;

/// Two cells by precision, the control first, with these figures from seed 42 on.
fn two_cells(claim: QualityClaim, control: &[f64], other: &[f64]) -> Project {
    let mut project = Project::new("claimed");
    project.record.ruleset = "v2".into();
    project.record.quality.claim = Some(claim);
    project.record.speed.claim = Some(SpeedClaim::Off);
    project.record.reproducibility.repeats = 0;
    project.record.control = Some(BTreeMap::from([("hardware.dtype".to_string(), json!("f32"))]));
    for (dtype, figures) in [(F32, control), (Bf16, other)] {
        for (seed, bpb) in (42..).zip(figures) {
            project.add(Wanted::seed(seed, *bpb).dtype(dtype));
        }
    }
    project
}

fn judged(claim: QualityClaim, control: &[f64], other: &[f64]) -> (Scorecard, CellSummary) {
    let card = two_cells(claim, control, other).scorecard();
    let cell = card.cells.iter().find(|cell| !cell.control).expect("a candidate").clone();
    (card, cell)
}

#[test]
fn better_exists_and_says_how_much() {
    let (card, cell) = judged(QualityClaim::Better, &[0.80, 0.81, 0.805], &[0.72, 0.735, 0.725]);
    assert_eq!((card.quality.verdict(), gate(&card)), (Verdict::Pass, Gate::Passed));
    let found = cell.quality.finding().expect("found");
    assert_eq!((found.method, found.effect), (Method::Paired, Some(Effect::Better)));
    // By hand: differences −0.08, −0.075, −0.08; their standard error is √(0.0000083333 / 3) = 0.00166667.
    close(found.difference.expect("a difference"), -0.235 / 3.0, "difference");
    close(found.standard_error.expect("an error"), 0.005 / 3.0, "standard error");
    assert_eq!(found.degrees_of_freedom, Some(2.0));
    let (low, high) = found.interval.expect("an interval");
    let reach = student_t_quantile(0.975, 2.0) * 0.005 / 3.0;
    close(low, -0.235 / 3.0 - reach, "low");
    close(high, -0.235 / 3.0 + reach, "high");
    let wanted = "dtype bf16 is better than f32: 0.0783 bpb lower (9.7%), 95% interval 0.0712 to 0.0855, 3 seeds each";
    assert_eq!(card.answer.as_deref(), Some(wanted));
    assert!(cell.quality.reason.starts_with(wanted), "{}", cell.quality.reason);
    assert!(cell.quality.reason.contains("claimed better, and shown"), "{}", cell.quality.reason);
}

#[test]
fn each_claim_has_its_verdict() {
    use QualityClaim::{Better, NoWorse};
    let control = [0.800, 0.810, 0.805];
    let cases = [
        (Better, [0.8001, 0.8099, 0.8051], Verdict::Inconclusive, Effect::Unresolved),
        (Better, [0.820, 0.831, 0.825], Verdict::Fail, Effect::Worse),
        (NoWorse, [0.8001, 0.8099, 0.8051], Verdict::Pass, Effect::Unresolved),
        (NoWorse, [0.8005, 0.8106, 0.8055], Verdict::Pass, Effect::Worse),
        (NoWorse, [0.820, 0.831, 0.825], Verdict::Fail, Effect::Worse),
        (NoWorse, [0.790, 0.801, 0.795], Verdict::Pass, Effect::Better),
        (NoWorse, [0.800, 0.812, 0.8035], Verdict::Inconclusive, Effect::Unresolved),
    ];
    for (claim, figures, verdict, effect) in cases {
        let (card, cell) = judged(claim, &control, &figures);
        let found = cell.quality.finding().and_then(|found| found.effect);
        assert_eq!((card.quality.verdict(), found), (verdict, Some(effect)), "{}", cell.quality.reason);
        assert_eq!(cell.quality.more_runs().is_some(), verdict == Verdict::Inconclusive, "{}", cell.quality.reason);
    }
}

#[test]
fn off_is_no_verdict_and_no_exit_code() {
    let (card, cell) = judged(QualityClaim::Off, &[0.800, 0.810], &[0.900, 0.910]);
    assert_eq!((card.quality.verdict(), card.speed.verdict(), gate(&card)), (Verdict::Off, Verdict::Off, Gate::Passed));
    assert_eq!((cell.quality.verdict(), cell.speed.verdict()), (Verdict::Off, Verdict::Off));
    let answer = card.answer.expect("the ranking answers");
    assert!(answer.starts_with("dtype f32 is better than bf16: 0.1"), "{answer}");
}

#[test]
fn repeats_of_a_seed_are_one_seed() {
    let mut project = two_cells(QualityClaim::Better, &[0.80], &[0.70]);
    for repeat in 1..4 {
        project.add(Wanted::seed(42, 0.80).dtype(F32).repeat(repeat));
        project.add(Wanted::seed(42, 0.70).dtype(Bf16).repeat(repeat));
    }
    let card = project.scorecard();
    assert_eq!((card.quality.verdict(), card.quality.more_runs()), (Verdict::Inconclusive, Some(1)));
    assert_eq!(card.quality.interval(), None);
    let wanted = "no interval (1 seed each): 1 seed more an arm would give one";
    assert!(card.quality.reason.contains(wanted), "{}", card.quality.reason);
}

#[test]
fn two_seeds_against_one_recorded_run_are_no_pass() {
    let mut project = Project::new("one-run");
    project.record.ruleset = "v2".into();
    project.record.quality.claim = Some(QualityClaim::NoWorse);
    project.add(Wanted::seed(42, 0.99));
    project.add(Wanted::seed(43, 0.991));
    let base = project.baseline_run(42, 1.0, 0.2);
    project.baseline(vec![base]);
    let card = project.scorecard();
    assert_eq!((card.quality.verdict(), card.quality.interval()), (Verdict::Inconclusive, None));
    assert!(card.quality.reason.contains("2 seeds against 1 baseline run"), "{}", card.quality.reason);
    let base = [(42, 1.0), (43, 1.001)].map(|(seed, bpb)| project.baseline_run(seed, bpb, 0.2));
    project.baseline(base.into());
    let card = project.scorecard();
    assert_eq!(
        (card.quality.verdict(), card.quality.method()),
        (Verdict::Pass, Method::Welch),
        "{}",
        card.quality.reason
    );
    let answer = card.answer.expect("an answer");
    assert!(answer.starts_with("the candidate is better than the baseline: "), "{answer}");
}

#[test]
fn other_initial_weights_are_not_paired_and_pool_their_variance() {
    let mut project = two_cells(QualityClaim::NoWorse, &[0.80, 0.81], &[]);
    for (seed, bpb) in [(42, 0.800), (43, 0.812)] {
        project.add_with(Wanted::seed(seed, bpb).dtype(Bf16), |_, summary, _| {
            summary.initial_weights_sha256 = Some("0".repeat(64));
        });
    }
    let card = project.scorecard();
    let found = card.quality.finding().expect("found").clone();
    assert_eq!((found.method, found.degrees_of_freedom), (Method::Pooled, Some(2.0)));
    // By hand: variances 0.00005 and 0.000072, pooled 0.000061; √(0.000061 × (1/2 + 1/2)).
    close(found.standard_error.expect("an error"), 0.000061f64.sqrt(), "standard error");
}

#[test]
fn noise_is_lent_by_the_same_configuration_alone() {
    let mut noisy = two_cells(QualityClaim::Better, &[0.800, 0.802, 0.798, 0.801], &[0.7]);
    noisy.record.name = "claimed".into();
    noisy.write_record();
    let record = noise::measure(&read_experiment(&noisy.experiment()).expect("read"));
    let entry = record.of("val_bpb").expect("an entry").clone();
    assert_eq!(entry.runs, 4);
    let project = two_cells(QualityClaim::Better, &[0.80], &[0.70]);
    write_document(&project.experiment().noise(), &record).expect("written");
    let card = project.scorecard();
    assert_eq!(
        (card.quality.verdict(), card.quality.method()),
        (Verdict::Pass, Method::LentNoise),
        "{}",
        card.quality.reason
    );
    let found = card.quality.finding().expect("found");
    close(found.standard_error.expect("an error"), entry.standard_deviation * 2.0f64.sqrt(), "standard error");
    assert_eq!(found.degrees_of_freedom, Some(3.0));
    assert!(card.quality.reason.contains("lent noise"), "{}", card.quality.reason);
    assert!(card.evidence.contains_key("results/claimed/noise.json"));

    let mut other: NoiseRecord = record.clone();
    other.entries.iter_mut().for_each(|entry| entry.configuration = Some("0".repeat(64)));
    write_document(&project.experiment().noise(), &other).expect("written");
    assert_eq!(project.scorecard().quality.verdict(), Verdict::Inconclusive);

    // A scorecard that was lent from it all the same is found out.
    let mut forged = card;
    for cell in &mut forged.cells {
        if let Some(noise) = cell.quality.finding_mut().and_then(|found| found.noise.as_mut()) {
            noise.configuration = Some("0".repeat(64));
        }
    }
    write_document(&project.experiment().scorecard(), &forged).expect("written");
    let found = crate::verify::verify(&project.root(), None).expect("verified").findings;
    let told = found.iter().any(|one| one.problem.contains("rests on the noise of another configuration"));
    assert!(told, "{found:?}");
}

#[test]
fn another_depth_or_budget_is_another_configuration() {
    let project = two_cells(QualityClaim::Off, &[0.8], &[0.7]);
    project.write_record();
    let runs = read_experiment(&project.experiment()).expect("read").runs;
    let hashes: Vec<String> = runs.iter().map(|run| configuration_hash(&run.plan)).collect();
    assert_eq!(hashes[0], hashes[1], "seed and treatment are left out");
    let mut plan = runs[0].plan.clone();
    plan.seed = 7;
    assert_eq!(configuration_hash(&plan), hashes[0]);
    plan.num_iterations += 1;
    assert_ne!(configuration_hash(&plan), hashes[0]);
}

#[test]
fn a_control_with_another_budget_is_not_comparable() {
    let mut project = two_cells(QualityClaim::Better, &[0.80, 0.81], &[]);
    for seed in [42, 43] {
        project.add_with(Wanted::seed(seed, 0.7).dtype(Bf16), |_, summary, _| summary.tokens += 4096);
    }
    let card = project.scorecard();
    assert_eq!(card.quality.verdict(), Verdict::NotComparable);
    assert!(card.quality.reason.contains("differ in the budget ("), "{}", card.quality.reason);
    assert!(card.ranking.is_none());
}

#[test]
fn speed_is_judged_from_blocks_alone() {
    let mut project = Project::new("timed");
    project.record.ruleset = "v2".into();
    project.record.quality.claim = Some(QualityClaim::Off);
    project.record.speed.claim = Some(SpeedClaim::Faster);
    let mut runs = Vec::new();
    for (number, seed) in [(1, 42), (2, 43)] {
        let run = project.add(Wanted { seconds: 0.1, ..Wanted::seed(seed, 1.0) });
        let base = project.baseline_run(seed, 1.0, 0.2 + 1e-4 * number as f64);
        runs.push((base, number, run.name()));
    }
    project.baseline(runs.iter().map(|(base, _, _)| base.clone()).collect());
    let apart = project.scorecard();
    assert_eq!(apart.speed.verdict(), Verdict::Missing);
    assert!(apart.speed.reason.contains("of separate runs is context"), "{}", apart.speed.reason);
    let beside = runs.iter().map(|(base, number, run)| project.beside(base.clone(), F32, *number, run)).collect();
    project.baseline(beside);
    let card = project.scorecard();
    assert_eq!(
        (card.speed.verdict(), card.speed.method()),
        (Verdict::Pass, Method::BlockLogRatio),
        "{}",
        card.speed.reason
    );
    assert!(card.answer.is_some_and(|answer| answer.contains("times as fast")));
    project.record.speed.min_ratio = 3.0;
    assert_eq!(project.scorecard().speed.verdict(), Verdict::Fail);
    project.record.speed.claim = Some(SpeedClaim::Off);
    assert_eq!(project.scorecard().speed.verdict(), Verdict::Off);
}

/// Cells at these depths stand in for a sweep; each with its figures.
fn sweep(cells: &[&[f64]]) -> Project {
    let mut project = two_cells(QualityClaim::Off, &[], &[]);
    project.record.control = None;
    for (number, figures) in cells.iter().enumerate() {
        for (seed, bpb) in (42..).zip(*figures) {
            project.add_with(Wanted::seed(seed, *bpb).depth(4 + number), |plan, summary, _| {
                let rate = json!(0.1 * (number + 1) as f64);
                plan.axes = BTreeMap::from([("optimizer.matrix_lr".to_string(), rate)]);
                plan.model.n_layer = 4;
                summary.initial_weights_sha256 = Some(format!("{seed:064}"));
            });
        }
    }
    project
}

#[test]
fn a_sweep_is_ranked_without_a_control() {
    let card = sweep(&[&[0.80, 0.81], &[0.70, 0.713], &[0.7005, 0.7105], &[0.90, 0.912]]).scorecard();
    let ranking = card.ranking.expect("a ranking");
    let places: Vec<&str> = ranking.cells.iter().map(|cell| cell.label.as_str()).collect();
    let rates = ["0.30000000000000004", "0.2", "0.1", "0.4"].map(|rate| format!("optimizer.matrix_lr={rate}"));
    assert_eq!(places, rates);
    let better: Vec<&[u64]> = ranking.cells.iter().map(|cell| cell.better_than.as_slice()).collect();
    assert_eq!(better, [&[3, 4][..], &[3, 4], &[4], &[]]);
    assert_eq!(ranking.tests, 6);
    let answer = card.answer.expect("an answer");
    assert!(
        answer.contains(
            "has the best mean of 4 cells, resolved from 2 of the others (Holm, 95%); next is 0.2: 0.0010 bpb lower"
        ),
        "{answer}"
    );
    assert!(answer.ends_with("2 seeds each"), "{answer}");

    let two = sweep(&[&[0.80, 0.81, 0.805], &[0.70, 0.713, 0.706]]).scorecard();
    let answer = two.answer.expect("an answer");
    assert!(answer.starts_with("matrix_lr 0.2 is better than 0.1: 0.0987 bpb lower (12%), 95% interval "), "{answer}");
}

#[test]
fn each_budget_of_a_sweep_has_a_ranking_of_its_own() {
    let mut project = two_cells(QualityClaim::Off, &[], &[]);
    project.record.control = None;
    // The shorter budget's best rate is not the longer one's, and the last budget has one cell.
    let figures =
        [(100, 0.1, 0.80), (100, 0.2, 0.90), (200, 0.1, 0.70), (200, 0.2, 0.60), (200, 0.3, 0.65), (300, 0.1, 0.5)];
    for (number, (steps, rate, bpb)) in figures.into_iter().enumerate() {
        for (seed, spread) in [(42, 0.0), (43, 0.01)] {
            project.add_with(Wanted::seed(seed, bpb + spread).depth(4 + number), |plan, summary, _| {
                let axes = [("budget.iterations", json!(steps)), ("optimizer.matrix_lr", json!(rate))];
                plan.axes = axes.map(|(key, value)| (key.to_string(), value)).into();
                plan.model.n_layer = 4;
                summary.tokens = steps * 1000;
                summary.initial_weights_sha256 = Some(format!("{seed:064}"));
            });
        }
    }
    let card = project.scorecard();
    let found: Vec<_> = card
        .rankings()
        .map(|ranking| (ranking.group.as_deref(), ranking.cells.len(), ranking.tests, ranking.cells[0].label.as_str()))
        .collect();
    let best = |steps: u64, rate: &str| format!("budget.iterations={steps}, optimizer.matrix_lr={rate}");
    let (short, long) = (best(100, "0.1"), best(200, "0.2"));
    assert_eq!(
        found,
        [(Some("budget.iterations=100"), 2, 1, short.as_str()), (Some("budget.iterations=200"), 3, 3, long.as_str())]
    );
    let marked: Vec<&str> = card.cells.iter().filter(|cell| cell.best).map(|cell| cell.label.as_str()).collect();
    assert_eq!(marked, [short.as_str(), long.as_str()]);
    let note = card.ranking.as_ref().and_then(|ranking| ranking.note.clone()).expect("one is left out");
    assert!(note.contains("the budget (300000 training tokens against 100000)"), "{note}");
    assert_eq!(
        card.answer.expect("an answer"),
        "at iterations 100 matrix_lr 0.1 is the best of 2 cells; at iterations 200 matrix_lr 0.2 is the best of 3 cells \
         (Holm, 95%, 2 seeds each)"
    );
}

/// The same ranking figures by another road: the sweep's residuals by the identity of the two-way layout, Holm's correction
/// by its definition (the largest of the scaled p values up to a test, of those as small or smaller).
#[test]
fn rankings_are_recomputed_independently() {
    let mut generator = SplitMix64::new(11);
    let mut noise = || (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let cells: Vec<Vec<f64>> =
        (0..5).map(|cell| (0..3).map(|_| 0.7 + 0.004 * f64::from(cell) + 0.01 * noise()).collect()).collect();
    let slices: Vec<&[f64]> = cells.iter().map(Vec::as_slice).collect();
    let ranking = sweep(&slices).scorecard().ranking.expect("a ranking");
    let (k, n) = (cells.len() as f64, 3.0);
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let all: Vec<f64> = cells.concat();
    let squares = all.iter().map(|v| v * v).sum::<f64>();
    let correction = sum(&all).powi(2) / (k * n);
    let rows = cells.iter().map(|row| sum(row).powi(2) / n).sum::<f64>() - correction;
    let columns =
        (0..3).map(|seed| cells.iter().map(|row| row[seed]).sum::<f64>().powi(2) / k).sum::<f64>() - correction;
    let degrees = (k - 1.0) * (n - 1.0);
    let error = (2.0 * (squares - correction - rows - columns) / degrees / n).sqrt();
    let mut means: Vec<f64> = cells.iter().map(|row| sum(row) / n).collect();
    means.sort_by(f64::total_cmp);
    let p = |difference: f64| {
        use statrs::distribution::{Beta, ContinuousCDF as _};
        let t = difference / error;
        // Two-sided tail of Student's t as an incomplete beta function.
        Beta::new(degrees / 2.0, 0.5).expect("a distribution").cdf(degrees / (degrees + t * t))
    };
    let mut tests: Vec<(usize, usize, f64)> = Vec::new();
    for a in 0..means.len() {
        for b in a + 1..means.len() {
            tests.push((a, b, p(means[b] - means[a])));
        }
    }
    let holm = |value: f64| {
        let scaled = |other: f64| {
            let not_smaller = tests.iter().filter(|(_, _, p)| *p >= other).count() as f64;
            (not_smaller * other).min(1.0)
        };
        tests.iter().filter(|(_, _, p)| *p <= value).map(|(_, _, p)| scaled(*p)).fold(0.0, f64::max)
    };
    for (rank, cell) in ranking.cells.iter().enumerate() {
        close(cell.mean, means[rank], "mean");
        let better: Vec<u64> =
            tests.iter().filter(|(a, _, p)| *a == rank && holm(*p) <= 0.05).map(|(_, b, _)| *b as u64 + 1).collect();
        assert_eq!(cell.better_than, better, "{rank}");
        let Some((_, _, raw)) = tests.iter().find(|(a, b, _)| *a == 0 && *b == rank) else { continue };
        close(cell.p_value.expect("tested"), holm(*raw), "p");
        let reach = student_t_quantile(0.975, degrees) * error;
        let (low, high) = cell.difference_interval.expect("an interval");
        close(low, means[rank] - means[0] - reach, "low");
        close(high, means[rank] - means[0] + reach, "high");
    }
    assert!(ranking.cells.iter().any(|cell| !cell.better_than.is_empty()), "{ranking:?}");
}
