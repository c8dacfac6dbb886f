//! Before and after: two sets of results of the same experiments, matched by experiment, matrix cell, seed and repeat.
//!
//! The earlier side's rules judge; what the later side says otherwise is for a person to approve ([`super::approvals`]). Where a
//! plan changed, or the rules are v2, the change is the treatment ([`super::across`]). Runs of one plan under rules v1 are
//! judged as an experiment is judged against the baseline: quality as non-inferiority within the experiment's own tolerance, paired by seed; speed as a ratio on one machine, no slower than before. Says what appeared and
//! what vanished, what nobody touched, and what changed without a verdict.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::across::Across;
use super::approvals::{Approval, Both, Judging};
use super::arms::Arm;
use super::pairs::{Pair, pairs};
use super::quality::{self, plural};
use super::statistics::{self, Estimated, rounded};
use super::{CONFIDENCE, RUNS_FOR_INTERVAL, ScorecardError, severity, speed};
use nanochat_artifacts::{
    Bound, EvalRow, ExperimentRecord, Finding, Judgement, Method, Outcome, QualityClaim, RunDocuments, Snapshot,
    StepRow, Summary, Tree, Verdict, steady_steps,
};

/// A comparison of two sets of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// `nanochat.comparison/v1`.
    pub schema: String,
    /// What the earlier side is called.
    pub before: String,
    /// What the later side is called.
    pub after: String,
    /// What changed in quality, in one sentence.
    pub answer: Option<String>,
    /// What a person must approve: changes of rules and inputs, and results that were removed. The earlier side's rules judge.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// A person has approved them: the later side's rules judge.
    #[serde(default)]
    pub approved: bool,
    /// The worst verdict on quality.
    pub quality: Verdict,
    /// The worst verdict on speed.
    pub speed: Verdict,
    /// Experiments on both sides.
    pub experiments: Vec<ComparedExperiment>,
    /// Experiments of which both sides hold the same recordings and rules.
    pub untouched: Vec<String>,
    /// Results of the later side that their spec no longer plans.
    pub stale: Vec<Stale>,
    /// Results of the later side that other code made than there is now: a warning.
    #[serde(default)]
    pub other_code: Vec<Stale>,
    /// Experiments only on the later side.
    pub appeared: Vec<String>,
    /// Experiments only on the earlier side.
    pub vanished: Vec<String>,
}

/// Results that are not those of their spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stale {
    /// The experiment.
    pub experiment: String,
    /// What the spec says otherwise.
    pub reason: String,
}

/// One experiment on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedExperiment {
    /// Its name.
    pub name: String,
    /// Its matrix cells on both sides.
    pub cells: Vec<ComparedCell>,
    /// Why a change of this experiment counts as not judged; none where it was, or where nothing changed or is claimed.
    pub unjudged: Option<String>,
    /// Run ids only on the later side.
    pub appeared: Vec<String>,
    /// Run ids only on the earlier side.
    pub vanished: Vec<String>,
}

/// One matrix cell on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedCell {
    /// What its axes say.
    pub label: String,
    /// What changed in the plan: the values that decide the result, causes first.
    pub changes: Vec<nanochat_plan::Change>,
    /// The difference in one sentence, where there is an interval.
    pub answer: Option<String>,
    /// The validation curve of the first seed that both sides have; not written where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<ComparedCurves>,
    /// Whether every compared run has the same final weights as before, bit for bit.
    pub identical: bool,
    /// Quality after against before.
    pub quality: Judgement,
    /// Speed after against before.
    pub speed: Judgement,
}

/// Validation curves of both sides: tokens and bits per byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedCurves {
    /// Before.
    pub before: Vec<(u64, f64)>,
    /// After.
    pub after: Vec<(u64, f64)>,
}

impl nanochat_artifacts::Document for Comparison {
    const SCHEMA: &'static str = "nanochat.comparison/v1";

    fn schema(&self) -> &str {
        &self.schema
    }
}

/// Compares two trees of results.
///
/// # Errors
/// Documents that can't be read, and two sides without any results.
pub fn compare(before: &Tree, after: &Tree, judging: &Judging) -> Result<Comparison, ScorecardError> {
    let (mut old, new) = (before.experiments()?, after.experiments()?);
    if old.is_empty() && new.is_empty() {
        return Err(ScorecardError::NothingThere { before: before.label(), after: after.label() });
    }
    let approvals = Both { before: (before, &old), after: (after, &new), judging }.approvals()?;
    let mut experiments = Vec::new();
    let (mut appeared, mut untouched) = (Vec::new(), Vec::new());
    for (name, later) in &new {
        match old.remove(name) {
            None => appeared.push(name.clone()),
            Some(earlier) => {
                let rules = match judging.approved {
                    true => &later.record,
                    false => judging.rules.get(name).unwrap_or(&earlier.record),
                };
                let sides = Sides { before, after, earlier: &earlier, later, rules };
                if sides.are_untouched() {
                    untouched.push(name.clone());
                }
                experiments.push(sides.compare(name)?);
            }
        }
    }
    let worst = |get: fn(&ComparedCell) -> &Judgement| {
        let verdicts =
            experiments.iter().flat_map(|one: &ComparedExperiment| one.cells.iter()).map(|cell| get(cell).verdict());
        verdicts.max_by_key(|verdict| severity(*verdict)).unwrap_or(Verdict::Missing)
    };
    let mut comparison = Comparison {
        schema: <Comparison as nanochat_artifacts::Document>::SCHEMA.to_string(),
        before: before.label(),
        after: after.label(),
        answer: None,
        approvals,
        approved: judging.approved,
        quality: worst(|cell| &cell.quality),
        speed: worst(|cell| &cell.speed),
        experiments,
        untouched,
        stale: Vec::new(),
        other_code: Vec::new(),
        appeared,
        vanished: old.into_keys().collect(),
    };
    comparison.answer = answer(&comparison);
    Ok(comparison)
}

/// The experiments that somebody touched.
fn touched(comparison: &Comparison) -> impl Iterator<Item = &ComparedExperiment> {
    comparison.experiments.iter().filter(|one| !comparison.untouched.contains(&one.name))
}

/// What changed in quality, in one sentence: the worst change of those that were judged, and how many there are.
fn answer(comparison: &Comparison) -> Option<String> {
    let counted = |count: usize| plural(count, "experiment");
    if touched(comparison).next().is_none() && !comparison.untouched.is_empty() {
        let count = comparison.untouched.len();
        let are = if count == 1 { "is as it was" } else { "are as they were" };
        return Some(format!("nothing changed: {} {are}", counted(count)));
    }
    let judged: Vec<_> = touched(comparison)
        .flat_map(|one| one.cells.iter().map(move |cell| (one, cell)))
        .filter_map(|(one, cell)| Some((one, cell, cell.answer.as_ref()?)))
        .collect();
    let (one, cell, sentence) = judged.iter().max_by_key(|(_, cell, _)| severity(cell.quality.verdict()))?;
    let place = if one.cells.len() == 1 { one.name.clone() } else { format!("{}, {}", one.name, cell.label) };
    let more = if judged.len() == 1 { String::new() } else { format!("; the worst of {} changed cells", judged.len()) };
    Some(format!("{place}: {sentence}{more}"))
}

/// Whether a person must approve something and hasn't.
fn awaits_approval(comparison: &Comparison) -> bool {
    !comparison.approved && !comparison.approvals.is_empty()
}

/// What `--gate` makes of a comparison.
pub fn gate(comparison: &Comparison) -> super::Gate {
    let cells = || comparison.experiments.iter().flat_map(|one| one.cells.iter());
    let any = |wanted: Verdict| cells().any(|cell| cell.quality.verdict() == wanted || cell.speed.verdict() == wanted);
    let off = |cell: &ComparedCell| cell.quality.verdict() == Verdict::Off && cell.speed.verdict() == Verdict::Off;
    if any(Verdict::Fail) {
        super::Gate::Failed
    } else if any(Verdict::Inconclusive) {
        super::Gate::Inconclusive
    } else if !comparison.stale.is_empty()
        || awaits_approval(comparison)
        || touched(comparison).any(|one| one.unjudged.is_some())
    {
        super::Gate::Unjudged
    } else if any(Verdict::Pass) || (cells().count() > 0 && cells().all(off)) {
        super::Gate::Passed
    } else {
        super::Gate::NothingCompared
    }
}

/// One experiment on both sides.
struct Sides<'a> {
    before: &'a Tree,
    after: &'a Tree,
    earlier: &'a Snapshot,
    later: &'a Snapshot,
    /// What is claimed, by which rules.
    rules: &'a ExperimentRecord,
}

/// `1 run was`, `3 runs were`.
fn were(count: usize) -> String {
    format!("{} {}", plural(count, "run"), if count == 1 { "was" } else { "were" })
}

impl<'a> Sides<'a> {
    fn compare(&self, name: &str) -> Result<ComparedExperiment, ScorecardError> {
        let mut cells: Vec<(String, Vec<&RunDocuments>)> = Vec::new();
        for run in &self.later.runs {
            let label = super::cells::label(run);
            match cells.iter_mut().find(|(other, _)| *other == label) {
                Some((_, runs)) => runs.push(run),
                None => cells.push((label, vec![run])),
            }
        }
        let missing = |from: &Snapshot, other: &Snapshot| {
            let absent = |run: &&RunDocuments| !other.runs.iter().any(|o| o.plan.run_id == run.plan.run_id);
            from.runs.iter().filter(absent).map(|run| run.plan.run_id.clone()).collect::<Vec<_>>()
        };
        let compared = cells.iter().filter_map(|(label, runs)| self.cell(label, runs).transpose());
        let compared = compared.collect::<Result<Vec<ComparedCell>, _>>()?;
        Ok(ComparedExperiment {
            name: name.to_string(),
            unjudged: self.unjudged(&compared),
            cells: compared,
            appeared: missing(self.later, self.earlier),
            vanished: missing(self.earlier, self.later),
        })
    }

    /// Whether both sides hold the same recordings and rules.
    fn are_untouched(&self) -> bool {
        let same = |run: &RunDocuments, other: &RunDocuments| {
            (&run.plan, &run.summary, &run.environment) == (&other.plan, &other.summary, &other.environment)
        };
        self.earlier.record == self.later.record
            && self.earlier.runs.len() == self.later.runs.len()
            && self.earlier.runs.iter().zip(&self.later.runs).all(|(run, other)| same(run, other))
    }

    /// Why a change counts as not judged: a claim that no cell, or not every changed cell, has a verdict on.
    fn unjudged(&self, cells: &[ComparedCell]) -> Option<String> {
        if self.are_untouched() {
            return None;
        }
        let lacks = |judgement: &Judgement| matches!(judgement.verdict(), Verdict::Missing | Verdict::NotComparable);
        let claims_speed = self.rules.ruleset != super::V1;
        let lacking = cells.iter().find_map(|cell| {
            let judgements = [Some(&cell.quality), Some(&cell.speed).filter(|_| claims_speed)];
            let found = judgements.into_iter().flatten().find(|judgement| lacks(judgement))?;
            Some(format!("{}: {}", cell.label, found.reason))
        });
        let none = || "no cell is on both sides".to_string();
        lacking.or_else(|| cells.is_empty().then(none))
    }

    /// Judges one cell; none when it wasn't there before.
    fn cell(&self, label: &str, runs: &[&'a RunDocuments]) -> Result<Option<ComparedCell>, ScorecardError> {
        let earlier: Vec<_> = self.earlier.runs.iter().filter(|run| super::cells::label(run) == label).collect();
        if earlier.is_empty() {
            return Ok(None);
        }
        let across = Across { record: self.rules, earlier: &earlier, later: runs };
        if across.applies() {
            return self.across(label, &across).map(Some);
        }
        let (pairs, problem) = pairs(&earlier, runs);
        let rule = &self.rules.quality;
        let undecided_both = |outcome: Outcome, reason: &str| ComparedCell {
            label: label.to_string(),
            changes: Vec::new(),
            answer: None,
            curves: None,
            identical: false,
            quality: Judgement::undecided(rule.metric.word(), outcome.clone(), reason),
            speed: Judgement::undecided("tokens_per_second", outcome, reason),
        };
        if pairs.is_empty() {
            let (outcome, reason) =
                problem.unwrap_or((Outcome::Missing(None), "no run is finished on both sides".to_string()));
            return Ok(Some(undecided_both(outcome, &reason)));
        }
        if let Some(reason) = pairs.iter().find_map(Pair::contradiction) {
            return Ok(Some(undecided_both(Outcome::NotComparable(None), &reason)));
        }
        let identical = pairs.iter().all(Pair::has_same_weights);
        let mut quality = self.quality(&pairs, identical);
        if let Some((_, reason)) = problem {
            quality.reason = format!("{}; left out: {reason}", quality.reason);
        }
        let (label, speed) = (label.to_string(), self.speed(&pairs)?);
        let curves = self.curves(&earlier, runs)?;
        Ok(Some(ComparedCell { label, changes: Vec::new(), answer: None, curves, identical, quality, speed }))
    }

    /// Judges a cell whose plan changed, or by rules v2.
    fn across(&self, label: &str, across: &Across<'_>) -> Result<ComparedCell, ScorecardError> {
        let (pairs, _) = pairs(across.earlier, across.later);
        let contradiction = pairs.iter().find_map(Pair::contradiction);
        let identical = !pairs.is_empty()
            && pairs.len() == across.later.len()
            && pairs.iter().all(Pair::has_same_weights)
            && contradiction.is_none();
        // The same weights are no worse; they are no better either, when a change claims to be.
        let no_worse = match self.rules.quality.claim {
            Some(QualityClaim::Off) => false,
            Some(QualityClaim::Better) => across.changes().is_empty(),
            _ => true,
        };
        let (quality, answer) = match identical && no_worse {
            true => (self.quality(&pairs, identical), None),
            false => across.quality(),
        };
        let (quality, answer) = match contradiction {
            Some(reason) if !matches!(quality.verdict(), Verdict::NotComparable | Verdict::Off) => {
                (Judgement::undecided(self.rules.quality.metric.word(), Outcome::NotComparable(None), &reason), None)
            }
            _ => (quality, answer),
        };
        let speed = match self.rules.ruleset == super::V1 {
            true => Judgement::undecided(
                "tokens_per_second",
                Outcome::NotComparable(None),
                "the plan changed, and speed is compared for one plan alone",
            ),
            false => across.speed(),
        };
        let (label, changes) = (label.to_string(), across.changes());
        let curves = self.curves(across.earlier, across.later)?;
        Ok(ComparedCell { label, changes, answer, curves, identical, quality, speed })
    }

    /// The curves of the first seed that is finished on both sides, where somebody touched the experiment.
    fn curves(
        &self,
        earlier: &[&RunDocuments],
        later: &[&RunDocuments],
    ) -> Result<Option<ComparedCurves>, ScorecardError> {
        let is_whole = |run: &&&RunDocuments| run.finished().is_some();
        let other = |run: &RunDocuments| earlier.iter().filter(is_whole).find(|other| other.plan.seed == run.plan.seed);
        let pair = later.iter().filter(is_whole).find_map(|run| Some((*other(run)?, *run)));
        let Some((old, new)) = pair.filter(|_| !self.are_untouched()) else { return Ok(None) };
        let curve = |rows: Option<Vec<EvalRow>>| -> Vec<(u64, f64)> {
            let measured = rows.into_iter().flatten().filter_map(|row| Some((row.step, row.tokens, row.val_bpb?)));
            let all: Vec<(u64, u64, f64)> = measured.collect();
            let settled = all.iter().filter(|(step, _, _)| *step > 0 || all.len() < 3);
            settled.map(|(_, tokens, bpb)| (*tokens, *bpb)).collect()
        };
        let (before, after) = (curve(self.before.evals(old)?), curve(self.after.evals(new)?));
        Ok((before.len() > 1 && after.len() > 1).then_some(ComparedCurves { before, after }))
    }

    fn quality(&self, pairs: &[Pair<'_>], identical: bool) -> Judgement {
        let rule = &self.rules.quality;
        let metric = rule.metric;
        let arm = |get: &dyn Fn(&Pair<'_>) -> Option<f64>| {
            let mut values: BTreeMap<u64, f64> = BTreeMap::new();
            for pair in pairs {
                if let Some(value) = get(pair) {
                    values.entry(pair.later.plan.seed).or_insert(value);
                }
            }
            Arm { values: values.into_iter().collect(), note: None }
        };
        let (new, old) = (arm(&|pair| pair.new.quality(metric)), arm(&|pair| pair.old.quality(metric)));
        let mut judgement = Judgement::missing(metric.word(), format!("the runs have no {metric}"));
        let (Some(after), Some(before)) = (statistics::mean(&new.figures()), statistics::mean(&old.figures())) else {
            return judgement;
        };
        let tolerance = rule.absolute.unwrap_or(0.0) + rule.relative.unwrap_or(0.0) * before.abs();
        (judgement.candidate, judgement.baseline) = (new.figure(), old.figure());
        judgement.bound = Some(Bound::at(rounded(quality::signed(tolerance, metric))));
        if identical {
            let difference = Some(rounded(after - before));
            judgement.outcome = Outcome::Pass(Finding { method: Method::Bitwise, difference, ..Finding::default() });
            judgement.reason =
                format!("the final weights of {} are the same as before, bit for bit", plural(pairs.len(), "run"));
            return judgement;
        }
        quality::compare(judgement, &new, &old, tolerance, metric, "earlier run")
    }

    fn speed(&self, pairs: &[Pair<'_>]) -> Result<Judgement, ScorecardError> {
        let mut judgement = Judgement::missing("tokens_per_second", "the runs have no throughput");
        judgement.bound = Some(Bound { threshold: 1.0, minimum_effect: Some(speed::MINIMUM_EFFECT) });
        let machine = |run: &RunDocuments| run.environment.as_ref().map(|environment| environment.machine_id.clone());
        let same: Vec<&Pair<'_>> = pairs
            .iter()
            .filter(|pair| machine(pair.earlier).is_some() && machine(pair.earlier) == machine(pair.later))
            .collect();
        let rates: Vec<(f64, f64)> =
            same.iter().filter_map(|pair| Some((pair.new.tokens_per_second?, pair.old.tokens_per_second?))).collect();
        if same.is_empty() {
            judgement.outcome = Outcome::NotComparable(None);
            judgement.reason =
                "the two sides ran on different machines: a throughput recorded elsewhere is context".to_string();
            return Ok(judgement);
        }
        if pairs.iter().all(Pair::is_one_recording) {
            judgement.outcome = Outcome::Pass(Finding { ratio: Some(1.0), ..Finding::default() });
            judgement.reason = format!("{} not made again: both sides hold the same recording", were(pairs.len()));
            return Ok(judgement);
        }
        let column = |get: fn(&(f64, f64)) -> f64| rates.iter().map(get).collect::<Vec<_>>();
        judgement.candidate = speed::arm_figure(&column(|rate| rate.0), same.len());
        judgement.baseline = speed::arm_figure(&column(|rate| rate.1), same.len());
        let (estimate, method, how) = if rates.len() >= RUNS_FOR_INTERVAL {
            (statistics::paired_log_ratio(&rates, CONFIDENCE), Method::PairedLogRatio, "run by run")
        } else {
            (
                self.bootstrap(&same)?,
                Method::Bootstrap,
                "bootstrap over the steps inside the runs, blind to noise between runs",
            )
        };
        let Some(estimate) = estimate.filter(|estimate| estimate.value.is_finite()) else { return Ok(judgement) };
        Ok(judged_ratio(judgement, &estimate, method, how))
    }

    fn bootstrap(&self, pairs: &[&Pair<'_>]) -> Result<Option<Estimated>, ScorecardError> {
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for pair in pairs {
            let (Some(later), Some(earlier)) = (self.after.steps(pair.later)?, self.before.steps(pair.earlier)?) else {
                return Ok(None);
            };
            let per_token = |rows: &[StepRow], run: &RunDocuments| {
                steady_steps(rows).iter().map(|row| row.seconds / run.plan.total_batch_size as f64).collect::<Vec<_>>()
            };
            new.push(per_token(&later, pair.later));
            old.push(per_token(&earlier, pair.earlier));
        }
        Ok(statistics::bootstrap_speed_ratio(&new, &old, speed::DRAWS, CONFIDENCE, speed::SEED))
    }
}

fn judged_ratio(mut judgement: Judgement, estimate: &Estimated, method: Method, how: &str) -> Judgement {
    let bound = 1.0 - speed::MINIMUM_EFFECT;
    let found = Finding { method, ratio: Some(rounded(estimate.value)), ..Finding::default() };
    judgement.outcome = quality::interval_finding(estimate, found).judged(speed::decide(estimate, bound));
    let relation = match judgement.verdict() {
        Verdict::Pass => "at or above",
        Verdict::Fail => "below",
        _ => "across",
    };
    judgement.reason = format!(
        "the ratio {:.4} over {} ({how}) has the 95% interval [{:.4}, {:.4}], {relation} {bound:.4} (as fast as before, less the minimum effect of {}%)",
        estimate.value,
        plural(judgement.candidate.runs as usize, "pair"),
        estimate.low,
        estimate.high,
        speed::MINIMUM_EFFECT * 100.0
    );
    judgement
}

/// What differs between two plans that have another hash, the first three things.
pub(super) fn plan_difference(earlier: &RunDocuments, later: &RunDocuments) -> Option<String> {
    if earlier.plan.plan_hash == later.plan.plan_hash {
        return None;
    }
    let flat = |run: &RunDocuments| {
        let mut values = BTreeMap::new();
        if let Ok(plan) = serde_json::to_value(nanochat_plan::RunPlan { total_flops: 0, ..run.plan.clone() }) {
            flatten("", &plan, &mut values);
        }
        values
    };
    let (old, new) = (flat(earlier), flat(later));
    let reported = |key: &&String| !matches!(key.as_str(), "plan_hash" | "run_id" | "experiment" | "schema");
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).filter(reported).collect();
    let word = |values: &BTreeMap<String, String>, key: &String| {
        values.get(key).cloned().unwrap_or_else(|| "nothing".to_string())
    };
    let changed: Vec<String> = keys
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| format!("{key} {} → {}", word(&old, key), word(&new, key)))
        .collect();
    let more = if changed.len() > 3 { format!(" and {} more", changed.len() - 3) } else { String::new() };
    Some(format!("{}{more}", changed.iter().take(3).cloned().collect::<Vec<_>>().join(", ")))
}

pub(super) fn flatten(key: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&below, value, into);
            }
        }
        other => {
            into.insert(key.to_string(), other.to_string());
        }
    }
}

/// Which input's hash differs.
pub(super) fn input_difference(old: &Summary, new: &Summary) -> Option<&'static str> {
    match () {
        () if old.data_sha256 != new.data_sha256 => Some("the data"),
        () if old.tokenizer_sha256 != new.tokenizer_sha256 => Some("the tokenizer"),
        () if old.first_batch_sha256 != new.first_batch_sha256 => Some("the first batch"),
        () => None,
    }
}
