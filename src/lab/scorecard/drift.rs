//! Drift: evaluations must not cost more as a run goes on (`eval.drift`), in memory or in time.
//!
//! Held against each other are evaluations of one kind, with CORE or without, whichever a run has more of. The first of
//! them isn't counted: it allocates what the others use again. Growth is resident memory after the last less that after
//! the first counted one. Slowdown is the median time of the last third over that of the first third, less one.

use super::statistics::{self, rounded};
use super::{ScorecardError, severity};
use nanochat_artifacts::{Bound, DriftRule, EvalRow, Finding, Judgement, Method, RunDocuments, Tables};

/// Evaluations of a kind that it takes, the first included: with fewer a third is no third.
pub const EVALUATIONS_NEEDED: usize = 4;
const MIB: f64 = 1_048_576.0;
const METRIC: &str = "drift";

/// Judges one cell by its worst run.
pub(super) fn judge(runs: &[&RunDocuments], rule: &DriftRule, tables: &Tables) -> Result<Judgement, ScorecardError> {
    let mut worst: Option<Judgement> = None;
    for run in runs.iter().filter(|run| run.finished().is_some() && run.folder.evals().is_file()) {
        let judged = of_run(&run.plan.run_id, &tables.evals(run)?, rule);
        let rank = |judgement: &Judgement| (severity(judgement.verdict()), judgement.ratio().unwrap_or(0.0));
        if worst.as_ref().is_none_or(|worst| rank(&judged) > rank(worst)) {
            worst = Some(judged);
        }
    }
    let mut judgement = worst.unwrap_or_else(|| Judgement::missing(METRIC, "no run is finished"));
    judgement.candidate.runs = runs.iter().filter(|run| run.finished().is_some()).count() as u64;
    Ok(judgement)
}

fn of_run(name: &str, rows: &[EvalRow], rule: &DriftRule) -> Judgement {
    let counted = counted(rows);
    let memory: Vec<f64> = counted.iter().filter_map(|row| row.rss_bytes.map(|bytes| bytes as f64 / MIB)).collect();
    let third = (counted.len() / 3).max(1);
    let median = |rows: &[&EvalRow]| statistics::median(&rows.iter().map(|row| row.eval_seconds).collect::<Vec<_>>());
    let first = counted.get(..third).and_then(median);
    let last = counted.len().checked_sub(third).and_then(|from| counted.get(from..)).and_then(median);
    let (Some(before), Some(after), Some(early), Some(late)) = (memory.first(), memory.last(), first, last) else {
        return Judgement::missing(METRIC, format!("`{name}` has no evaluations to compare"));
    };
    if counted.len() + 1 < EVALUATIONS_NEEDED || memory.len() != counted.len() {
        let reason = match memory.len() == counted.len() {
            true => format!(
                "`{name}` was evaluated {} times in one way; it takes {EVALUATIONS_NEEDED}: lower `eval.every`",
                counted.len() + 1
            ),
            false => format!("`{name}` doesn't say how much memory its evaluations left resident: run it again"),
        };
        return Judgement::missing(METRIC, reason);
    }
    let (growth, ratio) = (after - before, late / early);
    let within = |value: f64, bound: Option<f64>| bound.is_none_or(|bound| value <= bound);
    let passed = within(growth, rule.max_rss_growth) && within(ratio - 1.0, rule.max_slowdown);
    let bound = |bound: Option<f64>, unit: &str| bound.map_or("any".to_string(), |bound| format!("{bound}{unit}"));
    let reason = format!(
        "over {} evaluations `{name}` grew by {growth:+.1} MiB (allowed {}) and took {:+.1}% longer (allowed {})",
        counted.len() + 1,
        bound(rule.max_rss_growth, " MiB"),
        100.0 * (ratio - 1.0),
        bound(rule.max_slowdown.map(|share| 100.0 * share), "%"),
    );
    let (difference, ratio) = (Some(rounded(growth)), Some(rounded(ratio)));
    let finding = Finding { method: Method::PerRun, difference, ratio, ..Finding::default() };
    let judgement = Judgement::undecided(METRIC, finding.within(passed), reason);
    Judgement { bound: rule.max_rss_growth.map(Bound::at), ..judgement }
}

/// The evaluations of the commoner kind, without the first.
fn counted(rows: &[EvalRow]) -> Vec<&EvalRow> {
    let (with_core, without): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.core_metric.is_some());
    let kind = if with_core.len() > without.len() { with_core } else { without };
    kind.into_iter().skip(1).collect()
}
