//! How often verdicts are wrong, by simulation through the rules themselves, and what noise records say.
//!
//! `cargo test --release --lib rate_tests -- --nocapture` prints the rates.

use super::arms::Arm;
use super::fabricate::{Project, Wanted};
use super::quality::{self, Metric};
use super::statistics::{self, SplitMix64};
use super::tests::close;
use super::{CONFIDENCE, noise, speed};
use nanochat_artifacts::{CitedNoise, Judgement, Method, NoiseRecord, Verdict, read_experiment, write_document};

/// Standard normal by the polar method.
pub(super) fn normal(generator: &mut SplitMix64) -> f64 {
    let mut unit = || 2.0 * (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 1.0;
    loop {
        let (x, y) = (unit(), unit());
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

/// Shares of passes, failures and undecided verdicts.
#[derive(Debug, Default, Clone, Copy)]
struct Rates {
    pass: f64,
    fail: f64,
    inconclusive: f64,
}

impl Rates {
    fn of(draws: u32, mut verdict: impl FnMut() -> Verdict) -> Self {
        let mut rates = Self::default();
        for _ in 0..draws {
            match verdict() {
                Verdict::Pass => rates.pass += 1.0,
                Verdict::Fail => rates.fail += 1.0,
                _ => rates.inconclusive += 1.0,
            }
        }
        let share = |count: f64| count / f64::from(draws);
        Self { pass: share(rates.pass), fail: share(rates.fail), inconclusive: share(rates.inconclusive) }
    }
}

/// 2.5% and three standard errors of a rate over so many draws.
fn nominal(draws: u32) -> f64 {
    0.025 + 3.0 * (0.025f64 * 0.975 / f64::from(draws)).sqrt()
}

/// One arm with a true mean; seeds from `first` on.
fn arm(first: u64, runs: usize, mean: f64, noise: f64, generator: &mut SplitMix64) -> Arm {
    let values = (first..).take(runs).map(|seed| (seed, mean + noise * normal(generator))).collect();
    Arm { values, note: None }
}

/// Quality through its rule, the true difference and the noise in units of the tolerance of 0.002.
fn quality_rates(runs: usize, difference: f64, spread: f64, draws: u32, same_seeds: bool) -> Rates {
    const TOLERANCE: f64 = 0.002;
    let mut generator = SplitMix64::new(20_260_703);
    let noise = spread * TOLERANCE;
    Rates::of(draws, || {
        let ours = arm(42, runs, 1.0 + difference * TOLERANCE, noise, &mut generator);
        let theirs = arm(if same_seeds { 42 } else { 142 }, runs, 1.0, noise, &mut generator);
        let blank = Judgement::missing("val_bpb", "");
        let judged = quality::compare(blank, &ours, &theirs, TOLERANCE, Metric::ValBpb, "run");
        let method = if same_seeds { Method::NonInferiorityPaired } else { Method::NonInferiorityWelch };
        assert_eq!(judged.method(), method, "{}", judged.reason);
        judged.verdict()
    })
}

#[test]
fn wrong_verdicts_stay_within_the_nominal_rate() {
    let draws = 2000;
    for same_seeds in [false, true] {
        for spread in [0.2, 0.5, 1.0, 2.0] {
            for (difference, right) in [(0.0, Verdict::Pass), (0.5, Verdict::Pass), (3.0, Verdict::Fail)] {
                let rates = quality_rates(3, difference, spread, draws, same_seeds);
                let pairs = if same_seeds { "paired" } else { "welch" };
                println!("3 × 2, {pairs}, noise {spread} tolerances, true difference {difference}: {rates:?}");
                let wrong = if right == Verdict::Pass { rates.fail } else { rates.pass };
                assert!(wrong <= nominal(draws), "{pairs}, noise {spread}, difference {difference}: {rates:?}");
            }
            let at_bound = quality_rates(3, 1.0, spread, draws, same_seeds);
            assert!(at_bound.pass <= nominal(draws) && at_bound.fail <= nominal(draws), "{spread}: {at_bound:?}");
        }
    }
    let rates = quality_rates(3, 0.0, 0.2, draws, false);
    assert!(rates.pass > 0.9, "with little noise the rule has power: {rates:?}");
}

#[test]
fn an_arm_against_itself_fails_at_most_at_the_nominal_rate() {
    let draws = 10_000;
    for (same_seeds, spread) in [(false, 0.3), (false, 3.0), (true, 0.3), (true, 3.0)] {
        let rates = quality_rates(3, 0.0, spread, draws, same_seeds);
        println!("A against A, quality, noise {spread} tolerances, same seeds {same_seeds}: {rates:?}");
        assert!(rates.fail <= nominal(draws), "{spread}, {same_seeds}: {rates:?}");
    }
    // Speed, as a ratio over runs apart and in blocks, each block with a drift of its own: noise far beyond the minimum
    // effect, and far below it.
    for spread in [0.001, 0.02] {
        let bound = 1.0 - speed::MINIMUM_EFFECT;
        let mut generator = SplitMix64::new(7);
        let apart = Rates::of(draws, || {
            let mut rates =
                || arm(0, 3, 0.0, spread, &mut generator).figures().iter().map(|v| v.exp()).collect::<Vec<_>>();
            let (ours, theirs) = (rates(), rates());
            speed::decide(&statistics::welch_log_ratio(&ours, &theirs, CONFIDENCE).expect("an estimate"), bound)
        });
        let in_blocks = Rates::of(draws, || {
            let pairs: Vec<(f64, f64)> = (0..3)
                .map(|_| {
                    let drift = 0.2 * normal(&mut generator);
                    let mut rate = || (drift + spread * normal(&mut generator)).exp();
                    (rate(), rate())
                })
                .collect();
            speed::decide(&statistics::paired_log_ratio(&pairs, CONFIDENCE).expect("an estimate"), bound)
        });
        println!("A against A, speed, noise {spread}: apart {apart:?}, in blocks {in_blocks:?}");
        assert!(apart.fail <= nominal(draws) && in_blocks.fail <= nominal(draws), "{spread}: {apart:?} {in_blocks:?}");
        assert!(spread > 0.01 || in_blocks.pass > 0.5, "the rule has power: {in_blocks:?}");
    }
}

/// Seeds of one arm, figures given.
fn one_arm(name: &str, bpb: &[f64]) -> Project {
    let mut project = Project::new(name);
    project.record.reproducibility.repeats = 0;
    for (seed, bpb) in (42..).zip(bpb) {
        project.add(Wanted { seconds: 0.2 + 1e-4 * (seed % 3) as f64, ..Wanted::seed(seed, *bpb) });
    }
    project.write_record();
    project
}

#[test]
fn noise_is_measured_over_seeds() {
    let figures = [1.0, 1.0004, 0.9998, 1.0001, 1.0003, 0.9997];
    let project = one_arm("case-noise", &figures);
    let documents = read_experiment(&project.experiment()).expect("read");
    let record = noise::measure(&documents);
    let metrics: Vec<_> = record.entries.iter().map(|entry| entry.metric.as_str()).collect();
    assert_eq!(metrics, ["min_val_bpb", "tokens_per_second", "val_bpb"]);
    let entry = record.of("val_bpb").expect("an entry");
    close(entry.standard_deviation, statistics::variance(&figures).expect("a variance").sqrt(), "deviation");
    assert_eq!((entry.runs, entry.run_ids.len()), (6, 6));
    assert!(entry.source.contains("6 seeds of `case-noise`"), "{}", entry.source);
    let (low, high) = entry.interval.expect("an interval");
    assert!(low < entry.standard_deviation && entry.standard_deviation < high);
    let (quality, speed) = noise::against_itself(&documents);
    assert_eq!(
        (quality.verdict(), speed.verdict()),
        (Verdict::Pass, Verdict::Pass),
        "{} {}",
        quality.reason,
        speed.reason
    );
    assert_eq!((quality.candidate.runs, quality.method()), (0, Method::NonInferiorityWelch));
    let few = one_arm("few-noise", &figures[..1]);
    let documents = read_experiment(&few.experiment()).expect("read");
    assert_eq!(noise::measure(&documents).entries, []);
    assert_eq!(noise::against_itself(&documents).0.verdict(), Verdict::Missing);
    // Two halves of two seeds, far apart, as noise alone can make them: that is no failure of an arm against itself.
    let two_an_arm = one_arm("two-noise", &[1.0, 1.1, 1.0, 1.1]);
    let documents = read_experiment(&two_an_arm.experiment()).expect("read");
    let quality = noise::against_itself(&documents).0;
    assert_eq!(quality.verdict(), Verdict::Missing);
    assert!(quality.reason.contains("3 seeds an arm, 6 in all"), "{}", quality.reason);
}

fn noise_of(judgement: &Judgement) -> Option<&CitedNoise> {
    judgement.finding()?.noise.as_ref()
}

#[test]
fn verdicts_cite_the_recorded_noise() {
    let record =
        noise::measure(&read_experiment(&one_arm("x-noise", &[1.0, 1.002, 0.998]).experiment()).expect("read"));
    let mut project = Project::new("x");
    project.add(Wanted::seed(42, 1.0001));
    let base = project.baseline_run(42, 1.0, 0.25);
    project.baseline(vec![base]);
    let before = project.scorecard();
    assert_eq!(noise_of(&before.quality), None);
    write_document(&project.experiment().noise(), &record).expect("written");
    let cites = |judgement: &Judgement, words: &str| {
        let cited = noise_of(judgement).expect("cited");
        assert_eq!((cited.runs, cited.source.as_str()), (3, "results/x/noise.json"));
        assert!(judgement.reason.contains(words), "{}", judgement.reason);
    };
    let after = project.scorecard();
    // 0.002 × √2 for one run against one.
    cites(
        &after.quality,
        "a standard deviation of 0.002000 between runs, 0.002828 for this difference (3 runs, `results/x/noise.json`)",
    );
    cites(&after.cells[0].speed, "% between runs (3 runs");
    cites(&after.cells[0].speed_variants[0].judgement, "recorded noise");
    assert!(after.evidence.contains_key("results/x/noise.json"));
    assert_eq!(after.quality.verdict(), before.quality.verdict(), "citing decides nothing");
    // What others published is for plans.
    std::fs::remove_file(project.experiment().noise()).expect("removed");
    write_document(&project.root().noise(), &NoiseRecord::published().expect("compiled in")).expect("written");
    assert_eq!(project.scorecard(), before);
}
