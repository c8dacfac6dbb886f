//! Results against the specs beside them: whether what is recorded is what the spec plans now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nanochat_artifacts::{ArtifactError, RunDocuments, Snapshot, Tree};
use nanochat_experiment as experiment;
use nanochat_experiment::{Experiment, LoadOptions};
use nanochat_lab::scorecard::Judging;
use nanochat_lab::scorecard::compare::Stale;
use nanochat_plan::ArmPlan;

/// Results of a tree that their specs plan otherwise. Results without a spec of their name have nothing to be stale against,
/// and a spec that can't be read is `validate`'s to tell.
///
/// # Errors
/// Documents or git objects that can't be read.
pub fn stale(tree: &Tree) -> Result<Vec<Stale>, ArtifactError> {
    let Some(specs) = tree.specs()? else { return Ok(Vec::new()) };
    let specs = load_all(&specs.path());
    let mut found = Vec::new();
    for (name, snapshot) in tree.experiments()? {
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else { continue };
        if let Some(reason) = difference(spec, &snapshot) {
            found.push(Stale { experiment: name, reason });
        }
    }
    Ok(found)
}

/// Experiments of a tree whose runs were made by other code than the tree's own, or than this build's where it holds none.
/// Runs of other programs, and of versions that didn't record their code, are left out.
///
/// # Errors
/// Documents or git objects that can't be read.
pub fn made_by_other_code(tree: &Tree) -> Result<Vec<Stale>, ArtifactError> {
    let (now, whose) = match tree.deciding_code()? {
        Some(code) => (code, "that beside them"),
        None => (super::DECIDING_CODE.to_string(), "this build's"),
    };
    let mut found = Vec::new();
    for (name, snapshot) in tree.experiments()? {
        let codes = snapshot.runs.iter().filter(|run| !run.plan.arm.as_ref().is_some_and(ArmPlan::is_foreign));
        let codes = codes.filter_map(|run| run.environment.as_ref()?.deciding_code_sha256.as_ref());
        let (others, all) = codes.fold((0, 0), |(others, all), code| (others + u64::from(*code != now), all + 1));
        if others > 0 {
            let reason = format!(
                "{others} of {all} runs were made by other code than {whose}; `nanochat run --force` makes them again"
            );
            found.push(Stale { experiment: name, reason });
        }
    }
    Ok(found)
}

/// By what two trees are compared: the rules as the specs of the earlier one state them.
///
/// # Errors
/// Git objects that can't be read.
pub fn judging(before: &Tree, after: &Tree, approved: bool) -> Result<Judging, ArtifactError> {
    let specs = |tree: &Tree| tree.specs().map(|specs| specs.map(|specs| load_all(&specs.path())).unwrap_or_default());
    let (earlier, later) = (specs(before)?, specs(after)?);
    let mut judging = Judging { approved, ..Judging::default() };
    for spec in earlier {
        if !later.iter().any(|other| other.name == spec.name) {
            judging.removed_specs.push(spec.name.clone());
        }
        judging.rules.insert(spec.name.clone(), spec.record(&[]));
    }
    Ok(judging)
}

/// The specs of a folder, in the order of their files.
fn load_all(folder: &Path) -> Vec<Experiment> {
    spec_files(folder).iter().filter_map(|path| experiment::load(path, &LoadOptions::default()).ok()).collect()
}

/// The files of specs in a folder, in order.
pub(super) fn spec_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
}

/// What the spec says otherwise than the results; none where they agree.
fn difference(spec: &Experiment, snapshot: &Snapshot) -> Option<String> {
    let plans = experiment::expand(spec).ok()?;
    let recorded: BTreeSet<&str> =
        snapshot.runs.iter().filter(|run| run.finished().is_some()).map(|run| run.plan.plan_hash.as_str()).collect();
    let lacking: Vec<_> = plans.iter().filter(|plan| !recorded.contains(plan.plan_hash.as_str())).collect();
    if let Some(plan) = lacking.first() {
        let same = |run: &&RunDocuments| run.plan.axes == plan.axes && run.plan.seed == plan.seed;
        let changed = snapshot.runs.iter().find(same).and_then(|run| {
            let changes = nanochat_plan::changes(&run.plan, plan);
            changes.first().map(|change| format!(" ({} {} → {})", change.key, change.before, change.now))
        });
        let (count, whole) = (lacking.len(), plans.len());
        return Some(format!(
            "{count} of the {whole} runs that the spec plans have no results{}; `nanochat run` makes them",
            changed.unwrap_or_default()
        ));
    }
    let record = spec.record(&plans);
    let stored = &snapshot.record;
    let rules = [
        ("ruleset", record.ruleset != stored.ruleset),
        ("quality", record.quality != stored.quality),
        ("speed", record.speed != stored.speed),
        ("control", record.control != stored.control),
    ];
    let (what, _) = rules.into_iter().find(|(_, differs)| *differs)?;
    Some(format!("the results are judged by another `{what}` than the spec states; `nanochat run` judges them again"))
}
