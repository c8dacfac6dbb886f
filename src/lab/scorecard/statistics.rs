//! The statistics behind verdicts: Student's t, Welch and paired intervals, and a block bootstrap of medians.
//!
//! Plain f64 with a fixed order of summation, so that the same results give the same figures on every machine. Checked
//! against scipy's figures (`fixtures/statistics`) to 1e-9. Intervals are two-sided.

use statrs::distribution::{ChiSquared, ContinuousCDF as _, StudentsT};

pub use nanochat_artifacts::median;

/// An estimate with its two-sided confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimated {
    /// The point estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Arithmetic mean; none for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Unbiased sample variance; none below two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let center = mean(values)?;
    (values.len() > 1).then(|| values.iter().map(|v| (v - center).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
}

/// t interval of a mean; none below two values.
pub fn mean_interval(values: &[f64], confidence: f64) -> Option<Estimated> {
    let error = (variance(values)? / values.len() as f64).sqrt();
    Some(around(mean(values)?, error, (values.len() - 1) as f64, confidence))
}

/// Difference of means, candidate minus baseline, with Welch's interval (unequal variances, Welch–Satterthwaite degrees of
/// freedom); none where an arm has fewer than two values.
pub fn welch(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<Estimated> {
    let difference = mean(candidate)? - mean(baseline)?;
    let (n, m) = (candidate.len() as f64, baseline.len() as f64);
    let (a, b) = (variance(candidate)? / n, variance(baseline)? / m);
    let df = (a + b).powi(2) / (a * a / (n - 1.0) + b * b / (m - 1.0));
    Some(around(difference, (a + b).sqrt(), df, confidence))
}

/// Mean of the differences, candidate minus baseline, value by value, with its t interval; none below two pairs.
pub fn paired(pairs: &[(f64, f64)], confidence: f64) -> Option<Estimated> {
    let differences: Vec<f64> = pairs.iter().map(|(candidate, baseline)| candidate - baseline).collect();
    mean_interval(&differences, confidence)
}

/// Ratio of geometric means, candidate over baseline, with Welch's interval on the logarithms; none where an arm has
/// fewer than two values.
pub fn welch_log_ratio(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<Estimated> {
    let log = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let estimate = welch(&log(candidate), &log(baseline), confidence)?;
    Some(Estimated { value: estimate.value.exp(), low: estimate.low.exp(), high: estimate.high.exp() })
}

/// Geometric mean of the ratios, candidate over baseline, pair by pair, with its t interval on the logarithms; none below
/// two pairs.
pub fn paired_log_ratio(pairs: &[(f64, f64)], confidence: f64) -> Option<Estimated> {
    let logs: Vec<(f64, f64)> = pairs.iter().map(|(a, b)| (a.ln(), b.ln())).collect();
    let estimate = paired(&logs, confidence)?;
    Some(Estimated { value: estimate.value.exp(), low: estimate.low.exp(), high: estimate.high.exp() })
}

/// The t interval around a value with this standard error and these degrees of freedom; without error, the value alone.
pub(super) fn around(value: f64, error: f64, df: f64, confidence: f64) -> Estimated {
    if error == 0.0 {
        return Estimated { value, low: value, high: value };
    }
    let reach = student_t_quantile(0.5 + confidence / 2.0, df) * error;
    Estimated { value, low: value - reach, high: value + reach }
}

/// Standard deviation of normal values with its chi-squared interval; none below two values.
pub fn deviation_interval(values: &[f64], confidence: f64) -> Option<Estimated> {
    let variance = variance(values)?;
    let df = (values.len() - 1) as f64;
    let end = |p: f64| (variance * df / chi_squared_quantile(p, df)).sqrt();
    Some(Estimated { value: variance.sqrt(), low: end(0.5 + confidence / 2.0), high: end(0.5 - confidence / 2.0) })
}

/// Quantile of the chi-squared distribution.
pub fn chi_squared_quantile(p: f64, df: f64) -> f64 {
    ChiSquared::new(df).map_or(f64::NAN, |distribution| bisected(|x| distribution.cdf(x) < p))
}

/// Quantile of Student's t: the t at which the distribution reaches `p`.
pub fn student_t_quantile(p: f64, df: f64) -> f64 {
    let Ok(distribution) = StudentsT::new(0.0, 1.0, df) else { return f64::NAN };
    let tail = p.min(1.0 - p);
    let distance = if p == 0.5 { 0.0 } else { bisected(|t| distribution.sf(t) > tail) };
    if p < 0.5 { -distance } else { distance }
}

/// Two-sided p value of a difference with this standard error. Without error, any difference is certain.
pub(super) fn p_value(difference: f64, error: f64, df: f64) -> f64 {
    if error == 0.0 {
        return if difference == 0.0 { 1.0 } else { 0.0 };
    }
    StudentsT::new(0.0, 1.0, df)
        .map_or(f64::NAN, |distribution| (2.0 * distribution.sf((difference / error).abs())).min(1.0))
}

/// Holm's step-down correction: p values in their order, each as it counts when all of them are tested together.
pub(super) fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (place, test) in order.iter().enumerate() {
        largest = largest.max((p_values.len() - place) as f64 * p_values[*test]).min(1.0);
        corrected[*test] = largest;
    }
    corrected
}

/// Where a falling condition stops to hold, above zero: by bisection until the bracket can't shrink, in some 100 steps.
/// The library's own inverse of Student's t is off by 1e-8 for many degrees of freedom.
fn bisected(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while is_below(high) && high < 1e300 {
        (low, high) = (high, high * 2.0);
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if is_below(middle) { low = middle } else { high = middle }
    }
}

/// How many runs an arm would bring the half-width of a two-arm interval below `distance`, if each arm's standard
/// deviation stays `deviation`; none above 10,000.
pub fn runs_to_resolve(distance: f64, deviation: f64, confidence: f64) -> Option<u64> {
    fewest(distance, |runs| {
        student_t_quantile(0.5 + confidence / 2.0, 2.0 * (runs - 1.0)) * deviation * (2.0 / runs).sqrt()
    })
}

/// How many pairs would bring the half-width of the interval of their mean difference below `distance`, if the standard
/// deviation of the differences stays `deviation`; none above 10,000.
pub fn pairs_to_resolve(distance: f64, deviation: f64, confidence: f64) -> Option<u64> {
    fewest(distance, |pairs| student_t_quantile(0.5 + confidence / 2.0, pairs - 1.0) * deviation / pairs.sqrt())
}

/// The smallest count from 2 to 10,000 whose half-width is below `distance`; half-widths fall with the count.
pub(super) fn fewest(distance: f64, half_width: impl Fn(f64) -> f64) -> Option<u64> {
    let enough = |count: u64| half_width(count as f64) < distance;
    let (mut low, mut high) = (2, 10_000);
    if distance <= 0.0 || !enough(high) {
        return None;
    }
    while low < high {
        let middle = (low + high) / 2;
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

/// A small seeded generator (SplitMix64, Steele, Lea and Flood 2014): resampling has to give the same figures everywhere.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `bound`, by multiplication (Lemire); the bias is below 2⁻⁵⁰ for the sizes here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// Ratio of the arms' throughputs, candidate over baseline, with a percentile bootstrap interval. An arm is one list of
/// step times a run, and its throughput the geometric mean over the runs of one over the median step time.
///
/// Step times lean on their neighbours, so whole stretches of length ⌈n^⅓⌉ are drawn, around the end and on from the
/// start (circular block bootstrap, Politis and Romano 1992). None where a run has no steps.
pub fn bootstrap_speed_ratio(
    candidate: &[Vec<f64>],
    baseline: &[Vec<f64>],
    draws: usize,
    confidence: f64,
    seed: u64,
) -> Option<Estimated> {
    let value = (log_speed(candidate)? - log_speed(baseline)?).exp();
    let mut generator = SplitMix64::new(seed);
    let resampled = |runs: &'_ [Vec<f64>]| runs.iter().map(|steps| Resampled::new(steps.clone())).collect::<Vec<_>>();
    let (mut ours, mut theirs) = (resampled(candidate), resampled(baseline));
    let mut ratios = Vec::with_capacity(draws);
    for _ in 0..draws {
        let log = drawn_log_speed(&mut ours, &mut generator)? - drawn_log_speed(&mut theirs, &mut generator)?;
        ratios.push(log.exp());
    }
    ratios.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Estimated { value, low: quantile(&ratios, tail)?, high: quantile(&ratios, 1.0 - tail)? })
}

fn log_speed(runs: &[Vec<f64>]) -> Option<f64> {
    let logs = runs.iter().map(|steps| median(steps).map(|seconds| -seconds.ln())).collect::<Option<Vec<_>>>()?;
    mean(&logs)
}

fn drawn_log_speed(runs: &mut [Resampled], generator: &mut SplitMix64) -> Option<f64> {
    let logs = runs.iter_mut().map(|run| run.draw(generator).map(|seconds| -seconds.ln()));
    mean(&logs.collect::<Option<Vec<_>>>()?)
}

/// Values that are drawn from over and over. A draw's median is found by counting how often each value was drawn and
/// walking the values in their order, which was sorted once: some times faster than sorting each draw.
struct Resampled {
    values: Vec<f64>,
    /// Places of the values, smallest first.
    order: Vec<usize>,
    /// How often each place was drawn.
    counts: Vec<i64>,
}

impl Resampled {
    fn new(values: Vec<f64>) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| f64::total_cmp(&values[*a], &values[*b]));
        Self { counts: vec![0; values.len() + 1], order, values }
    }

    /// Median of as many values as there are, drawn in stretches around the end and on from the start.
    fn draw(&mut self, generator: &mut SplitMix64) -> Option<f64> {
        let count = self.values.len();
        let stretch = (count as f64).cbrt().ceil() as usize;
        self.counts.fill(0);
        let mut left = count;
        while left > 0 {
            let length = stretch.min(left);
            self.count_stretch(generator.below(count), length);
            left -= length;
        }
        let mut sum = 0;
        for count in &mut self.counts {
            sum += *count;
            *count = sum;
        }
        self.median()
    }

    /// Counts a stretch by its ends: the running sum over all places is then how often each was drawn.
    fn count_stretch(&mut self, start: usize, length: usize) {
        let count = self.values.len();
        let end = start + length;
        self.counts[start] += 1;
        self.counts[end.min(count)] -= 1;
        if end > count {
            self.counts[0] += 1;
            self.counts[end - count] -= 1;
        }
    }

    fn median(&self) -> Option<f64> {
        let count = self.values.len() as i64;
        let (mut passed, mut lower) = (0, None);
        for place in &self.order {
            passed += self.counts[*place];
            let value = self.values[*place];
            if lower.is_none() && passed > (count - 1) / 2 {
                lower = Some(value);
            }
            if passed > count / 2 {
                return lower.map(|lower| if count % 2 == 0 { (lower + value) / 2.0 } else { value });
            }
        }
        None
    }
}

/// Quantile of sorted values with linear interpolation (numpy's default).
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let place = p * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(low + (high - low) * (place - place.floor()))
}

/// Rounds to 12 significant digits, which is far finer than any figure here is known, and drops the last bits in which
/// the mathematical libraries of two systems may differ.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}
