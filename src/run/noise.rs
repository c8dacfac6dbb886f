//! Noise of an experiment: one cell with several seeds, judged against itself.

use std::path::PathBuf;

use nanochat_artifacts::{Judgement, NoiseRecord, read_experiment, write_document};
use nanochat_experiment::Experiment;
use nanochat_lab::{report, scorecard};

use super::{Opened, Outcome, RunError};

/// What an experiment is called that measures the noise of another one.
const SUFFIX: &str = nanochat_experiment::NOISE_SUFFIX;

/// The measured noise of an experiment.
#[derive(Debug)]
pub struct Noise {
    /// The recorded document.
    pub record: NoiseRecord,
    /// Quality of every second seed against the others.
    pub quality: Judgement,
    /// Speed of every second seed against the others.
    pub speed: Judgement,
    /// The document's file.
    pub path: PathBuf,
}

/// Turns an experiment into one of a single arm: `seeds` seeds, no repeats, no baseline, a results folder of its own.
pub fn against_itself(experiment: &mut Experiment, seeds: u64) {
    let first = experiment.seeds.first().copied().unwrap_or(42);
    experiment.seeds = (first..).take(seeds as usize).collect();
    experiment.description = format!("One arm of {} against itself: the noise between seeds.", experiment.name);
    experiment.name.push_str(SUFFIX);
    experiment.reproducibility.repeats = 0;
    experiment.baseline_results = None;
}

/// Measures the noise from finished runs that were opened with [`super::Scope::Noise`], writes the document to the folder
/// of the spec's own experiment, and updates the verdicts and reports that cite it.
///
/// # Errors
/// A run failed, or a document can't be read or written.
pub fn record_noise(opened: &Opened, outcome: &Outcome) -> Result<Noise, RunError> {
    if let Some((run_id, reason)) = outcome.failed.first() {
        return Err(RunError::NoNoise { run_id: run_id.clone(), reason: reason.clone() });
    }
    let (root, name) = (&opened.root, &opened.experiment.name);
    let experiment = name.strip_suffix(SUFFIX).unwrap_or(name);
    let folder = root.experiment(experiment)?;
    let documents = read_experiment(&root.experiment(name)?)?;
    let record = scorecard::noise::measure(&documents);
    let (quality, speed) = scorecard::noise::against_itself(&documents);
    write_document(&folder.noise(), &record)?;
    if folder.record().is_file() {
        scorecard::update(&folder, root.project())?;
        report::update(root, experiment, None)?;
        report::refresh_leaderboard(root)?;
    }
    Ok(Noise { record, quality, speed, path: folder.noise() })
}
