//! What differs between the commits of two arms, and the record of all arms.

use std::collections::BTreeMap;

use nanochat_artifacts::git::Git;
use nanochat_artifacts::{
    ArmRecord, ArmsRecord, ArtifactError, ChangedFile, CommitDiff, Document, ExperimentFolder, read_document,
    write_document,
};
use nanochat_experiment::Experiment;

use super::{BaselineError, Checkout};

/// The longest diff that is recorded, in bytes: it stands in a report.
const LONGEST_DIFF: usize = 24 << 10;

/// Writes `arms.json`. An arm whose checkout isn't open keeps the diff that was recorded before, where its commits are
/// the same.
///
/// # Errors
/// The record can't be read or written.
pub fn record_arms(
    experiment: &Experiment,
    checkouts: &BTreeMap<String, Checkout>,
    folder: &ExperimentFolder,
) -> Result<(), BaselineError> {
    let Some(control) = experiment.arms.iter().find(|arm| experiment.is_control(&arm.plan.name)) else { return Ok(()) };
    let earlier = match read_document::<ArmsRecord>(&folder.arms()) {
        Ok(record) => Some(record),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let arms = experiment.arms.iter().map(|arm| {
        let plan = &arm.plan;
        let mut record = ArmRecord {
            name: plan.name.clone(),
            engine: plan.engine,
            commit: plan.commit.clone(),
            flags: plan.flags.clone(),
            diff: None,
            no_diff_because: None,
        };
        let (Some(from), Some(to)) = (&control.plan.commit, &plan.commit) else { return record };
        if from == to {
            return record;
        }
        let known =
            earlier.as_ref().and_then(|earlier| earlier.arm(&plan.name)).filter(|known| known.commit == plan.commit);
        let known = known.and_then(|known| known.diff.clone()).filter(|diff| diff.against == *from);
        let found = match checkouts.get(&plan.name) {
            Some(own) => between(own, checkouts.get(&control.plan.name), from, to).map_err(|error| error.to_string()),
            None => Err("its checkout was not open".to_string()),
        };
        match (found, known) {
            (Ok(diff), _) | (Err(_), Some(diff)) => record.diff = Some(diff),
            (Err(reason), None) => record.no_diff_because = Some(reason),
        }
        record
    });
    let record =
        ArmsRecord { schema: ArmsRecord::SCHEMA.to_string(), control: control.plan.name.clone(), arms: arms.collect() };
    Ok(write_document(&folder.arms(), &record)?)
}

/// The diff of two commits; the second is in `own`, the first there or in `other`.
fn between(own: &Checkout, other: Option<&Checkout>, from: &str, to: &str) -> Result<CommitDiff, ArtifactError> {
    let git = Git::at(&own.path);
    let git = match other {
        Some(other) if other.path != own.path => git.with_objects_of(&Git::at(&other.path))?,
        _ => git,
    };
    let numbers = git.output(&["diff-tree", "-r", "--numstat", "-z", "--no-renames", from, to])?;
    let text = git.diff(from, to)?;
    let is_cut = text.len() > LONGEST_DIFF;
    let end = (0..=LONGEST_DIFF.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    Ok(CommitDiff {
        against: from.to_string(),
        files: String::from_utf8_lossy(&numbers).split('\0').filter_map(changed_file).collect(),
        text: text.get(..end).unwrap_or_default().to_string(),
        is_cut,
    })
}

/// `1<tab>2<tab>path`, with `-` for the lines of a binary file.
fn changed_file(entry: &str) -> Option<ChangedFile> {
    let mut fields = entry.splitn(3, '\t');
    let (added, removed, path) = (fields.next()?, fields.next()?, fields.next()?);
    Some(ChangedFile { path: path.to_string(), added: added.parse().ok(), removed: removed.parse().ok() })
}
