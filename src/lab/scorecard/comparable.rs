//! What makes the figures of two runs incomparable whatever the treatment: another budget, data, tokenizer or evaluation.

use nanochat_artifacts::{ArmEvidence, ArmsRecord, Summary};
use nanochat_plan::{BudgetPlan, RunPlan};

use super::Metric;
use super::budget::{digits, whole_batches};

/// A plan and what came of it.
pub(super) type Outcome<'a> = (&'a RunPlan, &'a Summary);

/// Each thing that differs, as a phrase with both values.
pub(super) fn differences(ours: Outcome<'_>, theirs: Outcome<'_>, metric: Metric) -> Vec<String> {
    let ((plan, summary), (other, others)) = (ours, theirs);
    let mut differs = Vec::new();
    if !same_flops(plan, other) && summary.tokens != others.tokens {
        differs.push(format!("the budget ({} training tokens against {})", summary.tokens, others.tokens));
    }
    let mut hash = |what: &str, ours: &str, theirs: &str| {
        if ours.is_empty() || theirs.is_empty() {
            differs.push(format!("{what} (not recorded)"));
        } else if ours != theirs {
            differs.push(format!("{what} (SHA-256 {}… against {}…)", digits(ours), digits(theirs)));
        }
    };
    hash("the data", &summary.data_sha256, &others.data_sha256);
    hash("the tokenizer", &summary.tokenizer_sha256, &others.tokenizer_sha256);
    let same_batches =
        (plan.device_batch_size, plan.model.sequence_len) == (other.device_batch_size, other.model.sequence_len);
    if let (true, Some(ours), Some(theirs)) =
        (same_batches && differs.is_empty(), &summary.first_batch_sha256, &others.first_batch_sha256)
        && ours != theirs
    {
        differs.push(format!(
            "the order of the data (the first batch has {}… against {}…)",
            digits(ours),
            digits(theirs)
        ));
    }
    differs.extend(evaluation(plan, other, metric));
    differs.extend(arms(summary.arm.as_ref(), others.arm.as_ref()));
    if skipped(summary) != skipped(others) || summary.adopted_steps != others.adopted_steps {
        differs.push(
            "the data that was trained on (a run diverged and skipped some, or began with the baseline's steps)".into(),
        );
    }
    differs
}

/// What checkouts show of their own code: their evaluation against each other's, or all of it against this program's.
fn arms(ours: Option<&ArmEvidence>, theirs: Option<&ArmEvidence>) -> Vec<String> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return ours.or(theirs).map(|arm| arm.differences.clone()).unwrap_or_default();
    };
    let unrecorded = [ours, theirs].into_iter().find(|arm| arm.first_validation_batch_sha256.is_empty());
    if let Some(arm) = unrecorded {
        return arm.differences.clone();
    }
    let mut differs = Vec::new();
    if ours.first_validation_batch_sha256 != theirs.first_validation_batch_sha256 {
        let (a, b) = (digits(&ours.first_validation_batch_sha256), digits(&theirs.first_validation_batch_sha256));
        differs.push(format!("the evaluation's tokens (the first batch has {a}… against {b}…)"));
    }
    if ours.evaluation_probe != theirs.evaluation_probe {
        let bits = |probe: Option<f64>| probe.map_or("no answer".to_string(), |bits| format!("{bits:.6}"));
        let (a, b) = (bits(ours.evaluation_probe), bits(theirs.evaluation_probe));
        differs.push(format!("the evaluation (bits per byte of a made-up model: {a} against {b})"));
    }
    differs
}

/// Parts of a repository by what they decide, as words in a file's path.
const DECIDING: [(&str, &[&str]); 3] = [
    ("data", &["dataloader", "dataset"]),
    ("tokenizer", &["tokenizer"]),
    ("evaluation", &["loss_eval", "core_eval", "base_eval", "dataloader", "dataset", "tokenizer"]),
];

/// Which files of an arm's commit make the differences, as the end of a sentence; nothing where its diff isn't known. Where
/// no file is named for such things, all changed modules may be the cause.
pub(super) fn files(plan: &RunPlan, arms: Option<&ArmsRecord>, differences: &[String]) -> String {
    let record = plan.arm.as_ref().and_then(|arm| arms?.arm(&arm.name));
    let Some(diff) = record.and_then(|record| record.diff.as_ref()) else { return String::new() };
    let touched = |words: &&[&str], path: &str| words.iter().any(|word| path.contains(word));
    let decided = DECIDING.iter().filter(|(what, _)| differences.iter().any(|difference| difference.contains(what)));
    let words: Vec<&[&str]> = decided.map(|(_, words)| *words).collect();
    let named = |path: &&str| words.iter().any(|words| touched(words, path));
    let paths: Vec<&str> =
        diff.files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".py")).collect();
    let own: Vec<&str> = paths.iter().copied().filter(named).collect();
    let files = if own.is_empty() { paths } else { own };
    if files.is_empty() { String::new() } else { format!("; its commit changes {}", files.join(", ")) }
}

/// Whether both state the same number of FLOPs as their budget.
fn same_flops(plan: &RunPlan, other: &RunPlan) -> bool {
    matches!((plan.budget, other.budget), (BudgetPlan::Flops(ours), BudgetPlan::Flops(theirs)) if ours == theirs)
}

fn evaluation(plan: &RunPlan, other: &RunPlan, metric: Metric) -> Option<String> {
    if metric == Metric::CoreMetric {
        return (plan.eval.core != other.eval.core).then(|| "the evaluation (CORE's settings)".to_string());
    }
    let tokens =
        |plan: &RunPlan| whole_batches(plan.eval.tokens, plan.device_batch_size * plan.model.sequence_len as u64);
    let (ours, theirs) = (tokens(plan), tokens(other));
    (ours != theirs).then(|| format!("the evaluation ({ours} tokens against {theirs})"))
}

fn skipped(summary: &Summary) -> u64 {
    summary.rollbacks.iter().map(|back| back.skipped_tokens).sum()
}
