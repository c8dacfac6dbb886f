//! Hands runs to a Slurm cluster: what is missing of an experiment as arrays of jobs, and a last job that judges.
//!
//! The cluster decides when and where; who owns a run is its lease's to say, and what is done the artifacts'. So a job may be
//! lost, started twice or submitted again, and nothing runs twice at once or is lost. Knows nothing of the command line but the
//! words that a job has to be started with.

mod error;
mod programs;
mod script;

use std::collections::BTreeSet;
use std::path::Path;

use nanochat_artifacts::ExperimentFolder;
use nanochat_artifacts::submissions::{Array, Submission, SubmissionFolder, Submissions, TIMING, runs_of_element};
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
    /// Threads of a run; 0: as many as there are processors.
    pub threads: u64,
    /// A timing session is wanted and lacking.
    pub lacks_session: bool,
    /// Speed is judged from blocks of arms: those of a cell are one element.
    pub arms_are_timed: bool,
}

/// Elements and scripts of a submission.
pub struct Prepared {
    /// Ids of the runs of each element.
    pub elements: Vec<Vec<String>>,
    /// A script for each array.
    pub arrays: Vec<(Slice, String)>,
    /// The timing session's, with a placeholder for the numbers of the arrays.
    pub timing: Option<String>,
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
    /// The timing session was submitted now.
    pub timing: bool,
    /// Runs that were queued or running already.
    pub open: usize,
    /// The timing session was queued or running already.
    pub timing_open: bool,
    /// Runs that are done.
    pub done: usize,
}

/// The elements of what is missing, but for `left_out`: a run each, or the runs of a block of arms of which one is missing.
fn missing(request: &Request<'_>, left_out: &BTreeSet<String>) -> Result<Vec<Vec<String>>, ClusterError> {
    let mut elements = Vec::new();
    for unit in units(request.plans, request.arms_are_timed) {
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

/// What stands in a script for the numbers of jobs that aren't submitted.
const JOBS: &str = "JOBS";

fn job<'a>(request: &'a Request<'a>, folder: &'a SubmissionFolder) -> Job<'a> {
    Job {
        experiment: request.plans.first().map_or("", |plan| plan.experiment.as_str()),
        command: request.command,
        judging: request.judging,
        settings: request.settings,
        threads: request.threads,
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
    let (job, list) = (job(request, &folder), folder.path().join("elements-1"));
    let arrays = arrays(&job, &list, elements.len(), slurm)?;
    let jobs = [JOBS.to_string()];
    let after = if arrays.is_empty() { &[][..] } else { &jobs[..] };
    let timing = request.lacks_session.then(|| job.timing(after, &list, elements.len())).transpose()?;
    let judging = job.judging(&jobs, &list)?;
    Ok(Prepared { elements, arrays, timing, judging })
}

/// The arrays of so many elements of a list, each with its script.
fn arrays(job: &Job<'_>, list: &Path, elements: usize, slurm: &Slurm) -> Result<Vec<(Slice, String)>, ClusterError> {
    let cut = slices(elements, slurm.longest_array()).into_iter();
    cut.map(|slice| Ok((slice, job.array(list, slice)?))).collect()
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
    let mut open = all.runs_of(&folder, &elements_of(&queue));
    let is_timed = open.remove(TIMING);
    let mut elements = missing(request, &open)?;
    let runs: usize = elements.iter().map(Vec::len).sum();
    // A session that waits for earlier jobs doesn't wait for new ones.
    let timing = request.lacks_session && (runs > 0 || !is_timed);
    let done = request.plans.len().saturating_sub(runs + open.len());
    let submitted = Submitted { jobs: Vec::new(), runs, timing, open: open.len(), timing_open: is_timed, done };
    if runs == 0 && !timing {
        folder.write(&all)?;
        return Ok(submitted);
    }
    let earlier: BTreeSet<String> =
        all.open().flat_map(|one| one.arrays.iter().map(|array| array.job.clone())).collect();
    let earlier = queue.iter().map(|queued| &queued.job).filter(|job| earlier.contains(*job));
    let earlier: BTreeSet<String> = earlier.cloned().collect();
    let place = elements.len();
    elements.extend(timing.then(|| vec![TIMING.to_string()]));
    let list = folder.write_list(&elements)?;
    let mut new = Batch::begin(&folder, all, &list);
    let (job, list) = (job(request, &folder), folder.path().join(&list));
    for (slice, script) in arrays(&job, &list, place, slurm)? {
        new.array(slurm.submit(&script)?, slice)?;
    }
    if timing {
        let after: Vec<String> = earlier.into_iter().chain(new.jobs.iter().cloned()).collect();
        new.array(slurm.submit(&job.timing(&after, &list, place)?)?, Slice { first: place, count: 1 })?;
    }
    new.judging(slurm.submit(&job.judging(&new.jobs, &list)?)?)?;
    Ok(Submitted { jobs: new.jobs, ..submitted })
}

/// A submission while its jobs are handed over. What is submitted is recorded even when the next one is refused.
struct Batch<'a> {
    folder: &'a SubmissionFolder,
    all: Submissions,
    /// Numbers of its arrays.
    jobs: Vec<String>,
}

impl<'a> Batch<'a> {
    fn begin(folder: &'a SubmissionFolder, mut all: Submissions, list: &str) -> Self {
        let submitted_at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let list = list.to_string();
        all.submissions.push(Submission { list, arrays: Vec::new(), judging: None, submitted_at, ended: false });
        Self { folder, all, jobs: Vec::new() }
    }

    fn array(&mut self, job: String, slice: Slice) -> Result<(), ClusterError> {
        self.jobs.push(job.clone());
        self.note(|new| new.arrays.push(Array { job, first: slice.first, count: slice.count }))
    }

    fn judging(&mut self, job: String) -> Result<(), ClusterError> {
        self.note(|new| new.judging = Some(job))
    }

    fn note(&mut self, change: impl FnOnce(&mut Submission)) -> Result<(), ClusterError> {
        if let Some(new) = self.all.submissions.last_mut() {
            change(new);
        }
        Ok(self.folder.write(&self.all)?)
    }
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
    if runs.contains(TIMING) {
        return Ok(Part::Timing { job: programs::own_job() });
    }
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
