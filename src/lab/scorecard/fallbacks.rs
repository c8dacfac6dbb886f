//! Attention by a fallback: named in the reason of every verdict that rests on a run of such a checkout.

use std::collections::BTreeSet;

use nanochat_artifacts::{ExperimentDocuments, Judgement, RunDocuments, Verdict};

use super::control;

/// The judgement of a cell, its reason with the fallbacks of the cell and its control.
pub(super) fn named(mut judgement: Judgement, runs: &[&RunDocuments], documents: &ExperimentDocuments) -> Judgement {
    if matches!(judgement.verdict(), Verdict::Off | Verdict::Missing) {
        return judgement;
    }
    let of_control = documents.runs.iter().filter(|run| control::is_control(documents.record.control.as_ref(), run));
    let both = runs.iter().copied().chain(of_control);
    let found: BTreeSet<String> = both.filter_map(fallback).collect();
    for what in found {
        judgement.reason.push_str("; ");
        judgement.reason.push_str(&what);
    }
    judgement
}

fn fallback(run: &RunDocuments) -> Option<String> {
    let evidence = run.finished()?.arm.as_ref()?;
    let attention = evidence.attention.as_ref().filter(|how| how.contains("fallback"))?;
    let arm = run.plan.arm.as_ref()?;
    Some(format!("`{}` computes attention by {attention}", arm.name))
}
