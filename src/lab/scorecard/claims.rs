//! Verdicts on claims (rules v2): quality from an interval over seeds, speed from blocks of one session, or `off`.
//!
//! `better` passes when the whole interval of the difference lies on the better side of zero and fails when none of it
//! does; `no_worse` does the same at the tolerance. Without an interval there is no verdict but `inconclusive`, with the
//! number of seeds that would decide. What is not claimed is not judged.

use nanochat_artifacts::{
    ArmsRecord, BaselineRun, Bound, CitedNoise, Effect, Finding, Judgement, Method, NoiseEntry, Outcome, QualityClaim,
    QualityRule, RunDocuments, SpeedClaim, SpeedComparison, SpeedRule, Verdict,
};
use nanochat_plan::configuration_hash;

use super::answer::{self, Difference};
use super::evidence::{self, Evidence, Observation, Sample, Sweep};
use super::quality::{self, Metric, plural, unfinished};
use super::statistics::{self, rounded};
use super::{BaselineEvidence, CONFIDENCE, SEEDS_FOR_INTERVAL, arms, comparable, speed};

/// An entry of a noise document, with the document's path from the project's folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Lender {
    /// The path.
    pub source: String,
    /// The entry.
    pub entry: NoiseEntry,
}

/// A cell's arm: each seed's first finished run, with its initial weights.
pub(super) fn sample(runs: &[&RunDocuments], metric: Metric) -> Sample {
    let arm = arms::candidate(runs, metric);
    let initial = |seed: u64| {
        let mut of_seed: Vec<_> = runs.iter().filter(|run| run.plan.seed == seed && run.finished().is_some()).collect();
        of_seed.sort_by_key(|run| run.plan.repeat);
        of_seed.first().and_then(|run| run.finished()?.initial_weights_sha256.clone())
    };
    let observation =
        |(seed, value): &(u64, f64)| Observation { seed: *seed, value: *value, initial_weights: initial(*seed) };
    Sample {
        observations: arm.values.iter().map(observation).collect(),
        configuration: runs.first().map(|run| configuration_hash(&run.plan)),
    }
}

/// The cells of an experiment, and what their quality is claimed against.
pub(super) struct Claims<'a> {
    /// The rule.
    pub rule: &'a QualityRule,
    /// The runs of each cell.
    pub cells: &'a [Vec<&'a RunDocuments>],
    /// The arms of the cells.
    pub sweep: Sweep,
    /// Place of each cell's control, where it is a cell.
    pub controls: Vec<Option<usize>>,
    /// How the arms differ, where there are any.
    pub arms: Option<&'a ArmsRecord>,
    /// What is recorded.
    pub evidence: &'a BaselineEvidence,
    /// The baseline's commit.
    pub commit: &'a str,
    /// Noise that may be lent.
    pub lenders: &'a [Lender],
}

/// Two arms that may be compared.
pub(super) struct Arms<'a> {
    /// What they are called.
    pub names: (String, String),
    /// The arm that is judged.
    pub ours: &'a Sample,
    /// The arm that it is compared with.
    pub theirs: Sample,
    /// From both arms' own seeds; none with too few of them.
    pub evidence: Option<Evidence>,
    /// What a run of the other arm is called.
    pub noun: &'static str,
    /// What has to be said about how runs were counted.
    pub note: Option<String>,
}

impl Claims<'_> {
    /// Judges one cell; with the sentence that compares it with the control, where they could be compared.
    pub fn quality(&self, cell: usize) -> (Judgement, Option<String>) {
        let metric = self.rule.metric;
        let mut judgement = Judgement::missing(metric.word(), "");
        let Some((runs, ours)) = self.cells.get(cell).zip(self.sweep.sample(cell)) else { return (judgement, None) };
        judgement.candidate = figure(ours);
        let claim = self.rule.claim.unwrap_or(QualityClaim::NoWorse);
        if claim == QualityClaim::Off {
            let reason = "the spec claims nothing of quality".to_string();
            return (Judgement { outcome: Outcome::Off, reason, ..judgement }, None);
        }
        let arms = match self.controls.get(cell).copied().flatten() {
            _ if matches!(self.evidence, BaselineEvidence::NoControl(_)) => self.recorded(runs, ours),
            Some(control) => self.cells_compared(cell, control, ours),
            None => self.recorded(runs, ours),
        };
        match arms {
            Err((outcome, reason)) => (Judgement { outcome, reason, ..judgement }, None),
            Ok(arms) => judge(judgement, &arms, self.rule, self.lenders),
        }
    }

    /// Against a cell of the same matrix.
    fn cells_compared<'s>(
        &'s self,
        cell: usize,
        control: usize,
        ours: &'s Sample,
    ) -> Result<Arms<'s>, (Outcome, String)> {
        let missing = |reason: String| (Outcome::Missing(None), reason);
        let (Some(runs), Some(others)) = (self.cells.get(cell), self.cells.get(control)) else {
            return Err(missing("the control has no runs".to_string()));
        };
        if let Some(reason) = unfinished(runs).or_else(|| unfinished(others)) {
            return Err(missing(reason));
        }
        let first = |runs: &[&'s RunDocuments]| runs.iter().find_map(|run| Some((&run.plan, run.finished()?)));
        let (Some(mine), Some(other)) = (first(runs), first(others)) else {
            return Err(missing("no run is finished".to_string()));
        };
        let differences = comparable::differences(mine, other, self.rule.metric);
        if !differences.is_empty() {
            let files = comparable::files(mine.0, self.arms, &differences);
            let reason = format!("this cell and the control differ in {}{files}", differences.join(", "));
            return Err((Outcome::NotComparable(None), reason));
        }
        let theirs = self.sweep.sample(control).cloned().unwrap_or_default();
        Ok(Arms {
            names: (answer::cell_name(&mine.0.axes), answer::other_name(&other.0.axes)),
            ours,
            theirs,
            evidence: self.sweep.compare(cell, control),
            noun: "seed",
            note: None,
        })
    }

    /// Against the recorded baseline.
    fn recorded<'s>(&self, runs: &[&RunDocuments], ours: &'s Sample) -> Result<Arms<'s>, (Outcome, String)> {
        let (matched, note) = quality::matched_baseline(runs, self.evidence, self.commit)?;
        if let Some(reason) = unfinished(runs) {
            return Err((Outcome::Missing(None), reason));
        }
        let (theirs, counted) = recorded_sample(&matched, self.rule.metric);
        let axes = runs.first().map(|run| run.plan.axes.clone()).unwrap_or_default();
        Ok(Arms {
            names: (answer::cell_name(&axes), "the baseline".to_string()),
            ours,
            evidence: evidence::compare(ours, &theirs),
            theirs,
            noun: "baseline run",
            note: [note, counted].into_iter().flatten().reduce(|a, b| format!("{a}; {b}")),
        })
    }
}

fn recorded_sample(matched: &[&BaselineRun], metric: Metric) -> (Sample, Option<String>) {
    let arm = arms::baseline(matched, metric);
    let observation = |(seed, value): &(u64, f64)| Observation { seed: *seed, value: *value, initial_weights: None };
    (Sample { observations: arm.values.iter().map(observation).collect(), configuration: None }, arm.note)
}

/// The mean for the document, over so many seeds.
pub(super) fn figure(sample: &Sample) -> nanochat_artifacts::ArmFigure {
    nanochat_artifacts::ArmFigure { figure: sample.mean().map(rounded), runs: sample.observations.len() as u64 }
}

/// Judges two arms by the claim, with the sentence on what was found.
pub(super) fn judge(
    mut judgement: Judgement,
    arms: &Arms<'_>,
    rule: &QualityRule,
    lenders: &[Lender],
) -> (Judgement, Option<String>) {
    let metric = rule.metric;
    judgement.baseline = figure(&arms.theirs);
    let (Some(mean), Some(reference)) = (arms.ours.mean(), arms.theirs.mean()) else {
        judgement.reason = format!("a side has no {metric}; ask for it in the spec's `eval`");
        return (judgement, None);
    };
    let claim = rule.claim.unwrap_or(QualityClaim::NoWorse);
    let tolerance = match claim {
        QualityClaim::NoWorse => rule.absolute.unwrap_or(0.0) + rule.relative.unwrap_or(0.0) * reference.abs(),
        _ => 0.0,
    };
    judgement.bound = Some(Bound::at(rounded(quality::signed(tolerance, metric))));
    let note = arms.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let (found, lent) = match &arms.evidence {
        Some(evidence) => (Some(evidence.clone()), None),
        None => lent(arms, metric, lenders),
    };
    let Some(evidence) = found else {
        let finding = Finding { difference: Some(rounded(mean - reference)), ..Finding::default() };
        let fewest = arms.ours.observations.len().min(arms.theirs.observations.len());
        let more = SEEDS_FOR_INTERVAL.saturating_sub(fewest).max(1) as u64;
        judgement.outcome = Outcome::Inconclusive { finding, more_runs: Some(more) };
        judgement.reason = format!(
            "no interval ({}): {} more an arm would give one, and no noise of this configuration is recorded{note}",
            answer::seeds(arms.ours.observations.len() as u64, arms.theirs.observations.len() as u64, arms.noun),
            plural(more as usize, "seed")
        );
        return (judgement, None);
    };
    let (verdict, difference) = decide(&evidence, claim, tolerance, metric, reference);
    let finding = finding(&evidence, &difference, lent.clone());
    let counts = answer::seeds(judgement.candidate.runs, judgement.baseline.runs, arms.noun);
    let sentence = answer::sentence((&arms.names.0, &arms.names.1), &difference, (claim, verdict), &counts);
    judgement.outcome = finding.judged(verdict);
    let mut more = String::new();
    if let Outcome::Inconclusive { more_runs, .. } = &mut judgement.outcome {
        *more_runs = evidence.more_seeds((worse(evidence.difference, metric) - tolerance).abs());
        more = match more_runs {
            Some(count) => format!("; about {} more an arm would decide", plural(*count as usize, "seed")),
            None => "; no practical number of seeds would decide".to_string(),
        };
    }
    judgement.reason =
        format!("{sentence} ({}); {}{more}{note}", how(&evidence, lent.as_ref()), claimed(claim, tolerance, verdict));
    (judgement, Some(sentence))
}

/// How much worse, whichever direction the metric is better in.
fn worse(difference: f64, metric: Metric) -> f64 {
    if metric.lower_is_better() { difference } else { -difference }
}

/// The verdict on a claim, and the difference in words.
pub(super) fn decide(
    evidence: &Evidence,
    claim: QualityClaim,
    tolerance: f64,
    metric: Metric,
    reference: f64,
) -> (Verdict, Difference) {
    let estimate = evidence.estimate();
    let (a, b) = (worse(estimate.low, metric), worse(estimate.high, metric));
    let (best, worst) = (a.min(b), a.max(b));
    let verdict = match claim {
        QualityClaim::Off => Verdict::Off,
        QualityClaim::Better if worst < 0.0 => Verdict::Pass,
        QualityClaim::Better if best >= 0.0 => Verdict::Fail,
        QualityClaim::NoWorse if worst <= tolerance => Verdict::Pass,
        QualityClaim::NoWorse if best > tolerance => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    let interval = (estimate.low, estimate.high);
    (verdict, Difference { metric, value: estimate.value, interval, reference })
}

fn finding(evidence: &Evidence, difference: &Difference, lent: Option<CitedNoise>) -> Finding {
    Finding {
        method: evidence.method,
        difference: Some(rounded(evidence.difference)),
        interval: Some(quality::rounded_interval(&evidence.estimate())),
        confidence: Some(CONFIDENCE),
        noise: lent,
        effect: Some(difference.effect()),
        standard_error: Some(rounded(evidence.standard_error)),
        degrees_of_freedom: Some(rounded(evidence.degrees)),
        ..Finding::default()
    }
}

/// The interval that recorded noise of the same configuration lends; none where there is no such noise.
fn lent(arms: &Arms<'_>, metric: Metric, lenders: &[Lender]) -> (Option<Evidence>, Option<CitedNoise>) {
    let configuration = arms.ours.configuration.as_ref();
    let same = |sample: &Sample| sample.configuration.is_none() || sample.configuration.as_ref() == configuration;
    let fits = |lender: &&Lender| {
        let entry = &lender.entry;
        entry.metric == metric.word() && configuration.is_some() && entry.configuration.as_ref() == configuration
    };
    let Some(lender) = lenders.iter().find(fits).filter(|_| same(&arms.theirs)) else { return (None, None) };
    let NoiseEntry { standard_deviation, runs, .. } = lender.entry;
    let cited =
        CitedNoise { standard_deviation, runs, source: lender.source.clone(), configuration: configuration.cloned() };
    let evidence = evidence::lent(arms.ours, &arms.theirs, standard_deviation, runs);
    let cited = evidence.is_some().then_some(cited);
    (evidence, cited)
}

fn how(evidence: &Evidence, lent: Option<&CitedNoise>) -> String {
    let degrees = format!("{} of freedom", plural(evidence.degrees.round() as usize, "degree"));
    match (evidence.method, lent) {
        (_, Some(noise)) => format!(
            "lent noise: a standard deviation of {:.6} over {} of the same configuration, `{}`",
            noise.standard_deviation,
            plural(noise.runs as usize, "run"),
            noise.source
        ),
        (Method::Paired, _) => format!("t, paired by initial weights, {degrees}"),
        (Method::PairedPooled, _) => format!("t, paired by initial weights, variance pooled over the cells, {degrees}"),
        (Method::Pooled, _) => format!("t, variance pooled over the cells, {degrees}"),
        _ => "Welch's t".to_string(),
    }
}

fn claimed(claim: QualityClaim, tolerance: f64, verdict: Verdict) -> String {
    let (what, bound) = match claim {
        QualityClaim::Better => ("better", String::new()),
        _ => ("no worse", format!(" by more than the tolerance of {tolerance:.6}")),
    };
    let is = match verdict {
        Verdict::Pass => "and shown",
        Verdict::Fail => "and refuted",
        _ => "and neither shown nor refuted",
    };
    format!("claimed {what}{bound}, {is}")
}

/// Blocks of one session decide by the claim: blocks of one session decide, anything else is context. `judged` is what the runs show.
pub(super) fn speed(rule: &SpeedRule, judged: speed::Judged) -> speed::Judged {
    let (judgement, variants) = judged;
    let claim = rule.claim.unwrap_or(SpeedClaim::Off);
    if claim == SpeedClaim::Off {
        let reason = "the spec claims nothing of speed".to_string();
        return (Judgement { outcome: Outcome::Off, bound: None, reason, ..judgement }, Vec::new());
    }
    let variants: Vec<SpeedComparison> =
        variants.into_iter().map(|one| SpeedComparison { judgement: by_blocks(rule, claim, &one), ..one }).collect();
    let fastest = variants.iter().find(|one| one.fastest).map(|one| one.judgement.clone());
    (fastest.unwrap_or(judgement), variants)
}

pub(super) fn by_blocks(rule: &SpeedRule, claim: SpeedClaim, compared: &SpeedComparison) -> Judgement {
    let judgement = compared.judgement.clone();
    let blocks: Vec<(f64, f64)> = compared
        .blocks
        .iter()
        .map(|block| (block.candidate.tokens_per_second, block.baseline.tokens_per_second))
        .collect();
    if blocks.is_empty() {
        let seen = judgement
            .ratio()
            .map(|ratio| format!("; the ratio {ratio:.4} of separate runs is context"))
            .unwrap_or_default();
        let reason = format!(
            "speed is judged from blocks of one session, and there are none: `nanochat run` makes one of cells that are compared with a cell, `arms` and `--with-baseline` do{seen}"
        );
        return Judgement { outcome: Outcome::Missing(None), reason, ..judgement };
    }
    let Some(estimate) = statistics::paired_log_ratio(&blocks, CONFIDENCE) else {
        let reason = format!("one block gives no interval; {SEEDS_FOR_INTERVAL} or more do");
        let finding = Finding { ratio: judgement.ratio(), ..Finding::default() };
        return Judgement { outcome: Outcome::Inconclusive { finding, more_runs: Some(1) }, reason, ..judgement };
    };
    let effect = speed::MINIMUM_EFFECT;
    let bound = match claim {
        SpeedClaim::Faster => rule.min_ratio * (1.0 + effect),
        _ => rule.min_ratio * (1.0 - effect),
    };
    let verdict = match claim {
        SpeedClaim::Faster if estimate.low > bound => Verdict::Pass,
        SpeedClaim::Faster if estimate.high <= bound => Verdict::Fail,
        SpeedClaim::Faster => Verdict::Inconclusive,
        _ => speed::decide(&estimate, bound),
    };
    let finding = Finding {
        method: Method::BlockLogRatio,
        ratio: Some(rounded(estimate.value)),
        effect: Some(match () {
            () if estimate.low > 1.0 => Effect::Better,
            () if estimate.high < 1.0 => Effect::Worse,
            () => Effect::Unresolved,
        }),
        ..Finding::default()
    };
    let reason = format!(
        "the ratio {:.4} over {} has the 95% interval [{:.4}, {:.4}]; claimed {} {bound:.4}",
        estimate.value,
        plural(blocks.len(), "block"),
        estimate.low,
        estimate.high,
        if claim == SpeedClaim::Faster { "above" } else { "at least" }
    );
    let outcome = quality::interval_finding(&estimate, finding).judged(verdict);
    let bound = Some(Bound { threshold: rounded(bound), minimum_effect: None });
    Judgement { outcome, reason, bound, ..judgement }
}
