//! What makes the figures of two runs incomparable whatever the treatment: another budget, data, tokenizer or evaluation.

use nanochat_artifacts::Summary;
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
        if ours != theirs {
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
    if skipped(summary) != skipped(others) || summary.adopted_steps != others.adopted_steps {
        differs.push(
            "the data that was trained on (a run diverged and skipped some, or began with the baseline's steps)".into(),
        );
    }
    differs
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
