//! Verdicts from artifacts on disk alone: quality, speed and reproducibility, per matrix cell and over all.
//!
//! The rules are stated where they are applied. `ruleset: v1`: [`quality`], [`speed`], [`reproducibility`], and what makes
//! two runs comparable in [`budget`]. `ruleset: v2`: [`claims`] on the [`evidence`] of seeds, [`comparable`], [`ranking`]. Every verdict carries its figures and the sentence that explains it. Refuses to
//! decide on point estimates when there are repeats, to compare what differs in budget or machine, and to let a run that
//! didn't finish drop out silently. Needs no engine: runs on a machine that never trained.

mod across;
mod answer;
mod approvals;
mod arms;
mod bench;
mod blocks;
mod budget;
mod cells;
pub mod claims;
mod comparable;
pub mod compare;
mod control;
mod curves;
pub mod drift;
mod evidence;
mod fallbacks;
mod leaderboard;
pub mod noise;
mod overview;
mod pairs;
pub mod power;
mod quality;
mod ranking;
mod reproducibility;
mod speed;
pub mod statistics;
mod sweeps;
pub mod timing;
mod variants;
mod worst;

#[cfg(test)]
mod claim_rates_tests;
#[cfg(test)]
mod claims_tests;
#[cfg(test)]
mod compare_tests;
#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod drift_tests;
#[cfg(test)]
pub(crate) mod fabricate;
#[cfg(test)]
mod independent_tests;
#[cfg(test)]
mod rate_tests;
#[cfg(test)]
mod speed_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timing_tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nanochat_artifacts::{
    ArtifactError, BaselineResult, Document, ExperimentDocuments, ExperimentFolder, QualityClaim, Scorecard, Tables,
    Verdict, file_sha256, files, read_document, read_experiment, write_document,
};

use claims::Lender;

pub(crate) use answer::number;
pub use approvals::{Approval, Judging};
pub use bench::{BenchComparison, ComparedFigure, compare_benches};
pub use curves::{Chart, Curve, Curves, DRAWN_RUNS, Line, cell_of, curves};
pub use leaderboard::{LeaderboardContext, LeaderboardGroup, LeaderboardRow, leaderboard};
pub use overview::{ExperimentOverview, Listing, Order, RunOverview, Verdicts, of_experiment, overview, verdict_name};
pub use quality::Metric;
pub use sweeps::{HeatMap, SweepChart, SweepLine, SweepPoint, sweep};
pub use worst::severity;

/// The first rules: no worse and no slower than the baseline, as points where there are few runs.
pub const V1: &str = "v1";
/// Rules on claims, with intervals over seeds.
pub const V2: &str = "v2";
/// Seeds an arm, or blocks, that rules v2 need before they form an interval.
pub const SEEDS_FOR_INTERVAL: usize = 2;
/// Confidence level of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// Runs an arm needs before an interval over runs is formed; with fewer, figures are compared as points.
pub const RUNS_FOR_INTERVAL: usize = 3;

/// Why no scorecard could be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum ScorecardError {
    /// A document couldn't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// Rules of another version.
    #[error("`{}` asks for the ruleset `{found}`; this program knows `{V1}` and `{V2}`", path.display())]
    #[diagnostic(help("use the version of nanochat that the experiment was recorded with"))]
    UnknownRuleset {
        /// The record.
        path: PathBuf,
        /// What it names.
        found: String,
    },
    /// Neither side of a comparison has results.
    #[error("neither `{before}` nor `{after}` has results")]
    #[diagnostic(help("results lie in `results/<experiment>/`, each with an experiment.json"))]
    NothingThere {
        /// The one side.
        before: String,
        /// The other side.
        after: String,
    },
}

/// What is known of the baseline.
#[derive(Debug, Clone)]
pub enum BaselineEvidence {
    /// The spec names no recording.
    NotNamed,
    /// The spec names one that isn't on disk.
    Absent(String),
    /// A recording.
    Recorded(Box<BaselineResult>),
    /// The spec names a cell of its own matrix, by these axes, and no run of it is there.
    NoControl(String),
    /// The runs of the cell that the spec names.
    Control(Box<BaselineResult>),
}

impl BaselineEvidence {
    /// The runs to hold against, when there are any.
    fn result(&self) -> Option<&BaselineResult> {
        match self {
            Self::Recorded(result) | Self::Control(result) => Some(result),
            _ => None,
        }
    }

    /// What one of its runs is called.
    fn noun(&self) -> &'static str {
        if matches!(self, Self::Control(_)) { "control run" } else { "baseline run" }
    }
}

/// Builds the scorecard of an experiment from its folder; the baseline's path is taken from `project_root`.
///
/// # Errors
/// Documents that are malformed, rules or metrics of another version. Missing evidence is a verdict, not an error.
pub fn build(folder: &ExperimentFolder, project_root: &Path) -> Result<Scorecard, ScorecardError> {
    let documents = read_experiment(folder)?;
    let (baseline, baseline_hash) = read_baseline(&documents, project_root)?;
    let lenders = noise::lenders(folder, project_root)?;
    let mut scorecard = judge(&documents, &baseline, &lenders)?;
    scorecard.evidence = evidence(&documents)?;
    scorecard.evidence.extend(baseline_hash);
    let cited = match scorecard.ruleset.as_str() {
        V1 => noise::cite(&mut scorecard, folder, project_root)?,
        _ => noise::lent(&scorecard, project_root)?,
    };
    scorecard.evidence.extend(cited);
    Ok(scorecard)
}

/// Builds the scorecard and writes it to `scorecard.json`.
pub fn update(folder: &ExperimentFolder, project_root: &Path) -> Result<Scorecard, ScorecardError> {
    let scorecard = build(folder, project_root)?;
    write_document(&folder.scorecard(), &scorecard)?;
    Ok(scorecard)
}

/// The rules of an experiment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rules<'a> {
    /// The first.
    V1,
    /// Claims; noise that may be lent.
    V2(&'a [Lender]),
}

/// Judges documents that were read before; leaves `evidence` empty. `lenders`: noise that rules v2 may lend.
pub fn judge(
    documents: &ExperimentDocuments,
    baseline: &BaselineEvidence,
    lenders: &[Lender],
) -> Result<Scorecard, ScorecardError> {
    let record = &documents.record;
    let rules = match record.ruleset.as_str() {
        V1 => Rules::V1,
        V2 => Rules::V2(lenders),
        found => {
            let path = documents.folder.record();
            return Err(ScorecardError::UnknownRuleset { path, found: found.to_string() });
        }
    };
    let tables = Tables::read(documents.runs.iter().filter(|run| run.finished().is_some()))?;
    let held_against = control::evidence(documents, &tables, baseline)?;
    let (cells, rankings) = cells::judged(documents, &tables, &held_against, rules)?;
    let mut rankings = rankings.into_iter();
    let absent = &documents.absent;
    let mut card = Scorecard {
        schema: Scorecard::SCHEMA.to_string(),
        experiment: record.name.clone(),
        description: record.description.clone(),
        ruleset: record.ruleset.clone(),
        answer: None,
        ranking: rankings.next(),
        further_rankings: rankings.collect(),
        baseline_commit: record.baseline_commit.clone(),
        baseline_results: record.baseline_results.clone(),
        quality: worst::over(&worst::candidates(&cells), |cell| &cell.quality, absent, record.quality.metric.word()),
        speed: worst::over_fastest(&worst::candidates(&cells), absent, record.speed.metric.word()),
        reproducibility: worst::over_repeated(&cells, documents, absent),
        drift: record.drift.map(|_| worst::over_judged(&cells, |cell| cell.drift.as_ref(), absent, "drift")),
        planned: record.runs.len() as u64,
        finished: cells.iter().map(|cell| cell.finished).sum(),
        cells,
        runs: record.runs.clone(),
        evidence: BTreeMap::new(),
    };
    if matches!(rules, Rules::V2(_)) {
        card.answer =
            Some(answer::answer(&card, record.quality.claim.unwrap_or(QualityClaim::NoWorse), record.speed.claim));
    }
    Ok(card)
}

/// What `--gate` makes of a scorecard, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Something was compared and all that was compared passed.
    Passed,
    /// A verdict failed.
    Failed,
    /// A verdict is inconclusive.
    Inconclusive,
    /// Neither quality nor speed could be compared.
    NothingCompared,
    /// Something changed and wasn't judged, or results are stale against their spec.
    Unjudged,
}

/// Decides the gate.
pub fn gate(scorecard: &Scorecard) -> Gate {
    let mut verdicts =
        vec![scorecard.quality.verdict(), scorecard.speed.verdict(), scorecard.reproducibility.verdict()];
    verdicts.extend(scorecard.drift.as_ref().map(|drift| drift.verdict()));
    if verdicts.contains(&Verdict::Fail) {
        Gate::Failed
    } else if verdicts.contains(&Verdict::Inconclusive) {
        Gate::Inconclusive
    } else if verdicts.iter().take(2).all(|verdict| *verdict == Verdict::Off) {
        Gate::Passed
    } else if !verdicts.iter().take(2).any(|verdict| *verdict == Verdict::Pass) {
        Gate::NothingCompared
    } else {
        Gate::Passed
    }
}

/// Reads the recorded baseline that the experiment names, with its entry in the evidence.
fn read_baseline(
    documents: &ExperimentDocuments,
    project_root: &Path,
) -> Result<(BaselineEvidence, Option<(String, String)>), ScorecardError> {
    let Some(name) = &documents.record.baseline_results else { return Ok((BaselineEvidence::NotNamed, None)) };
    let path = files::beneath(project_root, name)?;
    match read_document::<BaselineResult>(&path) {
        Ok(result) => {
            let hash = file_sha256(&path)?;
            Ok((BaselineEvidence::Recorded(Box::new(result)), Some((name.clone(), hash))))
        }
        Err(error) if error.is_not_found() => Ok((BaselineEvidence::Absent(name.clone()), None)),
        Err(error) => Err(error.into()),
    }
}

/// SHA-256 of every file that the scorecard rests on, by path relative to the experiment's folder.
fn evidence(documents: &ExperimentDocuments) -> Result<BTreeMap<String, String>, ScorecardError> {
    let mut hashes = BTreeMap::new();
    hashes.insert("experiment.json".to_string(), file_sha256(&documents.folder.record())?);
    if documents.arms.is_some() {
        hashes.insert("arms.json".to_string(), file_sha256(&documents.folder.arms())?);
    }
    if documents.timing.is_some() {
        hashes.insert("timing.json".to_string(), file_sha256(&documents.folder.timing())?);
    }
    for run in &documents.runs {
        let folder = &run.folder;
        for path in [folder.plan(), folder.summary(), folder.environment(), folder.steps(), folder.evals()] {
            if let Some(file) = path.file_name().filter(|_| files::is_there(&path)) {
                hashes.insert(format!("{}/{}", run.plan.run_id, file.to_string_lossy()), file_sha256(&path)?);
            }
        }
    }
    Ok(hashes)
}
