//! What an experiment needs besides memory: disk, evaluations, data that isn't here yet; the rate at which it will train; and
//! what has to be known or done first. `nanochat plan` prints it.

use std::path::Path;
use std::sync::Arc;

use nanochat_artifacts::{ExperimentDocuments, QualityClaim, ResultsRoot, SpeedClaim, read_experiment};
use nanochat_engine::cache::{Cache, DEFAULT_LIMIT, Secret};
use nanochat_engine::data::{longest_document, resolve};
use nanochat_experiment::{Cell, Experiment, load_profile, profile_names};
use nanochat_plan::{
    CLIMBMIX_SHARD_BYTES, CLIMBMIX_SHARD_TOKENS, DataPlan, DeviceKind, Needs, Profile, Rate, RunPlan, climbmix_command,
    climbmix_shards, climbmix_shards_for, core_evaluations, evaluation_tokens, evaluations, times_due,
};

use super::estimate::duration;
use super::open::Opened;
use crate::hardware::free_bytes;

/// Bytes of a number in f32, as checkpoints hold them.
const F32: u64 = 4;

/// What the runs need.
pub fn needs(opened: &Opened) -> Needs {
    let (plans, experiment) = (opened.plans(), &opened.experiment);
    let mut remarks = Vec::new();
    let data_bytes = plans.first().and_then(|plan| data(plan, plans, &mut remarks));
    let checkpoint_bytes = plans.iter().map(kept_checkpoints).sum();
    if let Some(free) = free_bytes(Path::new(".")).filter(|&free| free < checkpoint_bytes) {
        let [needed, free] = [checkpoint_bytes, free].map(|bytes| bytes as f64 / 1e9);
        remarks.push(format!(
            "the checkpoints take {needed:.1} GB, and the disk has {free:.1} GB left: lower checkpoint.keep, or free some space"
        ));
    }
    recording(experiment, &mut remarks);
    let profile = experiment.profile();
    let rates = profile.map_or_else(Vec::new, |profile| rates(&opened.root, profile, plans));
    if let (Some(cell), Some(profile)) = (experiment.cells.first(), profile) {
        one_device(cell, profile, &mut remarks);
        if profile.device == DeviceKind::Cuda && profile.memory_gib.is_none() {
            remarks.push(format!(
                "`{}` states no memory, and this machine has no GPU to take it from: whether the runs fit isn't known",
                profile.name
            ));
        }
    }
    Needs {
        longest_document_bytes: longest_document_of(opened),
        data_bytes,
        checkpoint_bytes,
        evaluations: plans.iter().map(evaluations).sum(),
        evaluation_tokens: plans.iter().map(evaluation_tokens).fold(0, u64::saturating_add),
        core_evaluations: plans.iter().map(core_evaluations).sum(),
        rates,
        remarks,
    }
}

/// Bytes of the longest document of any run's data, where the data was read before or is small.
fn longest_document_of(opened: &Opened) -> Option<u64> {
    let folder = opened.root.cache().filter(|folder| folder.is_dir())?;
    let cache = Arc::new(Cache::new(folder, DEFAULT_LIMIT, Secret::of_this_user()));
    let mut found: Vec<(&DataPlan, Option<u64>)> = Vec::new();
    for plan in opened.plans() {
        if found.iter().all(|(data, _)| **data != plan.data) {
            found.push((&plan.data, longest_document(&plan.data, opened.root.project(), &cache)));
        }
    }
    found.into_iter().filter_map(|(_, longest)| longest).max()
}

/// Bytes of the checkpoints that a run keeps: weights, Muon's momentum of the matrices, both of Adam's moments of the rest.
fn kept_checkpoints(plan: &RunPlan) -> u64 {
    let (total, matrices) = (plan.parameters.total, plan.parameters.transformer_matrices);
    let one = F32 * (total + matrices + 2 * (total - matrices));
    one * times_due(plan.num_iterations, plan.checkpoint.every).min(plan.checkpoint.keep)
}

/// Bytes of the data on disk; says what is missing of it, and whether it is enough.
fn data(first: &RunPlan, plans: &[RunPlan], remarks: &mut Vec<String>) -> Option<u64> {
    let DataPlan::Climbmix { path, shards } = &first.data else { return None };
    let folder = resolve(path, Path::new(""));
    let sizes = climbmix_shards(*shards).map(|name| folder.join(name).metadata().ok().map(|found| found.len()));
    let sizes: Vec<Option<u64>> = sizes.collect();
    let missing = sizes.iter().filter(|size| size.is_none()).count() as u64;
    let absent = missing * CLIMBMIX_SHARD_BYTES;
    if let Some(free) = folder.ancestors().find_map(free_bytes).filter(|&free| free < absent) {
        let [needed, free] = [absent, free].map(|bytes| bytes as f64 / 1e9);
        remarks.push(format!(
            "the {missing} shards that are missing take about {needed:.1} GB, and the disk of {path} has {free:.1} GB left: \
             `{} --out FOLDER`, and data.path, name another",
            climbmix_command(*shards, nanochat_plan::CLIMBMIX_FOLDER)
        ));
    }
    let tokens = plans.iter().map(|plan| plan.total_tokens).max().unwrap_or(0);
    let wanted = climbmix_shards_for(tokens);
    if wanted > *shards {
        let (held, times) = (shards * CLIMBMIX_SHARD_TOKENS, tokens as f64 / (shards * CLIMBMIX_SHARD_TOKENS) as f64);
        remarks.push(format!(
            "{shards} shards hold about {:.2} billion tokens, so that a run of {:.2} billion sees its data {times:.1} times; \
             set data.shards to {wanted} to see it once",
            held as f64 / 1e9,
            tokens as f64 / 1e9
        ));
    }
    Some(sizes.into_iter().flatten().sum::<u64>() + absent)
}

/// Says when the recording that the spec names isn't there, and how it is made.
fn recording(experiment: &Experiment, remarks: &mut Vec<String>) {
    let claims_nothing = experiment.quality.claim == Some(QualityClaim::Off)
        && experiment.speed.claim.is_none_or(|claim| claim == SpeedClaim::Off);
    let named = experiment.baseline_results.as_ref().filter(|path| !Path::new(path).exists());
    if let Some(path) = named.filter(|_| !claims_nothing) {
        remarks.push(format!(
            "{path} is not there, so that verdicts against the baseline will be `missing`: `nanochat baseline run SPEC --checkout \
             FOLDER --python PATH` trains karpathy/nanochat at {} on this budget and records it",
            experiment.baseline_commit
        ));
    }
}

/// For each precision the rate of the recorded run of this engine that is nearest in size, on the same profile; else what the
/// profile states.
fn rates(root: &ResultsRoot, profile: &Profile, plans: &[RunPlan]) -> Vec<Rate> {
    let mut firsts: Vec<&RunPlan> = Vec::new();
    for plan in plans {
        if firsts.iter().all(|first| first.dtype != plan.dtype) {
            firsts.push(plan);
        }
    }
    // What can't be read there is no reason not to plan.
    let recorded = root.experiments().unwrap_or_default();
    let recorded: Vec<ExperimentDocuments> =
        recorded.iter().filter_map(|folder| read_experiment(folder).ok()).collect();
    let stated = profile.peak_tflops.map(|peak| peak * profile.efficiency * profile.device_count as f64);
    let rate = |plan: &&RunPlan| {
        let stated =
            || stated.map(|tflops| Rate { dtype: plan.dtype, tflops, startup_seconds: None, measured_on: None });
        nearest(&recorded, plan).or_else(stated)
    };
    firsts.iter().filter_map(rate).collect()
}

/// The rate of the recorded run that is most like a plan in FLOPs a token.
fn nearest(recorded: &[ExperimentDocuments], plan: &RunPlan) -> Option<Rate> {
    let runs = recorded.iter().flat_map(|documents| documents.runs.iter().map(move |run| (documents, run)));
    let measured = runs.filter_map(|(documents, run)| {
        let found = &run.plan;
        let alike = found.hardware == plan.hardware
            && (found.device, found.device_count, found.dtype) == (plan.device, plan.device_count, plan.dtype);
        let summary = run.finished().filter(|summary| alike && summary.arm.is_none())?;
        let speed = summary.tokens_per_second?;
        let measured_on = Some(format!("{}/{}", documents.record.name, found.run_id));
        let tflops = speed * found.flops_per_token as f64 / 1e12;
        let distance = (found.flops_per_token as f64 / plan.flops_per_token as f64).ln().abs();
        let startup_seconds = summary.startup_seconds;
        Some((distance, Rate { dtype: plan.dtype, tflops, startup_seconds, measured_on }))
    });
    measured.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, rate)| rate)
}

/// Says what the same cell takes on one of a profile's several devices, since this engine trains on one.
fn one_device(cell: &Cell, profile: &Profile, remarks: &mut Vec<String>) {
    if profile.device_count == 1 {
        return;
    }
    let single = profile.name.rsplit_once("-x").map(|(model, _)| format!("{model}-x1"));
    let single = single.filter(|name| profile_names().contains(name));
    let (how, profile_of_one) = match single.and_then(|name| Some((load_profile(&name).ok()?, name))) {
        Some((found, name)) => (format!("--profile {name}"), found),
        None => (
            "--set hardware.device_count=1 --set hardware.match.gpu_count=1".to_owned(),
            Profile { device_count: 1, ..profile.clone() },
        ),
    };
    let mut settings = cell.settings.clone();
    settings.profile = profile_of_one;
    let cost = match settings.plan("", &cell.axes, 0) {
        Ok(plan) => {
            let time = plan.estimate.seconds.map_or_else(|| "an unknown time".to_owned(), duration);
            format!("is estimated to take {:.1} GiB and {time} a run", plan.estimate.memory_gib)
        }
        Err(error) => {
            let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("does not fit: {error}{help}")
        }
    };
    let count = profile.device_count;
    remarks.push(format!(
        "this engine trains on one device, so that `run` refuses the {count} of `{}`; the same spec with `{how}` {cost}",
        profile.name
    ));
}

/// Gives profiles of GPUs that state no memory that of this machine's smallest GPU.
pub(super) fn memory_of_machine(experiment: &mut Experiment) {
    let states_none = |profile: &Profile| profile.device == DeviceKind::Cuda && profile.memory_gib.is_none();
    if !experiment.cells.iter().any(|cell| states_none(&cell.settings.profile)) {
        return;
    }
    let smallest = crate::hardware::this_machine().gpus.iter().map(|gpu| gpu.memory_bytes).min();
    let memory_gib = smallest.map(|bytes| bytes as f64 / (1u64 << 30) as f64);
    for cell in experiment.cells.iter_mut().filter(|cell| states_none(&cell.settings.profile)) {
        cell.settings.profile.memory_gib = memory_gib;
    }
}
