//! Speed: the ratio of throughputs, candidate over baseline, on one machine only.
//!
//! A throughput recorded on another machine is context, never a verdict. The comparison is against the baseline's fastest
//! variant; the others are judged and shown too. Where the arms ran in alternating blocks the ratio is taken block by block,
//! as a geometric mean with the t interval on its logarithms over at least three blocks. Arms that were timed apart are
//! compared by Welch's interval on the logarithms of the runs' medians, at least three an arm. With fewer blocks or runs: a
//! block bootstrap over the step times inside the runs, which doesn't see the noise between runs and says so. A difference
//! below the minimum effect counts as none: the ratio is held against `min_ratio × (1 − minimum effect)`.

use super::budget::{digits, shape_differences};
use super::quality::{interval_finding, plural, recorded_runs, unfinished};
use super::statistics::{self, Estimated, rounded};
use super::variants::{self, Variant};
use super::{BaselineEvidence, CONFIDENCE, RUNS_FOR_INTERVAL, ScorecardError, blocks};
use nanochat_artifacts::{
    ArmFigure, BaselineRun, Bound, Finding, Judgement, Method, Outcome, RunDocuments, SpeedComparison, SpeedRule,
    Tables, Verdict, steady_seconds,
};

/// Differences of throughput below this share count as none.
pub const MINIMUM_EFFECT: f64 = 0.005;
/// Draws of the bootstrap.
pub(super) const DRAWS: usize = 2000;
/// Seed of the bootstrap, so that a scorecard can be recomputed.
pub(super) const SEED: u64 = 0x6e61_6e6f_6368_6174;

/// The verdict on a cell, and the comparison with each variant of the baseline, the fastest first.
pub(super) type Judged = (Judgement, Vec<SpeedComparison>);

/// Judges one cell. `tables` holds the steps of its runs.
pub(super) fn judge(
    runs: &[&RunDocuments],
    rule: &SpeedRule,
    evidence: &BaselineEvidence,
    commit: &str,
    tables: &Tables,
) -> Result<Judged, ScorecardError> {
    let mut judgement = Judgement::missing(rule.metric.word(), "");
    judgement.bound = Some(Bound { threshold: rule.min_ratio, minimum_effect: Some(MINIMUM_EFFECT) });
    let finished: Vec<_> = runs.iter().copied().filter(|run| run.finished().is_some()).collect();
    judgement.candidate = arm_figure(&throughputs(&finished), finished.len());
    if let Some(reason) = not_as_profiled(&finished) {
        return Ok((Judgement { outcome: Outcome::NotComparable(None), reason, ..judgement }, Vec::new()));
    }
    let recorded = match recorded_runs(evidence, commit) {
        Ok(recorded) => recorded,
        Err((outcome, reason)) => return Ok((Judgement { outcome, reason, ..judgement }, Vec::new())),
    };
    if let Some(reason) = unfinished(runs) {
        return Ok((Judgement { reason, ..judgement }, Vec::new()));
    }
    let same_shape: Vec<_> = match finished.first() {
        Some(run) => recorded.iter().copied().filter(|base| shape_differences(&run.plan, base).is_empty()).collect(),
        None => Vec::new(),
    };
    if same_shape.is_empty() {
        let differences =
            finished.first().zip(recorded.first()).map(|(run, base)| shape_differences(&run.plan, base).join(", "));
        let outcome = if differences.is_some() { Outcome::NotComparable(None) } else { Outcome::Missing(None) };
        let reason = differences.map_or("the recorded baseline has no finished run".to_string(), |differences| {
            format!("no recorded baseline run has this shape and batch; the first differs in {differences}")
        });
        return Ok((Judgement { outcome, reason, ..judgement }, Vec::new()));
    }
    let fastest = fastest_first(variants::grouped(&same_shape)).into_iter().next();
    let elsewhere = fastest.map(|variant| variant.runs).unwrap_or_default();
    judgement.baseline = arm_figure(&recorded_throughputs(&elsewhere), elsewhere.len());
    match on_one_machine(&finished, &same_shape) {
        Err(reason) => Ok((Judgement { outcome: Outcome::NotComparable(None), reason, ..judgement }, Vec::new())),
        Ok((ours, theirs)) => against_variants(&judgement, (&ours, &theirs), rule, evidence, tables),
    }
}

/// The median of the runs' throughputs, with the number of runs.
pub(super) fn arm_figure(rates: &[f64], runs: usize) -> ArmFigure {
    ArmFigure { figure: statistics::median(rates).map(rounded), runs: runs as u64 }
}

fn recorded_throughputs(runs: &[&BaselineRun]) -> Vec<f64> {
    runs.iter().filter_map(|base| base.tokens_per_second).collect()
}

fn throughputs(runs: &[&RunDocuments]) -> Vec<f64> {
    runs.iter().filter_map(|run| run.finished().and_then(|summary| summary.tokens_per_second)).collect()
}

/// A run whose speed is no evidence whatever the baseline's is; none when all ran as their profile says.
fn not_as_profiled(finished: &[&RunDocuments]) -> Option<String> {
    let run = finished.iter().find(|run| run.environment.as_ref().is_some_and(|e| !e.hardware_matches_profile))?;
    Some(format!(
        "`{}` ran where the profile `{}` stood in for the spec's own, or on a machine that isn't what it says",
        run.plan.run_id, run.plan.hardware
    ))
}

/// The runs of both arms that ran on one and the same machine, or why there are none.
fn on_one_machine<'a, 'b>(
    finished: &[&'a RunDocuments],
    recorded: &[&'b BaselineRun],
) -> Result<(Vec<&'a RunDocuments>, Vec<&'b BaselineRun>), String> {
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

/// Verdict on the interval of a ratio.
pub(super) fn decide(estimate: &Estimated, bound: f64) -> Verdict {
    match () {
        () if estimate.low >= bound => Verdict::Pass,
        () if estimate.high < bound => Verdict::Fail,
        () => Verdict::Inconclusive,
    }
}

/// Variants by their throughput, the fastest first.
fn fastest_first(mut variants: Vec<Variant<'_>>) -> Vec<Variant<'_>> {
    let rate = |variant: &Variant<'_>| variants::mean_throughput(&variant.runs).unwrap_or(0.0);
    variants.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    variants
}

/// Compares with every variant that was timed on this machine; the fastest decides.
fn against_variants(
    blank: &Judgement,
    (ours, theirs): (&[&RunDocuments], &[&BaselineRun]),
    rule: &SpeedRule,
    evidence: &BaselineEvidence,
    tables: &Tables,
) -> Result<Judged, ScorecardError> {
    let mut compared = Vec::new();
    for variant in fastest_first(variants::grouped(theirs)) {
        let arms = Arms { noun: evidence.noun(), ..Arms::of(&variant, ours, theirs) };
        compared.push(arms.compare(blank.clone(), &variant, rule, tables)?);
    }
    let Some(fastest) = compared.first_mut() else { return Ok((blank.clone(), compared)) };
    fastest.fastest = true;
    let mut judgement = fastest.judgement.clone();
    if compared.len() > 1
        && let Some((fastest, others)) = compared.split_first()
    {
        judgement.reason.push_str(&format!(
            "; `{}` is the fastest of {} that the baseline was run in",
            fastest.variant,
            plural(compared.len(), "variant")
        ));
        for other in others.iter().filter(|other| other.same_dtype && !fastest.same_dtype) {
            let ratio = other.judgement.ratio().map_or("not known".to_string(), |ratio| format!("{ratio:.4}"));
            let own = other.dtype.word();
            judgement
                .reason
                .push_str(&format!("; in the candidate's own {own} (`{}`) the ratio is {ratio}", other.variant));
        }
    }
    if let Some(result) = evidence.result() {
        for name in variants::without_result(&result.runs) {
            judgement.reason.push_str(&format!("; `{name}` has no finished run"));
        }
    }
    Ok((judgement, compared))
}

/// The runs of both arms that a comparison rests on.
struct Arms<'a, 'b> {
    ours: Vec<&'a RunDocuments>,
    theirs: Vec<&'b BaselineRun>,
    /// The blocks that they form; none where they were timed apart.
    pairs: Vec<blocks::Pair<'a, 'b>>,
    /// What a run of the other arm is called.
    noun: &'static str,
}

impl<'a, 'b> Arms<'a, 'b> {
    /// Runs in blocks where there are any, else all.
    fn of(variant: &Variant<'b>, ours: &[&'a RunDocuments], recorded: &[&BaselineRun]) -> Self {
        let pairs = blocks::pairs(&variant.runs, ours, recorded);
        let (ours, theirs) = match pairs.is_empty() {
            true => (ours.to_vec(), variant.runs.clone()),
            false => pairs.iter().map(|pair| (pair.run, pair.base)).unzip(),
        };
        Self { ours, theirs, pairs, noun: "baseline run" }
    }

    fn compare(
        &self,
        mut judgement: Judgement,
        variant: &Variant<'_>,
        rule: &SpeedRule,
        tables: &Tables,
    ) -> Result<SpeedComparison, ScorecardError> {
        let mut our_times: Vec<Option<Vec<f64>>> = Vec::with_capacity(self.ours.len());
        for run in &self.ours {
            let seconds: Vec<f64> = tables.steps(run)?.iter().map(|row| row.seconds).collect();
            our_times.push((!seconds.is_empty()).then_some(seconds));
        }
        let mut found = Vec::with_capacity(self.pairs.len());
        for (pair, ours) in self.pairs.iter().zip(&our_times) {
            let evals = tables.evals(pair.run)?;
            found.push(blocks::figures(pair, ours.as_deref(), &pair.base.step_seconds, &evals));
        }
        let rates = (throughputs(&self.ours), recorded_throughputs(&self.theirs));
        judgement.candidate = arm_figure(&rates.0, self.ours.len());
        judgement.baseline = arm_figure(&rates.1, self.theirs.len());
        let (estimate, method) = self.estimate(&rates, &our_times);
        Ok(SpeedComparison {
            variant: variant.name.clone(),
            dtype: variant.dtype,
            fastest: false,
            same_dtype: self.ours.first().is_some_and(|run| run.plan.dtype == variant.dtype),
            judgement: self.decide(judgement, estimate, method, &rates, rule),
            baseline_peak_rss_bytes: self.theirs.iter().filter_map(|base| base.peak_rss_bytes).max(),
            blocks: found,
        })
    }

    fn estimate(&self, rates: &(Vec<f64>, Vec<f64>), ours: &[Option<Vec<f64>>]) -> (Option<Estimated>, Method) {
        if self.pairs.len() >= RUNS_FOR_INTERVAL {
            let ratios: Vec<_> = self.pairs.iter().map(blocks::Pair::rates).collect();
            return (statistics::paired_log_ratio(&ratios, CONFIDENCE), Method::BlockLogRatio);
        }
        if self.pairs.is_empty() && rates.0.len().min(rates.1.len()) >= RUNS_FOR_INTERVAL {
            return (statistics::welch_log_ratio(&rates.0, &rates.1, CONFIDENCE), Method::WelchLogRatio);
        }
        // Scaled, so that a step of other size counts by its tokens.
        let per_token = |times: &[f64], batch: u64| {
            let steps: Vec<f64> = steady_seconds(times).iter().map(|seconds| seconds / batch as f64).collect();
            (!steps.is_empty()).then_some(steps)
        };
        let ours: Option<Vec<_>> = ours
            .iter()
            .zip(&self.ours)
            .map(|(times, run)| per_token(times.as_deref()?, run.plan.total_batch_size))
            .collect();
        let theirs: Option<Vec<_>> =
            self.theirs.iter().map(|base| per_token(&base.step_seconds, base.total_batch_size)).collect();
        let both = ours.zip(theirs);
        let estimate = both.and_then(|(a, b)| statistics::bootstrap_speed_ratio(&a, &b, DRAWS, CONFIDENCE, SEED));
        (estimate, Method::Bootstrap)
    }

    fn decide(
        &self,
        mut judgement: Judgement,
        estimate: Option<Estimated>,
        method: Method,
        rates: &(Vec<f64>, Vec<f64>),
        rule: &SpeedRule,
    ) -> Judgement {
        let Some(estimate) = estimate.filter(|estimate| estimate.value.is_finite()) else {
            judgement.reason =
                "the time of each step is not recorded on both sides; run or record it again".to_string();
            return judgement;
        };
        let found = Finding { method, ratio: Some(rounded(estimate.value)), ..Finding::default() };
        let bound = rule.min_ratio * (1.0 - MINIMUM_EFFECT);
        judgement.outcome = interval_finding(&estimate, found).judged(decide(&estimate, bound));
        if let Outcome::Inconclusive { more_runs, .. } = &mut judgement.outcome {
            *more_runs = self.deciding_runs(method, rates, (estimate.value / bound).ln().abs());
        }
        judgement.reason = self.sentence(&judgement, &estimate, rule, bound);
        judgement
    }

    /// How many more blocks, or runs an arm, would decide; none where the noise between runs isn't known.
    fn deciding_runs(&self, method: Method, rates: &(Vec<f64>, Vec<f64>), distance: f64) -> Option<u64> {
        let logs = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
        let (needed, have) = match method {
            Method::BlockLogRatio => {
                let ratios: Vec<f64> = self.pairs.iter().map(|pair| (pair.rates().0 / pair.rates().1).ln()).collect();
                let deviation = statistics::variance(&ratios)?.sqrt();
                (statistics::pairs_to_resolve(distance, deviation, CONFIDENCE)?, ratios.len())
            }
            Method::WelchLogRatio => {
                let (a, b) = (statistics::variance(&logs(&rates.0))?, statistics::variance(&logs(&rates.1))?);
                let needed = statistics::runs_to_resolve(distance, ((a + b) / 2.0).sqrt(), CONFIDENCE)?;
                (needed, rates.0.len().min(rates.1.len()))
            }
            _ => return None,
        };
        Some(needed.saturating_sub(have as u64).max(1))
    }

    fn sentence(&self, judgement: &Judgement, estimate: &Estimated, rule: &SpeedRule, bound: f64) -> String {
        let in_blocks = !self.pairs.is_empty();
        let how = match judgement.method() {
            Method::Bootstrap => "bootstrap over the steps inside the runs, blind to noise between runs",
            Method::BlockLogRatio => "t on the logarithms of the blocks' ratios",
            _ => "Welch's t on logarithms",
        };
        let counts = match in_blocks {
            true => plural(self.pairs.len(), "block"),
            false => {
                format!("{} against {}", plural(self.ours.len(), "run"), plural(self.theirs.len(), self.noun))
            }
        };
        let more = |count: u64| match in_blocks {
            true => plural(count as usize, "more block"),
            false => format!("{} more an arm", plural(count as usize, "run")),
        };
        let relation = match judgement.verdict() {
            Verdict::Pass => "at or above".to_string(),
            Verdict::Fail => "below".to_string(),
            _ => match judgement.more_runs() {
                Some(count) => format!("across (about {} would decide)", more(count)),
                None if judgement.method() == Method::Bootstrap => {
                    let wanted = if in_blocks { "3 blocks" } else { "3 runs an arm" };
                    format!("across (at least {wanted} would give an interval over runs)")
                }
                None => "across (so near the bound that no practical number would decide)".to_string(),
            },
        };
        format!(
            "the ratio {:.4} over {counts} ({how}) has the 95% interval [{:.4}, {:.4}], {relation} {bound:.4} (at least {} asked, less the minimum effect of {}%)",
            estimate.value,
            estimate.low,
            estimate.high,
            rule.min_ratio,
            MINIMUM_EFFECT * 100.0
        )
    }
}
