//! Hands runs to a Slurm cluster: what is missing of an experiment as arrays of jobs, and a last job that judges.
//!
//! The cluster decides when and where; who owns a run is its lease's to say, and what is done the artifacts'. So a job may be
//! lost, started twice or submitted again, and nothing runs twice at once or is lost. Knows nothing of the command line but the
//! words that a job has to be started with.

mod error;
mod programs;
mod script;

use std::collections::BTreeSet;

use nanochat_artifacts::ExperimentFolder;
use nanochat_artifacts::submissions::{Array, Submission, SubmissionFolder, Submissions, runs_of_element};
use nanochat_engine::checkpoint::RunLock;
use nanochat_plan::{RunPlan, SlurmSettings};

pub use error::ClusterError;
pub use programs::{Queued, Slurm};
pub use script::{Job, Slice, slices};

use crate::run::{Part, RunError, RunState, state_of, units};

/// What is to be submitted.
pub struct Request<'a> {
    /// The experiment's folder.
    pub folder: &'a ExperimentFolder,
    /// All its runs.
    pub plans: &'a [RunPlan],
    /// The program and the arguments of `run` with its spec.
    pub command: &'a [String],
    /// Arguments for the last job besides.
    pub judging: &'a [String],
    /// The profile's settings.
    pub settings: &'a SlurmSettings,
}

/// Elements and scripts of a submission.
pub struct Prepared {
    /// Ids of the runs of each element.
    pub elements: Vec<Vec<String>>,
    /// A script for each array.
    pub arrays: Vec<(Slice, String)>,
    /// The last job's, with a placeholder for the numbers of the others.
    pub judging: String,
}

/// What was submitted, or was found so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Numbers of the new jobs.
    pub jobs: Vec<String>,
    /// Runs that were submitted now.
    pub runs: usize,
    /// Runs that were queued or running already.
    pub open: usize,
    /// Runs that are done.
    pub done: usize,
}

/// The elements of what is missing, but for `left_out`: a run each, or the runs of a block of arms of which one is missing.
fn missing(request: &Request<'_>, left_out: &BTreeSet<String>) -> Result<Vec<Vec<String>>, ClusterError> {
    let mut elements = Vec::new();
    for unit in units(request.plans) {
        let mut open = false;
        for plan in &unit {
            let folder = request.folder.run(&plan.run_id)?;
            open |= !left_out.contains(&plan.run_id) && !matches!(state_of(plan, &folder), RunState::Done { .. });
        }
        if open {
            elements.push(unit.into_iter().map(|plan| plan.run_id.clone()).collect());
        }
    }
    Ok(elements)
}

/// The scripts of these elements, whose list has this name.
fn scripts(
    request: &Request<'_>,
    folder: &SubmissionFolder,
    elements: Vec<Vec<String>>,
    list: &str,
    longest: usize,
) -> Result<Prepared, ClusterError> {
    let job = job(request, folder);
    let list = folder.path().join(list);
    let cut = slices(elements.len(), longest).into_iter();
    let arrays = cut.map(|slice| Ok((slice, job.array(&list, slice)?))).collect::<Result<Vec<_>, ClusterError>>()?;
    let judging = job.judging(&["JOBS".to_string()], &list)?;
    Ok(Prepared { elements, arrays, judging })
}

fn job<'a>(request: &'a Request<'a>, folder: &'a SubmissionFolder) -> Job<'a> {
    Job {
        experiment: request.plans.first().map_or("", |plan| plan.experiment.as_str()),
        command: request.command,
        judging: request.judging,
        settings: request.settings,
        folder: folder.path(),
    }
}

/// What would be submitted. Nothing is written or started, but for the question how long an array may be.
///
/// # Errors
/// A setting that can't stand in a script.
pub fn prepare(request: &Request<'_>, slurm: &Slurm) -> Result<Prepared, ClusterError> {
    let folder = SubmissionFolder::of(request.folder)?;
    let elements = missing(request, &BTreeSet::new())?;
    scripts(request, &folder, elements, "elements-1", slurm.longest_array())
}

/// Submits what is missing and neither queued nor running.
///
/// # Errors
/// What Slurm says against it.
pub fn submit(request: &Request<'_>, slurm: &Slurm) -> Result<Submitted, ClusterError> {
    let queue = slurm.queue()?;
    let folder = SubmissionFolder::of(request.folder)?;
    // Two commands at once would submit everything twice.
    let _lock = RunLock::acquire(folder.path()).map_err(RunError::from)?;
    let mut all = folder.read();
    close_ended(&mut all, &queue);
    let open = all.runs_of(&folder, &elements_of(&queue));
    let elements = missing(request, &open)?;
    let runs = elements.iter().map(Vec::len).sum();
    let done = request.plans.len().saturating_sub(runs + open.len());
    let mut submitted = Submitted { jobs: Vec::new(), runs, open: open.len(), done };
    if elements.is_empty() {
        folder.write(&all)?;
        return Ok(submitted);
    }
    let list = folder.write_list(&elements)?;
    let prepared = scripts(request, &folder, elements, &list, slurm.longest_array())?;
    let submitted_at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let new = Submission { list: list.clone(), arrays: Vec::new(), judging: None, submitted_at, ended: false };
    let place = all.submissions.len();
    all.submissions.push(new);
    for (slice, script) in &prepared.arrays {
        let number = slurm.submit(script)?;
        submitted.jobs.push(number.clone());
        if let Some(new) = all.submissions.get_mut(place) {
            new.arrays.push(Array { job: number, first: slice.first, count: slice.count });
        }
        // What is submitted is recorded even when the next one is refused.
        folder.write(&all)?;
    }
    let judging = job(request, &folder).judging(&submitted.jobs, &folder.path().join(&list))?;
    let number = slurm.submit(&judging)?;
    if let Some(new) = all.submissions.get_mut(place) {
        new.judging = Some(number);
    }
    folder.write(&all)?;
    Ok(submitted)
}

fn elements_of(queue: &[Queued]) -> Vec<(String, usize)> {
    queue.iter().filter_map(|queued| Some((queued.job.clone(), queued.element?))).collect()
}

/// Marks submissions of which the cluster knows no job any more.
fn close_ended(all: &mut Submissions, queue: &[Queued]) {
    for submission in &mut all.submissions {
        let is_open = submission.jobs().any(|job| queue.iter().any(|queued| queued.job == *job));
        submission.ended |= !is_open;
    }
}

/// The part of an experiment that an element of a job carries out.
///
/// # Errors
/// The element's runs aren't those of the plans.
pub fn element(element: &str, plans: &[RunPlan]) -> Result<Part, ClusterError> {
    let unknown = || ClusterError::Element { element: element.to_string() };
    let runs = runs_of_element(element).ok_or_else(unknown)?;
    if !runs.iter().all(|run| plans.iter().any(|plan| plan.run_id == *run)) {
        return Err(unknown());
    }
    Ok(Part::Element { runs, job: programs::own_job() })
}

/// The experiment's jobs that are queued or running.
///
/// # Errors
/// The cluster doesn't answer.
pub fn open_jobs(folder: &ExperimentFolder, slurm: &Slurm) -> Result<Vec<Queued>, ClusterError> {
    let all = SubmissionFolder::of(folder)?.read();
    let jobs: BTreeSet<&String> = all.open().flat_map(Submission::jobs).collect();
    Ok(slurm.queue()?.into_iter().filter(|queued| jobs.contains(&queued.job)).collect())
}

/// Cancels the experiment's jobs; returns how many jobs and elements there were.
///
/// # Errors
/// There are none, or the cluster doesn't answer.
pub fn cancel(folder: &ExperimentFolder, slurm: &Slurm) -> Result<usize, ClusterError> {
    let open = open_jobs(folder, slurm)?;
    if open.is_empty() {
        return Err(ClusterError::NoJobs { experiment: folder.name() });
    }
    let jobs: BTreeSet<String> = open.iter().map(|queued| queued.job.clone()).collect();
    slurm.cancel(&jobs.into_iter().collect::<Vec<_>>())?;
    end(folder, |_| true)?;
    Ok(open.len())
}

/// Notes that the submission with this list has ended.
///
/// # Errors
/// The record can't be written.
pub fn note_end(folder: &ExperimentFolder, list: &str) -> Result<(), ClusterError> {
    let name = std::path::Path::new(list).file_name().unwrap_or_default().to_string_lossy().into_owned();
    end(folder, |submission| submission.list == name)
}

fn end(folder: &ExperimentFolder, which: impl Fn(&Submission) -> bool) -> Result<(), ClusterError> {
    let folder = SubmissionFolder::of(folder)?;
    let mut all = folder.read();
    all.submissions.iter_mut().filter(|submission| which(submission)).for_each(|submission| submission.ended = true);
    Ok(folder.write(&all)?)
}
