//! The control: a cell of the experiment's own matrix in the baseline's place (`baseline.cell`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{BaselineEvidence, ScorecardError, cells};
use nanochat_artifacts::{
    BaselineBlock, BaselineMeasurement, BaselineProvenance, BaselineResult, BaselineRun, Document, ExperimentDocuments,
    RunBlock, RunDocuments, Summary, Tables,
};

/// Whether a cell's axes have all the values that the control is named by.
pub(super) fn is_control(control: Option<&BTreeMap<String, Value>>, run: &RunDocuments) -> bool {
    control.is_some_and(|named| named.iter().all(|(key, value)| run.plan.axes.get(key) == Some(value)))
}

/// What the cells are held against: the control's finished runs, or else the recording.
pub(super) fn evidence(
    documents: &ExperimentDocuments,
    tables: &Tables,
    recorded: &BaselineEvidence,
) -> Result<BaselineEvidence, ScorecardError> {
    let record = &documents.record;
    let Some(control) = &record.control else { return Ok(recorded.clone()) };
    let runs: Vec<&RunDocuments> = documents.runs.iter().filter(|run| is_control(Some(control), run)).collect();
    let Some(first) = runs.first() else {
        let named = control.iter().map(cells::axis).collect::<Vec<_>>().join(", ");
        return Ok(BaselineEvidence::NoControl(named));
    };
    let label = cells::label(first);
    let finished = runs.iter().filter_map(|run| run.finished().map(|summary| (*run, summary)));
    let runs =
        finished.map(|(run, summary)| as_baseline(run, summary, tables)).collect::<Result<Vec<_>, ScorecardError>>()?;
    Ok(BaselineEvidence::Control(Box::new(BaselineResult {
        schema: BaselineResult::SCHEMA.to_string(),
        name: label,
        commit: record.baseline_commit.clone(),
        runs,
    })))
}

/// One of our runs in the form that candidates are held against.
fn as_baseline(run: &RunDocuments, summary: &Summary, tables: &Tables) -> Result<BaselineRun, ScorecardError> {
    let steps = tables.steps(run)?;
    let block = run.environment.as_ref().and_then(|environment| environment.block.as_ref());
    Ok(BaselineRun {
        seed: run.plan.seed,
        status: summary.status,
        reason: None,
        flags: vec![
            format!("--device-batch-size={}", run.plan.device_batch_size),
            format!("--eval-tokens={}", run.plan.eval.tokens),
        ],
        model: run.plan.model.clone(),
        steps: summary.steps,
        tokens: summary.tokens,
        total_batch_size: run.plan.total_batch_size,
        final_val_bpb: summary.final_val_bpb,
        min_val_bpb: summary.min_val_bpb,
        core_metric: summary.core_metric,
        evals: if block.is_some() { evaluations(tables, run)? } else { Vec::new() },
        losses: steps.iter().map(|step| step.loss).collect(),
        tokens_per_second: summary.tokens_per_second,
        step_seconds: steps.iter().map(|step| step.seconds).collect(),
        training_seconds: Some(summary.training_seconds),
        elapsed_seconds: Some(summary.elapsed_seconds),
        peak_rss_bytes: Some(summary.peak_memory_bytes()),
        data_sha256: Some(summary.data_sha256.clone()),
        tokenizer_sha256: Some(summary.tokenizer_sha256.clone()),
        first_batch_sha256: summary.first_batch_sha256.clone(),
        dtype: run.plan.dtype,
        machine_id: run.environment.as_ref().map(|environment| environment.machine_id.clone()),
        versions: BTreeMap::new(),
        measured: block.and(summary.startup_seconds).map(|startup| BaselineMeasurement {
            startup_seconds: Some(startup),
            eval_printed_seconds: Vec::new(),
            step_printed_seconds: Vec::new(),
            cpu_seconds: None,
            peak_tree_rss_bytes: None,
            warm_compile_cache: false,
        }),
        provenance: block.map(|block| in_block(run, block)),
    })
}

fn evaluations(tables: &Tables, run: &RunDocuments) -> Result<Vec<(u64, f64)>, ScorecardError> {
    Ok(tables.evals(run)?.iter().filter_map(|row| Some((row.step, row.val_bpb?))).collect())
}

/// What a recording says of a run in a block.
fn in_block(run: &RunDocuments, block: &RunBlock) -> BaselineProvenance {
    BaselineProvenance {
        source: "run".to_string(),
        plan_hash: Some(run.plan.plan_hash.clone()),
        variant: None,
        threads: None,
        environment: BTreeMap::new(),
        block: Some(BaselineBlock {
            number: block.number,
            baseline_first: block.place == 1,
            candidate_run: None,
            of_arms: Some(block.clone()),
        }),
        first_validation_batch_sha256: None,
        batches_agree: None,
        weights_sha256: None,
        log_sha256: String::new(),
        warnings: Vec::new(),
        cpu: None,
        cores: None,
        gpus: Vec::new(),
        program_version: String::new(),
        finished_at: run.environment.as_ref().map(|environment| environment.finished_at.clone()),
    }
}
