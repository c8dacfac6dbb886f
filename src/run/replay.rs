//! Replays of recorded runs: trained again from nothing, in a folder that is removed afterwards, and compared with what was
//! recorded. No cache and no checkpoint is read, so that neither can stand for the training that it claims to hold.

use std::sync::Mutex;

use nanochat_artifacts::{
    Environment, ResultsRoot, RunDocuments, RunFolder, StepRow, Summary, read_experiment, read_steps,
};
use nanochat_engine::checkpoint::RunLock;
use nanochat_lab::scorecard::statistics::SplitMix64;
use nanochat_plan::{ArmPlan, Precision, RunPlan};

use super::execute::{self, Step};
use super::inputs::{self, Compared};
use super::resources::Resources;
use super::{Options, RunError, Stop, environment, with_help};
use crate::hardware;

/// How far a replayed figure may lie from a recorded one, as a share of it, on another kind of machine or build.
struct Bounds {
    /// Of a step's loss.
    loss: f64,
    /// Of the bits per byte at the end.
    bpb: f64,
}

impl Bounds {
    fn of(dtype: Precision) -> Self {
        match dtype {
            Precision::F32 => Self { loss: 5e-3, bpb: 1e-3 },
            _ => Self { loss: 2e-2, bpb: 4e-3 },
        }
    }
}

/// A recorded run, and what its replay showed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Replay {
    /// The experiment.
    pub experiment: String,
    /// The run.
    pub run: String,
    /// What came out.
    pub outcome: Replayed,
}

/// What a replay showed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replayed {
    /// The same kind of machine and build: the same losses and weights, bit for bit.
    Identical,
    /// Another machine or build: figures within the bounds.
    WithinBounds,
    /// What differs from the recording.
    Differs(Vec<String>),
    /// It can't be replayed here, for this reason.
    NotHere(String),
}

/// Replays `count` recorded runs of this engine, drawn from all finished ones by `seed`. `observe` is told of each before it
/// begins, and of what happens in it.
///
/// # Errors
/// Results that can't be listed or read, no temporary folder, or a stop was requested.
pub fn replay(
    root: &ResultsRoot,
    (count, seed): (usize, u64),
    stop: &Stop,
    observe: &mut dyn FnMut(&RunPlan, Option<Step<'_>>),
) -> Result<Vec<Replay>, RunError> {
    let mut runs = recorded(root)?;
    let mut generator = SplitMix64::new(seed);
    let mut found = Vec::new();
    while found.len() < count && !runs.is_empty() {
        let (experiment, commit, run) = runs.swap_remove(generator.below(runs.len()));
        observe(&run.plan, None);
        let mut resources = Resources::new(&root.clone().with_cache(None)).with_baseline(&commit);
        let outcome = replay_one(&run, &mut resources, stop, observe)?;
        found.push(Replay { experiment, run: run.plan.run_id, outcome });
    }
    Ok(found)
}

/// Finished runs that this engine made from their first step, by experiment and run, with the baseline's commit.
fn recorded(root: &ResultsRoot) -> Result<Vec<(String, String, RunDocuments)>, RunError> {
    let mut found = Vec::new();
    for folder in root.experiments()? {
        let documents = read_experiment(&folder)?;
        let own = |run: &RunDocuments| {
            run.finished().is_some_and(|summary| summary.adopted_steps == 0)
                && !run.plan.arm.as_ref().is_some_and(ArmPlan::is_foreign)
        };
        let commit = documents.record.baseline_commit;
        let runs = documents.runs.into_iter().filter(own);
        found.extend(runs.map(|run| (folder.name(), commit.clone(), run)));
    }
    found.sort_by(|a, b| (&a.0, &a.2.plan.run_id).cmp(&(&b.0, &b.2.plan.run_id)));
    Ok(found)
}

fn replay_one(
    run: &RunDocuments,
    resources: &mut Resources,
    stop: &Stop,
    observe: &mut dyn FnMut(&RunPlan, Option<Step<'_>>),
) -> Result<Replayed, RunError> {
    let plan = &run.plan;
    let Some(recorded) = run.finished() else { return Ok(Replayed::NotHere("it is not finished".into())) };
    if let Err(too_large) = hardware::fits(std::slice::from_ref(plan), &hardware::this_machine()) {
        return Ok(Replayed::NotHere(too_large.to_string()));
    }
    match inputs::compare(plan, recorded, resources) {
        Compared::Same => {}
        Compared::Unread(reason) => return Ok(Replayed::NotHere(format!("its inputs aren't here: {reason}"))),
        Compared::Other(what) => return Ok(Replayed::NotHere(format!("other {} than recorded", what.join(", ")))),
    }
    let place = tempfile::tempdir()
        .map_err(|error| nanochat_artifacts::ArtifactError::io("create", "a temporary folder", error))?;
    let folder = RunFolder::at(place.path().join(&plan.run_id));
    // A loop may ask for progress from within, so what is told goes through a lock.
    let observe = Mutex::new(observe);
    let mut forward = |step: Step<'_>| {
        if let Ok(mut observe) = observe.lock() {
            observe(plan, Some(step));
        }
    };
    let options = Options { hardware_matches: true, ..Options::default() };
    let lock = RunLock::acquire(folder.path())?;
    match execute::execute(plan, &folder, resources, &options, (stop, &lock), &mut forward) {
        Ok(_) if stop.requested() => Err(RunError::Stopped),
        Ok(replayed) => {
            let steps = (read_steps(&run.folder.steps())?, read_steps(&folder.steps())?);
            Ok(compared(run, recorded, &replayed, &steps))
        }
        Err(RunError::Device(error)) => Ok(Replayed::NotHere(with_help(&RunError::Device(error)))),
        Err(error) => Ok(Replayed::Differs(vec![format!("the replay failed: {}", with_help(&error))])),
    }
}

/// Compares a replay with its recording: to the bit where machine and build are of the same kind.
fn compared(
    run: &RunDocuments,
    recorded: &Summary,
    replayed: &Summary,
    steps: &(Vec<StepRow>, Vec<StepRow>),
) -> Replayed {
    let here = environment(&run.plan, true);
    let same_kind = run.environment.as_ref().is_some_and(|there| is_same_kind(there, &here));
    let problems = match same_kind {
        true => unequal(recorded, replayed, steps),
        false => out_of_bounds(&Bounds::of(run.plan.dtype), recorded, replayed, steps),
    };
    match (problems.is_empty(), same_kind) {
        (false, _) => Replayed::Differs(problems),
        (true, true) => Replayed::Identical,
        (true, false) => Replayed::WithinBounds,
    }
}

/// Whether two environments give the same bits: one kind of machine, and one executable or the same deciding code.
fn is_same_kind(a: &Environment, b: &Environment) -> bool {
    let same_code = a.deciding_code_sha256.is_some() && a.deciding_code_sha256 == b.deciding_code_sha256;
    let same_build = !a.binary_sha256.is_empty() && a.binary_sha256 == b.binary_sha256;
    a.machine_id == b.machine_id && a.gpus == b.gpus && (same_build || (same_code && a.libraries == b.libraries))
}

fn unequal(recorded: &Summary, replayed: &Summary, steps: &(Vec<StepRow>, Vec<StepRow>)) -> Vec<String> {
    let mut found = Vec::new();
    let pairs = steps.0.iter().zip(&steps.1);
    if let Some((old, new)) = pairs.clone().find(|(old, new)| old.loss.to_bits() != new.loss.to_bits()) {
        found.push(format!("step {}: a loss of {} was recorded, the replay has {}", old.step, old.loss, new.loss));
    }
    let figures = [
        ("steps", Some(recorded.steps as f64), Some(replayed.steps as f64)),
        ("final_val_bpb", recorded.final_val_bpb, replayed.final_val_bpb),
        ("min_val_bpb", recorded.min_val_bpb, replayed.min_val_bpb),
        ("core_metric", recorded.core_metric, replayed.core_metric),
        ("train_loss", recorded.train_loss, replayed.train_loss),
    ];
    for (name, old, new) in figures {
        if old != new {
            found.push(format!("{name}: {} was recorded, the replay has {}", words(old), words(new)));
        }
    }
    let hashes = [
        ("loss_trace_sha256", &recorded.loss_trace_sha256, &replayed.loss_trace_sha256),
        ("weights_sha256", &recorded.weights_sha256, &replayed.weights_sha256),
        ("first_batch_sha256", &recorded.first_batch_sha256, &replayed.first_batch_sha256),
    ];
    for (name, old, new) in hashes {
        if old.is_some() && old != new {
            found.push(format!("another {name} than recorded"));
        }
    }
    found
}

fn out_of_bounds(
    bounds: &Bounds,
    recorded: &Summary,
    replayed: &Summary,
    steps: &(Vec<StepRow>, Vec<StepRow>),
) -> Vec<String> {
    let mut found = Vec::new();
    let far = |old: f64, new: f64, share: f64| (old - new).is_nan() || (old - new).abs() > share * old.abs();
    if steps.0.len() != steps.1.len() {
        found.push(format!("{} steps were recorded, the replay has {}", steps.0.len(), steps.1.len()));
    }
    if let Some((old, new)) = steps.0.iter().zip(&steps.1).find(|(old, new)| far(old.loss, new.loss, bounds.loss)) {
        let (share, step) = (bounds.loss * 100.0, old.step);
        found.push(format!(
            "step {step}: a loss of {} was recorded, the replay has {}, more than {share}% apart",
            old.loss, new.loss
        ));
    }
    for (name, old, new) in [
        ("final_val_bpb", recorded.final_val_bpb, replayed.final_val_bpb),
        ("min_val_bpb", recorded.min_val_bpb, replayed.min_val_bpb),
    ] {
        let differs = match (old, new) {
            (Some(old), Some(new)) => far(old, new, bounds.bpb),
            (old, new) => old != new,
        };
        if differs {
            let share = bounds.bpb * 100.0;
            found.push(format!(
                "{name}: {} was recorded, the replay has {}, more than {share}% apart",
                words(old),
                words(new)
            ));
        }
    }
    found
}

fn words(value: Option<f64>) -> String {
    value.map_or_else(|| "nothing".to_string(), |value| value.to_string())
}
