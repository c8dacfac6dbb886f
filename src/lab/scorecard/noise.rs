//! Noise: an arm against itself. What runs that differ in their seed alone show is recorded in a document that plans count
//! with and verdicts cite, and their two halves, judged like two arms, must not come out as a failure.

use std::path::Path;

use super::arms::{self, Arm};
use super::claims::Lender;
use super::quality::{self, Metric};
use super::statistics::{self, rounded};
use super::{CONFIDENCE, RUNS_FOR_INTERVAL, ScorecardError, cells, speed};
use nanochat_artifacts::{
    CitedNoise, Document, ExperimentDocuments, ExperimentFolder, Finding, Judgement, Method, NoiseEntry, NoiseRecord,
    QualityRule, ResultsRoot, RunDocuments, Scorecard, file_sha256,
};
use nanochat_plan::configuration_hash;

/// What the runs of an experiment's first cell show, one entry a metric that they have.
pub fn measure(documents: &ExperimentDocuments) -> NoiseRecord {
    let runs = first_cell(documents);
    let mut entries = Vec::new();
    for metric in [Metric::CoreMetric, Metric::MinValBpb, Metric::ValBpb] {
        entries.extend(entry(metric.word(), &arms::candidate(&runs, metric), documents, &runs));
    }
    if on_one_machine(&runs) {
        entries.extend(entry("tokens_per_second", &throughputs(&runs), documents, &runs));
    }
    entries.sort_by(|a, b| a.metric.cmp(&b.metric));
    NoiseRecord { schema: NoiseRecord::SCHEMA.to_string(), entries }
}

fn first_cell(documents: &ExperimentDocuments) -> Vec<&RunDocuments> {
    let label = documents.runs.first().map(cells::label);
    documents.runs.iter().filter(|run| Some(cells::label(run)) == label).collect()
}

/// Tokens per second by seed, each seed's first finished run.
fn throughputs(runs: &[&RunDocuments]) -> Arm {
    let rate = |run: &&&RunDocuments| Some((run.plan.seed, run.finished()?.tokens_per_second?));
    let mut values: Vec<(u64, f64)> = runs.iter().filter_map(|run| rate(&run)).collect();
    values.sort_by_key(|(seed, _)| *seed);
    values.dedup_by_key(|(seed, _)| *seed);
    Arm { values, note: None }
}

fn on_one_machine(runs: &[&RunDocuments]) -> bool {
    let machine = |run: &RunDocuments| {
        let environment = run.environment.as_ref()?;
        environment.hardware_matches_profile.then(|| environment.machine_id.clone())
    };
    let first = runs.first().and_then(|run| machine(run));
    first.is_some() && runs.iter().all(|run| machine(run) == first)
}

fn entry(metric: &str, arm: &Arm, documents: &ExperimentDocuments, runs: &[&RunDocuments]) -> Option<NoiseEntry> {
    let figures = arm.figures();
    let deviation = statistics::deviation_interval(&figures, CONFIDENCE)?;
    let cell = runs.first().map(|run| cells::label(run)).unwrap_or_default();
    Some(NoiseEntry {
        metric: metric.to_string(),
        standard_deviation: rounded(deviation.value),
        interval: Some((rounded(deviation.low), rounded(deviation.high))),
        mean: statistics::mean(&figures).map(rounded),
        runs: figures.len() as u64,
        configuration: runs.first().map(|run| configuration_hash(&run.plan)),
        experiment: Some(documents.record.name.clone()),
        run_ids: runs.iter().filter(|run| run.finished().is_some()).map(|run| run.plan.run_id.clone()).collect(),
        source: format!("{} of `{}`, {cell}", quality::plural(figures.len(), "seed"), documents.record.name),
    })
}

/// Quality and speed of one half of the runs against the other: every second seed.
pub fn against_itself(documents: &ExperimentDocuments) -> (Judgement, Judgement) {
    let (record, runs) = (&documents.record, first_cell(documents));
    let blank = Judgement::missing(
        record.quality.metric.word(),
        format!(
            "it takes {RUNS_FOR_INTERVAL} seeds an arm, {} in all, to judge quality over seeds",
            2 * RUNS_FOR_INTERVAL
        ),
    );
    let metric = record.quality.metric;
    let (first, second) = halves(&arms::candidate(&runs, metric));
    // With fewer it would be a point comparison, which says nothing of an arm against itself.
    let enough = first.values.len().min(second.values.len()) >= RUNS_FOR_INTERVAL;
    let quality = match statistics::mean(&first.figures()).filter(|_| enough) {
        None => blank,
        Some(mean) => {
            let QualityRule { absolute, relative, .. } = record.quality;
            let tolerance = absolute.unwrap_or(0.0) + relative.unwrap_or(0.0) * mean.abs();
            quality::compare(blank, &second, &first, tolerance, metric, "seed of the same arm")
        }
    };
    let rates = if on_one_machine(&runs) { throughputs(&runs) } else { Arm::default() };
    (quality, rate_halves(&rates, record.speed.min_ratio))
}

/// Every second value.
fn halves(arm: &Arm) -> (Arm, Arm) {
    let part = |odd: usize| {
        let values = arm.values.iter().enumerate().filter(|(place, _)| place % 2 == odd);
        Arm { values: values.map(|(_, value)| *value).collect(), note: None }
    };
    (part(0), part(1))
}

fn rate_halves(rates: &Arm, min_ratio: f64) -> Judgement {
    let (first, second) = halves(rates);
    let (first, second) = (first.figures(), second.figures());
    let mut judgement = Judgement::missing(
        "tokens_per_second",
        format!("it takes {RUNS_FOR_INTERVAL} runs an arm on one machine to judge speed over runs"),
    );
    if first.len().min(second.len()) < RUNS_FOR_INTERVAL {
        return judgement;
    }
    let Some(estimate) = statistics::welch_log_ratio(&second, &first, CONFIDENCE) else { return judgement };
    let bound = min_ratio * (1.0 - speed::MINIMUM_EFFECT);
    let finding = Finding {
        method: Method::WelchLogRatio,
        ratio: Some(rounded(estimate.value)),
        interval: Some(quality::rounded_interval(&estimate)),
        ..Finding::default()
    };
    judgement.outcome = finding.judged(speed::decide(&estimate, bound));
    judgement.reason = format!(
        "the ratio {:.4} over {} against {} of the same arm (Welch's t on logarithms) has the 95% interval [{:.4}, {:.4}]; the bound is {bound:.4}",
        estimate.value,
        quality::plural(second.len(), "run"),
        first.len(),
        estimate.low,
        estimate.high
    );
    judgement
}

/// Noise that verdicts of rules v2 may be lent, of the experiment itself first, then of the project.
pub(super) fn lenders(folder: &ExperimentFolder, project_root: &Path) -> Result<Vec<Lender>, ScorecardError> {
    let own = format!("results/{}/noise.json", folder.name());
    let project = ResultsRoot::new(project_root).noise();
    let mut found = Vec::new();
    for (source, path) in [(own, folder.noise()), ("experiments/noise.json".to_string(), project)] {
        let entries = NoiseRecord::recorded(&path)?.map(|record| record.entries).unwrap_or_default();
        found.extend(entries.into_iter().map(|entry| Lender { source: source.clone(), entry }));
    }
    Ok(found)
}

/// The noise documents that a scorecard's cells were lent from, with their hashes.
pub(super) fn lent(scorecard: &Scorecard, project_root: &Path) -> Result<Vec<(String, String)>, ScorecardError> {
    let mut sources: Vec<&String> =
        scorecard.cells.iter().filter_map(|cell| Some(&cell.quality.finding()?.noise.as_ref()?.source)).collect();
    sources.sort();
    sources.dedup();
    sources.into_iter().map(|source| Ok((source.clone(), file_sha256(&project_root.join(source))?))).collect()
}

/// Has every judgement cite the noise that was recorded for the experiment, else for the project; gives the hash of each
/// record that is cited, by path. Published figures of other programs' runs are for plans, not for verdicts.
pub(super) fn cite(
    scorecard: &mut Scorecard,
    folder: &ExperimentFolder,
    project_root: &Path,
) -> Result<Vec<(String, String)>, ScorecardError> {
    let root = ResultsRoot::new(project_root);
    let own = format!("results/{}/noise.json", folder.name());
    let mut cited = Vec::new();
    for (name, path) in [(own, folder.noise()), ("experiments/noise.json".to_string(), root.noise())] {
        let Some(record) = NoiseRecord::recorded(&path)? else { continue };
        let mut any = false;
        let cells = scorecard.cells.iter_mut().flat_map(|cell| {
            let variants = cell.speed_variants.iter_mut().map(|variant| &mut variant.judgement);
            [&mut cell.quality, &mut cell.speed].into_iter().chain(variants)
        });
        for judgement in [&mut scorecard.quality, &mut scorecard.speed].into_iter().chain(cells) {
            any |= cite_one(judgement, &record, &name);
        }
        if any {
            cited.push((name, file_sha256(&path)?));
        }
    }
    Ok(cited)
}

/// Adds the record's figure to a judgement that compares something and cites nothing yet.
fn cite_one(judgement: &mut Judgement, record: &NoiseRecord, path: &str) -> bool {
    let entry = record.of(&judgement.metric).filter(|entry| entry.experiment.is_some());
    let (candidate, baseline) = (judgement.candidate.runs as f64, judgement.baseline.runs as f64);
    let found = judgement.finding_mut().filter(|found| found.difference.or(found.ratio).is_some());
    let Some((entry, found)) = entry.zip(found.filter(|found| found.noise.is_none())) else { return false };
    let deviation = entry.standard_deviation;
    let apart = matches!(found.method, Method::Point | Method::NonInferiorityWelch | Method::WelchLogRatio);
    let spread = (1.0 / candidate + 1.0 / baseline).sqrt();
    let share = entry.mean.filter(|mean| *mean != 0.0 && found.ratio.is_some()).map(|mean| deviation / mean);
    let words = |value: f64| match share {
        Some(_) => format!("{:.2}%", value * 100.0),
        None => format!("{value:.6}"),
    };
    let unit = share.unwrap_or(deviation);
    let here = if apart && spread.is_finite() {
        format!(", {} for this {}", words(unit * spread), if found.ratio.is_some() { "ratio" } else { "difference" })
    } else {
        String::new()
    };
    found.noise = Some(CitedNoise {
        standard_deviation: deviation,
        runs: entry.runs,
        source: path.to_string(),
        configuration: None,
    });
    judgement.reason.push_str(&format!(
        "; recorded noise: a standard deviation of {} between runs{here} ({}, `{path}`)",
        words(unit),
        quality::plural(entry.runs as usize, "run")
    ));
    true
}
