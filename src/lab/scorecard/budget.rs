//! Matched budget: when a recorded baseline run may stand against a run of ours.
//!
//! Same model shape, tokens, optimizer steps, batch, evaluation, data, tokenizer and first micro-batch. The hardware's
//! choices (sequences per device, precision) may differ. A hash that the recording lacks is lacking evidence, not a match.

use nanochat_artifacts::{BaselineRun, Summary};
use nanochat_plan::RunPlan;

/// How a baseline run relates to a run of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    /// Everything that has to be equal is, and is known to be.
    Matched,
    /// These things differ, each as a phrase.
    Differs(Vec<String>),
    /// Nothing differs, but the recording doesn't say this.
    Unproven(String),
}

/// Compares everything that decides quality.
pub(super) fn quality_match(plan: &RunPlan, summary: &Summary, baseline: &BaselineRun) -> Match {
    let mut differs = shape_differences(plan, baseline);
    let mut number = |what: &str, ours: u64, theirs: u64| {
        if ours != theirs {
            differs.push(format!("{what} ({ours} here, {theirs} in the baseline)"));
        }
    };
    number("optimizer steps", summary.steps, baseline.steps);
    number("training tokens", summary.tokens, baseline.tokens);
    if let Some(theirs) = evaluated_tokens(plan, baseline) {
        let per_batch = plan.device_batch_size * plan.model.sequence_len as u64;
        number("evaluation tokens", whole_batches(plan.eval.tokens, per_batch), theirs);
    }
    if summary.adopted_steps > 0 {
        differs.push(format!("the first {} steps (the baseline took them in both)", summary.adopted_steps));
    }
    if let Some(last) = summary.rollbacks.last() {
        let (times, tokens) =
            (summary.rollbacks.len(), summary.rollbacks.iter().map(|back| back.skipped_tokens).sum::<u64>());
        differs.push(format!(
            "the order of the data (the run diverged {times} times, the last at step {}, and went on without {tokens} tokens)",
            last.from_step
        ));
    }
    let mut hash = |what: &str, ours: Option<&String>, theirs: Option<&String>| {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            differs.push(format!("{what} (SHA-256 {}… here, {}… in the baseline)", digits(ours), digits(theirs)));
        }
    };
    hash("the data", Some(&summary.data_sha256), baseline.data_sha256.as_ref());
    hash("the tokenizer", Some(&summary.tokenizer_sha256), baseline.tokenizer_sha256.as_ref());
    let same_micro_batch = flag(baseline, "device-batch-size").is_none_or(|theirs| theirs == plan.device_batch_size);
    if same_micro_batch {
        hash("the first batch", summary.first_batch_sha256.as_ref(), baseline.first_batch_sha256.as_ref());
    }
    if !differs.is_empty() {
        return Match::Differs(differs);
    }
    let first_batch_known =
        same_micro_batch && summary.first_batch_sha256.is_some() && baseline.first_batch_sha256.is_some();
    match (&baseline.data_sha256, &baseline.tokenizer_sha256) {
        _ if first_batch_known => Match::Matched,
        (None, _) => Match::Unproven("which data it was trained on (data_sha256 or first_batch_sha256)".into()),
        (_, None) => Match::Unproven("which tokenizer it used (tokenizer_sha256 or first_batch_sha256)".into()),
        _ => Match::Matched,
    }
}

/// Compares what decides throughput: the model's shape and the batch.
pub(super) fn shape_differences(plan: &RunPlan, baseline: &BaselineRun) -> Vec<String> {
    let (ours, theirs) = (&plan.model, &baseline.model);
    let mut differs = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            differs.push(format!("{what} ({ours} here, {theirs} in the baseline)"));
        }
    };
    compare("model.n_layer", ours.n_layer.to_string(), theirs.n_layer.to_string());
    compare("model.n_embd", ours.n_embd.to_string(), theirs.n_embd.to_string());
    compare("model.n_head", ours.n_head.to_string(), theirs.n_head.to_string());
    compare("model.n_kv_head", ours.n_kv_head.to_string(), theirs.n_kv_head.to_string());
    compare("model.sequence_len", ours.sequence_len.to_string(), theirs.sequence_len.to_string());
    compare("model.vocab_size", ours.vocab_size.to_string(), theirs.vocab_size.to_string());
    compare("model.window_pattern", ours.window_pattern.clone(), theirs.window_pattern.clone());
    compare("tokens per step", plan.total_batch_size.to_string(), baseline.total_batch_size.to_string());
    differs
}

/// Tokens that the baseline's evaluation covers, whole batches, where its flags say enough.
fn evaluated_tokens(plan: &RunPlan, baseline: &BaselineRun) -> Option<u64> {
    let rows = flag(baseline, "device-batch-size").unwrap_or(plan.device_batch_size);
    Some(whole_batches(flag(baseline, "eval-tokens")?, rows * baseline.model.sequence_len as u64))
}

pub(super) fn whole_batches(tokens: u64, per_batch: u64) -> u64 {
    tokens.checked_div(per_batch).unwrap_or(0) * per_batch
}

/// A whole-number flag of the baseline's training script, as `--name=N` or `--name N`.
fn flag(baseline: &BaselineRun, name: &str) -> Option<u64> {
    let mut flags = baseline.flags.iter();
    while let Some(text) = flags.next() {
        let Some(rest) = text.strip_prefix("--").and_then(|text| text.strip_prefix(name)) else { continue };
        let value =
            rest.strip_prefix('=').or_else(|| if rest.is_empty() { flags.next().map(String::as_str) } else { None });
        if let Some(number) = value.and_then(|value| value.parse().ok()) {
            return Some(number);
        }
    }
    None
}

/// The first digits of a hash.
pub(super) fn digits(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
