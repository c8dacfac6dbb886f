//! From a checkout's run to the documents that every run leaves: rows, summary, environment.

use std::collections::BTreeMap;

use nanochat_artifacts::{
    ArmEvidence, BaselineRun, Environment, EvalRow, RunFolder, RunStatus, StepRow, Summary, file_sha256,
    loss_trace_sha256, median_tokens_per_second, training_seconds, write_document, write_evals, write_steps,
};
use nanochat_plan::{DeviceKind, RunPlan};

use super::arm::{BASELINE_SEED, Carried, Matching};
use super::{BaselineError, python};
use crate::run;

/// Losses that show whether a seed took effect.
const FIRST_LOSSES: usize = 5;

/// Writes the tables and gives the summary, which is not written yet.
///
/// # Errors
/// A table can't be written or hashed.
pub(super) fn summarize(
    plan: &RunPlan,
    folder: &RunFolder,
    carried: &Carried,
    matching: &Matching,
) -> Result<Summary, BaselineError> {
    let run = &carried.run;
    let steps = step_rows(plan, run);
    let evals = eval_rows(plan, run);
    write_steps(&folder.steps(), &steps)?;
    write_evals(&folder.evals(), &evals)?;
    let mut files = BTreeMap::new();
    for path in [folder.steps(), folder.evals()] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, file_sha256(&path)?);
    }
    let measured = run.measured.as_ref();
    let several = plan.device_count > 1;
    let peak = if several { measured.and_then(|m| m.peak_tree_rss_bytes) } else { run.peak_rss_bytes };
    let provenance = run.provenance.as_ref();
    Ok(Summary {
        schema: "nanochat.summary/v1".to_string(),
        run_id: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        status: run.status,
        reason: run.reason.clone(),
        steps: steps.len() as u64,
        tokens: steps.len() as u64 * plan.total_batch_size,
        final_val_bpb: evals.iter().rev().find_map(|row| row.val_bpb),
        min_val_bpb: evals.iter().filter_map(|row| row.val_bpb).reduce(f64::min),
        core_metric: evals.iter().rev().find_map(|row| row.core_metric),
        train_loss: steps.last().map(|row| row.loss),
        tokens_per_second: median_tokens_per_second(&steps, plan.total_batch_size),
        training_seconds: training_seconds(&steps),
        elapsed_seconds: run.elapsed_seconds.unwrap_or_default(),
        startup_seconds: measured.and_then(|measured| measured.startup_seconds),
        peak_rss_bytes: peak.unwrap_or_default(),
        peak_device_bytes: carried.device_memory.filter(|_| plan.device != DeviceKind::Cpu),
        weights_sha256: provenance.and_then(|provenance| provenance.weights_sha256.clone()),
        initial_weights_sha256: carried.launched.as_ref().and_then(|seen| seen.initial_weights_sha256.clone()),
        loss_trace_sha256: Some(loss_trace_sha256(&steps)),
        data_sha256: matching.data_sha256.clone(),
        tokenizer_sha256: matching.tokenizer_sha256.clone(),
        bundle_sha256: None,
        first_batch_sha256: run.first_batch_sha256.clone(),
        files_sha256: files,
        rollbacks: Vec::new(),
        adopted_steps: 0,
        continued_from: Vec::new(),
        arm: Some(evidence(carried, matching)),
    })
}

fn evidence(carried: &Carried, matching: &Matching) -> ArmEvidence {
    let run = &carried.run;
    let provenance = run.provenance.as_ref();
    let mut warnings = provenance.map(|provenance| provenance.warnings.clone()).unwrap_or_default();
    if let Some(problem) = carried.launched.as_ref().and_then(|seen| seen.problem.as_ref()) {
        warnings.push(format!("the initial weights have no hash: {problem}"));
    }
    ArmEvidence {
        flags: run.flags.clone(),
        seed_requests: carried.launched.as_ref().map_or(0, |seen| seen.seed_requests),
        first_losses: run.losses.iter().take(FIRST_LOSSES).copied().collect(),
        attention: carried.attention.clone(),
        batches_agree: matching.differences.is_empty(),
        differences: matching.differences.clone(),
        first_validation_batch_sha256: matching.first_validation_batch_sha256.clone(),
        evaluation_probe: matching.evaluation_probe,
        log_sha256: provenance.map(|provenance| provenance.log_sha256.clone()).unwrap_or_default(),
        warnings,
        last_lines: if run.status == RunStatus::Finished { Vec::new() } else { carried.last_lines.clone() },
        warm_compile_cache: run.measured.as_ref().is_some_and(|measured| measured.warm_compile_cache),
        devices: carried.devices.clone(),
    }
}

/// The script doesn't print all that our own rows hold: what it doesn't say is no number.
fn step_rows(plan: &RunPlan, run: &BaselineRun) -> Vec<StepRow> {
    let row = |(step, (loss, seconds)): (u64, (&f64, &f64))| StepRow {
        step,
        tokens: (step + 1) * plan.total_batch_size,
        loss: *loss,
        lr_multiplier: f64::NAN,
        muon_momentum: f64::NAN,
        muon_weight_decay: f64::NAN,
        seconds: *seconds,
        rss_bytes: 0,
    };
    (0..).zip(run.losses.iter().zip(&run.step_seconds)).map(row).collect()
}

fn eval_rows(plan: &RunPlan, run: &BaselineRun) -> Vec<EvalRow> {
    let measured = run.measured.as_ref();
    let printed = |times: Option<&Vec<f64>>, place: usize| times.and_then(|times| times.get(place)).copied();
    let last = run.evals.len().saturating_sub(1);
    let row = |(place, (step, bpb)): (usize, &(u64, f64))| {
        let done = run.step_seconds.get(..*step as usize).unwrap_or(&run.step_seconds);
        let before = step.checked_sub(1);
        let before = before.and_then(|step| printed(measured.map(|m| &m.step_printed_seconds), step as usize));
        let end = printed(measured.map(|m| &m.eval_printed_seconds), place);
        EvalRow {
            step: *step,
            tokens: step * plan.total_batch_size,
            // The last one in full, from the checkpoint; the log prints six digits.
            val_bpb: Some(if place == last { run.final_val_bpb.unwrap_or(*bpb) } else { *bpb }),
            core_metric: run.core_metric.filter(|_| place == last),
            training_seconds: done.iter().skip(11).sum::<f64>() + 0.0,
            eval_seconds: before.zip(end).map_or(0.0, |(before, end)| (end - before).max(0.0)),
            rss_bytes: None,
        }
    };
    run.evals.iter().enumerate().map(row).collect()
}

/// Where the run was made, with the versions of the checkout's environment in the place of this program's libraries.
pub(super) fn environment(plan: &RunPlan, python: &python::Environment, hardware_matches: bool) -> Environment {
    let own = run::environment(plan, hardware_matches);
    let threads = super::Variant::of(plan).threads;
    let gpus = if plan.device == DeviceKind::Cpu { Vec::new() } else { python.accelerators.clone() };
    Environment { libraries: python.versions(), threads, gpus, deciding_code_sha256: None, ..own }
}

/// Why a finished run doesn't count under its seed; none where it does. `others`: what the arm's runs under other seeds
/// recorded.
pub(super) fn ignored_seed(plan: &RunPlan, summary: &Summary, others: &[(u64, Summary)]) -> Option<String> {
    let own = summary.arm.as_ref()?;
    if own.seed_requests == 0 && plan.seed != BASELINE_SEED {
        return Some(format!(
            "the script never asked for its fixed seed {BASELINE_SEED}, so the run's seed {} had no effect",
            plan.seed
        ));
    }
    others.iter().find_map(|(seed, other)| {
        let weights = summary.initial_weights_sha256.as_ref().zip(other.initial_weights_sha256.as_ref());
        let losses = other.arm.as_ref().map(|arm| arm.first_losses == own.first_losses && !own.first_losses.is_empty());
        let what = match weights {
            Some((a, b)) if a == b => "initial weights",
            None if losses == Some(true) => "first losses",
            _ => return None,
        };
        Some(format!("the script ignores the seed: {} gave the same {what} as {seed}", plan.seed))
    })
}

/// Writes the summary of a run.
///
/// # Errors
/// It can't be written.
pub(super) fn write(folder: &RunFolder, summary: &Summary) -> Result<(), BaselineError> {
    Ok(write_document(&folder.summary(), summary)?)
}
