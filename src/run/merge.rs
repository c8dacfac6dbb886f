//! Joins the results of processes that carried out parts of an experiment in folders of their own.
//!
//! Everything is read and checked before anything is written: plans against their hashes, tables against the hashes of the
//! summaries, records and finished runs against each other. Of several copies of a run the one that is further counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nanochat_artifacts::{
    ArtifactError, ExperimentFolder, ExperimentRecord, LONGEST_TABLE, ResultsRoot, RunFolder, RunStatus, Summary,
    TimingRecord, bytes_sha256, files, parse_document, write_atomic,
};
use nanochat_plan::{RunPlan, plan_hash};

use super::session::{Judged, judge};
use super::{RunError, Stop};

/// Why results can't be joined.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum MergeError {
    /// A document can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// The joined results can't be judged.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Judging(#[from] RunError),
    /// A folder holds no results.
    #[error("there are no results of an experiment in `{}`", folder.display())]
    #[diagnostic(help("name a project's folder, its `results`, or `results/EXPERIMENT`"))]
    NoResults {
        /// The folder.
        folder: PathBuf,
    },
    /// Two folders contradict each other.
    #[error("`{}` and `{}` contradict each other: {what}", first.display(), second.display())]
    #[diagnostic(help(
        "nothing was written; results of one experiment come from one spec and one build. Leave one of both out, or run it again"
    ))]
    Conflict {
        /// The one place.
        first: PathBuf,
        /// The other place.
        second: PathBuf,
        /// What differs.
        what: String,
    },
    /// A run's documents contradict each other.
    #[error("`{}`: {what}", path.display())]
    #[diagnostic(help(
        "nothing was written; copy the run's folder once more, or leave this place out and run it again"
    ))]
    Unsound {
        /// The document.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The user asked to stop.
    #[error("stopped before everything was joined")]
    #[diagnostic(help("the same command starts again"))]
    Stopped,
}

/// What was joined of one experiment.
pub struct Merged {
    /// Its name.
    pub experiment: String,
    /// Runs that were brought in.
    pub brought: usize,
    /// Runs that were there already.
    pub there: usize,
    /// Runs that nobody has finished.
    pub missing: Vec<String>,
    /// The verdicts.
    pub judged: Judged,
}

/// One copy of a run.
struct Copy {
    folder: RunFolder,
    plan: RunPlan,
    summary: Option<Summary>,
    /// The documents by file name.
    files: BTreeMap<String, Vec<u8>>,
}

/// One copy of an experiment.
struct Source {
    folder: ExperimentFolder,
    record: ExperimentRecord,
    arms: Option<Vec<u8>>,
    timing: Option<Vec<u8>>,
}

/// Joins the experiments of several folders into the results of a project, and judges them.
///
/// # Errors
/// See [`MergeError`]; nothing is written before all sources are found sound.
pub fn merge(sources: &[PathBuf], into: &ResultsRoot, stop: &Stop) -> Result<Vec<Merged>, MergeError> {
    let mut experiments: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for folder in sources {
        for source in experiments_in(folder)? {
            experiments.entry(source.record.name.clone()).or_default().push(source);
        }
    }
    let mut joined = Vec::new();
    for (name, mut sources) in experiments {
        let target = into.experiment(&name)?;
        if files::is_there(&target.record()) {
            sources.insert(0, Source::read(target.clone())?);
        }
        joined.push((target.clone(), Joined::of(&target, &sources, stop)?));
    }
    joined.into_iter().map(|(target, joined)| joined.write(into, &target)).collect()
}

/// The experiments of a project, of its results, or the one of a folder.
fn experiments_in(folder: &Path) -> Result<Vec<Source>, MergeError> {
    let one = ExperimentFolder::at(folder);
    let folders = if files::is_there(&one.record()) {
        vec![one]
    } else if folder.file_name().is_some_and(|name| name == "results") {
        ResultsRoot::of_results(folder)?.experiments()?
    } else {
        ResultsRoot::new(folder).experiments()?
    };
    if folders.is_empty() {
        return Err(MergeError::NoResults { folder: folder.to_path_buf() });
    }
    folders.into_iter().map(Source::read).collect()
}

impl Source {
    fn read(folder: ExperimentFolder) -> Result<Self, MergeError> {
        let record = nanochat_artifacts::read_document(&folder.record())?;
        let timing = optional(&folder.timing())?;
        if let Some(bytes) = &timing {
            let _: TimingRecord = parse_document(&folder.timing(), bytes)?;
        }
        Ok(Self { arms: optional(&folder.arms())?, timing, record, folder })
    }
}

/// An experiment as all sources together have it.
struct Joined {
    record: ExperimentRecord,
    arms: Option<Vec<u8>>,
    /// The timing session, and where it comes from: that of one machine, since sessions can't be joined.
    timing: Option<(PathBuf, Vec<u8>)>,
    runs: Vec<Copy>,
    there: usize,
    missing: Vec<String>,
}

impl Joined {
    fn of(target: &ExperimentFolder, sources: &[Source], stop: &Stop) -> Result<Self, MergeError> {
        let Some(first) = sources.first() else {
            return Err(MergeError::NoResults { folder: target.path().to_path_buf() });
        };
        let record = first.record.clone();
        let mut joined = Self { record, arms: None, timing: None, runs: Vec::new(), there: 0, missing: Vec::new() };
        for other in sources {
            if other.record != first.record {
                return Err(conflict(&first.folder.record(), &other.folder.record(), "their runs or rules differ"));
            }
            // A shard that had no run of a checkout doesn't know its diff.
            let known = |arms: &Option<Vec<u8>>| arms.as_ref().map_or(0, Vec::len);
            if known(&other.arms) > known(&joined.arms) {
                joined.arms.clone_from(&other.arms);
            }
            let Some(timing) = &other.timing else { continue };
            let place = other.folder.timing();
            match &joined.timing {
                Some((first, known)) if known != timing => {
                    return Err(conflict(first, &place, "each has a timing session of its own, and one decides speed"));
                }
                _ => joined.timing = Some((place, timing.clone())),
            }
        }
        for run_id in &first.record.runs {
            if stop.requested() {
                return Err(MergeError::Stopped);
            }
            let mut best: Option<Copy> = None;
            for source in sources {
                let Some(copy) = Copy::read(source.folder.run(run_id)?)? else { continue };
                best = Some(match best {
                    None => copy,
                    Some(best) => best.or(copy)?,
                });
            }
            match best {
                Some(copy) if copy.rank().0 == 3 => match copy.folder == target.run(run_id)? {
                    true => joined.there += 1,
                    false => joined.runs.push(copy),
                },
                other => {
                    joined.missing.push(run_id.clone());
                    let elsewhere = |copy: &Copy| target.run(run_id).is_ok_and(|there| there != copy.folder);
                    joined.runs.extend(other.filter(elsewhere));
                }
            }
        }
        Ok(joined)
    }

    fn write(self, into: &ResultsRoot, target: &ExperimentFolder) -> Result<Merged, MergeError> {
        nanochat_artifacts::write_document(&target.record(), &self.record)?;
        if let Some(arms) = &self.arms {
            write_atomic(&target.arms(), arms)?;
        }
        if let Some((_, timing)) = &self.timing {
            write_atomic(&target.timing(), timing)?;
        }
        for copy in &self.runs {
            let folder = target.run(&copy.plan.run_id)?;
            for (name, bytes) in &copy.files {
                write_atomic(&folder.path().join(name), bytes)?;
            }
        }
        let brought = self.runs.iter().filter(|copy| copy.rank().0 == 3).count();
        let judged = judge(into, target)?;
        Ok(Merged { experiment: self.record.name, brought, there: self.there, missing: self.missing, judged })
    }
}

impl Copy {
    /// Reads and checks a copy; none where there is no plan.
    fn read(folder: RunFolder) -> Result<Option<Self>, MergeError> {
        let Some(bytes) = optional(&folder.plan())? else { return Ok(None) };
        let plan: RunPlan = parse_document(&folder.plan(), &bytes)?;
        let unsound = |path: PathBuf, what: String| Err(MergeError::Unsound { path, what });
        if plan.run_id != folder.name() {
            return unsound(folder.plan(), format!("it is the plan of the run `{}`", plan.run_id));
        }
        if plan_hash(&plan) != plan.plan_hash {
            return unsound(folder.plan(), format!("it has another hash than it says, {}", plan.plan_hash));
        }
        let mut read = BTreeMap::new();
        let paths = [folder.plan(), folder.summary(), folder.environment(), folder.steps(), folder.evals()];
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            read.extend(optional(&path)?.map(|bytes| (name, bytes)));
        }
        let summary = read.get("summary.json").map(|bytes| parse_document::<Summary>(&folder.summary(), bytes));
        let summary = summary.transpose()?;
        if let Some(summary) = &summary {
            if summary.plan_hash != plan.plan_hash {
                return unsound(folder.summary(), format!("it was made under another plan, {}", summary.plan_hash));
            }
            for (name, stated) in &summary.files_sha256 {
                if read.get(name).map(|bytes| bytes_sha256(bytes)).as_ref() != Some(stated) {
                    let path = folder.path().join(name);
                    return unsound(path, "it isn't the table that the summary beside it was made from".to_string());
                }
            }
        }
        Ok(Some(Self { folder, plan, summary, files: read }))
    }

    /// How far it is: finished, interrupted with so many steps, failed, planned.
    fn rank(&self) -> (u8, u64) {
        self.summary.as_ref().map_or((0, 0), |summary| match summary.status {
            RunStatus::Finished => (3, 0),
            RunStatus::Interrupted => (2, summary.steps),
            RunStatus::Failed => (1, summary.steps),
        })
    }

    /// The copy that counts. Two that are finished have to be the same.
    fn or(self, other: Self) -> Result<Self, MergeError> {
        if self.plan.plan_hash != other.plan.plan_hash {
            return Err(conflict(&self.folder.plan(), &other.folder.plan(), "the plans differ"));
        }
        if (self.rank().0, other.rank().0) == (3, 3) && self.files != other.files {
            let differing = self.files.iter().find(|(name, bytes)| other.files.get(*name) != Some(bytes));
            let name = differing.map_or("a document", |(name, _)| name);
            let what = format!("both have finished the run, and {name} differs");
            return Err(conflict(self.folder.path(), other.folder.path(), &what));
        }
        Ok(if other.rank() > self.rank() { other } else { self })
    }
}

fn conflict(first: &Path, second: &Path, what: &str) -> MergeError {
    MergeError::Conflict { first: first.to_path_buf(), second: second.to_path_buf(), what: what.to_string() }
}

/// A file's bytes; none where it isn't there.
fn optional(path: &Path) -> Result<Option<Vec<u8>>, MergeError> {
    match files::read(path, LONGEST_TABLE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArtifactError::io("read", path, error).into()),
    }
}
