//! How often verdicts of rules v2 are wrong, by simulation through the rules themselves, with the power beside it.
//!
//! `cargo test --release --workspace --lib claim_rates -- --nocapture` prints the rates.

use super::CONFIDENCE;
use super::claims::decide;
use super::evidence::{self, Evidence, Observation, Sample, Sweep};
use super::quality::Metric;
use super::rate_tests::normal;
use super::statistics::{self, SplitMix64};
use nanochat_artifacts::{Method, QualityClaim, Verdict};

const DRAWS: u32 = 10_000;
const TOLERANCE: f64 = 0.002;
const NOISE: f64 = 0.001;

/// An error rate and three standard errors of it over the draws.
fn at_most(rate: f64) -> f64 {
    rate + 3.0 * (rate * (1.0 - rate) / f64::from(DRAWS)).sqrt()
}

/// How an experiment is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    cells: usize,
    seeds: usize,
    /// Whether initial weights agree, so that cells share what a seed brings.
    paired: bool,
    /// Whether the cells are of one configuration.
    pooled: bool,
}

/// Arms whose first has a true difference from all others; what a seed brings is shared where they are paired.
fn arms(layout: Layout, difference: f64, generator: &mut SplitMix64) -> Vec<Sample> {
    let shared: Vec<f64> = (0..layout.seeds).map(|_| 3.0 * NOISE * normal(generator)).collect();
    let arm = |cell: usize, generator: &mut SplitMix64| {
        let observation = |seed: usize, generator: &mut SplitMix64| Observation {
            seed: seed as u64,
            value: 0.8
                + if cell == 0 { difference } else { 0.0 }
                + if layout.paired { shared[seed] } else { 0.0 }
                + NOISE * normal(generator),
            initial_weights: layout.paired.then(|| format!("{seed}")),
        };
        Sample {
            observations: (0..layout.seeds).map(|seed| observation(seed, generator)).collect(),
            configuration: layout.pooled.then(|| "one".to_string()),
        }
    };
    (0..layout.cells).map(|cell| arm(cell, generator)).collect()
}

/// Shares of passes and failures.
fn rates(claim: QualityClaim, mut evidence: impl FnMut() -> Evidence) -> (f64, f64) {
    let (mut passes, mut failures) = (0.0, 0.0);
    for _ in 0..DRAWS {
        match decide(&evidence(), claim, tolerance(claim), Metric::ValBpb, 0.8).0 {
            Verdict::Pass => passes += 1.0,
            Verdict::Fail => failures += 1.0,
            _ => {}
        }
    }
    (passes / f64::from(DRAWS), failures / f64::from(DRAWS))
}

fn tolerance(claim: QualityClaim) -> f64 {
    if claim == QualityClaim::NoWorse { TOLERANCE } else { 0.0 }
}

const LAYOUTS: [(Layout, Method); 7] = [
    (Layout { cells: 2, seeds: 2, paired: true, pooled: true }, Method::Paired),
    (Layout { cells: 2, seeds: 3, paired: true, pooled: true }, Method::Paired),
    (Layout { cells: 6, seeds: 2, paired: true, pooled: true }, Method::PairedPooled),
    (Layout { cells: 2, seeds: 2, paired: false, pooled: true }, Method::Pooled),
    (Layout { cells: 6, seeds: 3, paired: false, pooled: true }, Method::Pooled),
    (Layout { cells: 2, seeds: 2, paired: false, pooled: false }, Method::Welch),
    (Layout { cells: 2, seeds: 5, paired: false, pooled: false }, Method::Welch),
];

/// At the bound itself either error has its nominal rate of 2.5%: `better` at no difference, `no_worse` at the tolerance.
#[test]
fn claims_are_wrong_at_most_at_the_nominal_rate() {
    for (layout, method) in LAYOUTS {
        for claim in [QualityClaim::Better, QualityClaim::NoWorse] {
            let mut generator = SplitMix64::new(20_261_127);
            let mut rates_at = |difference: f64| {
                rates(claim, || {
                    let found = Sweep::new(arms(layout, difference, &mut generator)).compare(0, 1).expect("evidence");
                    assert_eq!(found.method, method, "{layout:?}");
                    found
                })
            };
            let (pass, fail) = rates_at(tolerance(claim));
            let power = rates_at(tolerance(claim) - 6.0 * NOISE).0;
            println!(
                "{claim:?} {layout:?}: at the bound pass {pass:.4} fail {fail:.4}; six deviations better, power {power:.3}"
            );
            assert!(pass <= at_most(0.025) && fail <= at_most(0.025), "{claim:?} {layout:?}: {pass} {fail}");
            assert!(layout.seeds == 2 || power > 0.8, "{claim:?} {layout:?}: power {power}");
        }
    }
}

/// One seed against one: the standard deviation comes from six other runs of the same configuration.
#[test]
fn lent_noise_is_wrong_at_most_at_the_nominal_rate() {
    let layout = Layout { cells: 2, seeds: 1, paired: false, pooled: true };
    let mut generator = SplitMix64::new(3);
    let mut rates_at = |difference: f64| {
        rates(QualityClaim::Better, || {
            let lender: Vec<f64> = (0..6).map(|_| NOISE * normal(&mut generator)).collect();
            let deviation = statistics::variance(&lender).expect("a variance").sqrt();
            let arms = arms(layout, difference, &mut generator);
            evidence::lent(&arms[0], &arms[1], deviation, 6).expect("evidence")
        })
    };
    let ((pass, fail), power) = (rates_at(0.0), rates_at(-6.0 * NOISE).0);
    println!("lent noise: at no difference pass {pass:.4} fail {fail:.4}; six deviations better, power {power:.3}");
    assert!(pass <= at_most(0.025) && fail <= at_most(0.025) && power > 0.8, "{pass} {fail} {power}");
}

/// Blocks whose machine drifts from one to the next: only the ratio inside a block counts.
#[test]
fn blocks_under_drift_are_wrong_at_most_at_the_nominal_rate() {
    let mut generator = SplitMix64::new(5);
    let mut rates_at = |blocks: usize, gain: f64| {
        let (mut high, mut low) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let mut drift = 0.0;
            let pairs: Vec<(f64, f64)> = (0..blocks)
                .map(|_| {
                    drift += 0.1 * normal(&mut generator);
                    let mut rate = |gain: f64| (drift + gain + 0.01 * normal(&mut generator)).exp();
                    (rate(gain), rate(0.0))
                })
                .collect();
            let estimate = statistics::paired_log_ratio(&pairs, CONFIDENCE).expect("an estimate");
            high += f64::from(u8::from(estimate.low > 1.0));
            low += f64::from(u8::from(estimate.high < 1.0));
        }
        (high / f64::from(DRAWS), low / f64::from(DRAWS))
    };
    for blocks in [2, 3, 6] {
        let ((high, low), power) = (rates_at(blocks, 0.0), rates_at(blocks, 0.1).0);
        println!("{blocks} blocks under drift: faster {high:.4}, slower {low:.4}; 10% faster, power {power:.3}");
        assert!(high <= at_most(0.025) && low <= at_most(0.025), "{blocks}: {high} {low}");
        assert!(blocks == 2 || power > 0.8, "{blocks}: {power}");
    }
}

/// Twelve cells, eleven of them alike: any resolved difference between alike cells is a family error of at most 5%.
#[test]
fn holm_over_twelve_cells_keeps_the_family_error() {
    for (paired, seeds) in [(true, 2), (true, 3), (false, 3)] {
        let layout = Layout { cells: 12, seeds, paired, pooled: true };
        let mut generator = SplitMix64::new(12);
        let (mut errors, mut all_found) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let sweep = Sweep::new(arms(layout, -6.0 * NOISE, &mut generator));
            let pairs: Vec<(usize, usize)> = (0..12).flat_map(|a| (a + 1..12).map(move |b| (a, b))).collect();
            let p_values: Vec<f64> =
                pairs.iter().map(|(a, b)| sweep.compare(*a, *b).expect("evidence").p_value()).collect();
            let corrected = statistics::holm(&p_values);
            let resolved = |wanted: bool| {
                let tests = pairs.iter().zip(&corrected).filter(move |((a, _), _)| (*a == 0) == wanted);
                tests.map(|(_, p)| *p <= 1.0 - CONFIDENCE)
            };
            errors += f64::from(u8::from(resolved(false).any(|is| is)));
            all_found += f64::from(u8::from(resolved(true).all(|is| is)));
        }
        let (error, power) = (errors / f64::from(DRAWS), all_found / f64::from(DRAWS));
        println!(
            "12 cells, {seeds} seeds, paired {paired}: family error {error:.4}; the best resolved from all, {power:.3}"
        );
        assert!(error <= at_most(0.05), "{layout:?}: {error}");
        assert!(power > 0.2, "{layout:?}: {power}");
    }
}
