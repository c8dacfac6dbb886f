//! Reads all documents of an experiment at once: what the scorecard, the report and the comparison start from.

use super::{
    ArmsRecord, ArtifactError, Environment, ExperimentFolder, ExperimentRecord, RunFolder, RunStatus, Summary,
    TimingRecord, read_document,
};
use nanochat_plan::RunPlan;

/// The documents of one run. A run that was planned and not yet started has a plan at most.
#[derive(Debug, Clone)]
pub struct RunDocuments {
    /// Where they lie.
    pub folder: RunFolder,
    /// The plan.
    pub plan: RunPlan,
    /// What came out, once it ended in some way.
    pub summary: Option<Summary>,
    /// Where and with what it ran.
    pub environment: Option<Environment>,
}

impl RunDocuments {
    /// The summary of a run that reached the end of the plan that is stored beside it.
    pub fn finished(&self) -> Option<&Summary> {
        self.summary
            .as_ref()
            .filter(|summary| summary.status == RunStatus::Finished && summary.plan_hash == self.plan.plan_hash)
    }

    /// Why the run isn't finished, as the end of a sentence; none when it is.
    pub fn unfinished_because(&self) -> Option<String> {
        let Some(summary) = &self.summary else { return Some("has not been run to its end".to_string()) };
        if summary.plan_hash != self.plan.plan_hash {
            return Some("was carried out under another plan".to_string());
        }
        let why = summary.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        match summary.status {
            RunStatus::Finished => None,
            RunStatus::Interrupted => Some(format!("was interrupted at step {}{why}", summary.steps)),
            RunStatus::Failed => Some(format!("failed at step {}{why}", summary.steps)),
        }
    }
}

/// The documents of one experiment.
#[derive(Debug, Clone)]
pub struct ExperimentDocuments {
    /// Where they lie.
    pub folder: ExperimentFolder,
    /// What was asked for.
    pub record: ExperimentRecord,
    /// The planned runs that have a plan on disk, in planned order.
    pub runs: Vec<RunDocuments>,
    /// Planned runs without a plan on disk.
    pub absent: Vec<String>,
    /// The arms, where the experiment has any.
    pub arms: Option<ArmsRecord>,
    /// The timing session, where there is one.
    pub timing: Option<TimingRecord>,
}

/// Reads `experiment.json` and the documents of every run that it names.
///
/// # Errors
/// A document that can't be read or is malformed; one that isn't there yet is no error.
pub fn read_experiment(folder: &ExperimentFolder) -> Result<ExperimentDocuments, ArtifactError> {
    let record: ExperimentRecord = read_document(&folder.record())?;
    let mut runs = Vec::with_capacity(record.runs.len());
    let mut absent = Vec::new();
    for run_id in &record.runs {
        let run = folder.run(run_id)?;
        match optional(read_document::<RunPlan>(&run.plan()))? {
            None => absent.push(run_id.clone()),
            Some(plan) => {
                let summary = optional(read_document::<Summary>(&run.summary()))?;
                let environment = optional(read_document::<Environment>(&run.environment()))?;
                runs.push(RunDocuments { folder: run, plan, summary, environment });
            }
        }
    }
    let arms = optional(read_document(&folder.arms()))?;
    let timing = optional(read_document(&folder.timing()))?;
    Ok(ExperimentDocuments { folder: folder.clone(), record, runs, absent, arms, timing })
}

/// Turns "isn't there" into none.
fn optional<T>(read: Result<T, ArtifactError>) -> Result<Option<T>, ArtifactError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
