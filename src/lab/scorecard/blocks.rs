//! Blocks: one run of each arm, back to back on one machine. What drifts over a session weighs on both arms alike, so that
//! the ratio inside a block is steadier than the arms are.
//!
//! A block counts when its recording names the candidate's run and the two ended no further apart than the runs of the
//! block took: a run that was made again later is no longer back to back with anything. Runs of arms say themselves to
//! which block of which session they belong.

use super::statistics::{self, rounded};
use super::{CONFIDENCE, speed};
use nanochat_artifacts::{
    BaselineBlock, BaselineRun, BlockArm, EvalRow, RunBlock, RunDocuments, SpeedBlock, Summary, steady_seconds,
};

/// Seconds that may pass in a block outside of its runs: preparation of data and tokenizer.
const SLACK_SECONDS: f64 = 900.0;

/// Both runs of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a, 'b> {
    /// Ours.
    pub run: &'a RunDocuments,
    /// The baseline's.
    pub base: &'b BaselineRun,
    summary: &'a Summary,
    number: u64,
    baseline_first: bool,
    rates: (f64, f64),
}

impl Pair<'_, '_> {
    /// Tokens per second, ours first.
    pub fn rates(&self) -> (f64, f64) {
        self.rates
    }
}

/// Runs of one variant with the runs of ours that they were made beside, in order of the blocks. `recorded` are the runs
/// of all variants, which share the blocks.
pub(super) fn pairs<'a, 'b>(
    variant: &[&'b BaselineRun],
    ours: &[&'a RunDocuments],
    recorded: &[&BaselineRun],
) -> Vec<Pair<'a, 'b>> {
    let mut pairs: Vec<Pair<'a, 'b>> = Vec::new();
    for &run in ours {
        // Of several recordings beside one run, the last.
        let beside = variant.iter().rev().find_map(|&base| pair(run, base, recorded));
        pairs.extend(beside);
    }
    pairs.sort_by_key(|pair| pair.number);
    pairs
}

fn pair<'a, 'b>(run: &'a RunDocuments, base: &'b BaselineRun, recorded: &[&BaselineRun]) -> Option<Pair<'a, 'b>> {
    let block = block_of(base)?;
    if let Some(control) = &block.of_arms {
        return of_arms(run, base, control);
    }
    if block.candidate_run.as_deref() != Some(&run.plan.run_id) {
        return None;
    }
    let summary = run.finished()?;
    let beside = recorded.iter().filter(|other| {
        block_of(other).is_some_and(|other| other.candidate_run == block.candidate_run && other.number == block.number)
    });
    let taken = beside.filter_map(|other| other.elapsed_seconds).sum::<f64>() + summary.elapsed_seconds;
    let apart = ended(base)?.duration_since(ended_candidate(run)?).as_secs_f64().abs();
    let rates = (summary.tokens_per_second?, base.tokens_per_second?);
    let (number, baseline_first) = (block.number, block.baseline_first);
    (apart <= taken + SLACK_SECONDS).then_some(Pair { run, base, summary, number, baseline_first, rates })
}

/// A run of an arm beside the control's in the same block of the same session.
fn of_arms<'a, 'b>(run: &'a RunDocuments, base: &'b BaselineRun, control: &RunBlock) -> Option<Pair<'a, 'b>> {
    let own = run.environment.as_ref()?.block.as_ref()?;
    if (&own.session, own.number) != (&control.session, control.number) {
        return None;
    }
    let summary = run.finished()?;
    let rates = (summary.tokens_per_second?, base.tokens_per_second?);
    let baseline_first = control.place < own.place;
    Some(Pair { run, base, summary, number: own.number, baseline_first, rates })
}

fn block_of(base: &BaselineRun) -> Option<&BaselineBlock> {
    base.provenance.as_ref()?.block.as_ref()
}

fn ended(base: &BaselineRun) -> Option<jiff::Timestamp> {
    base.provenance.as_ref()?.finished_at.as_ref()?.parse().ok()
}

fn ended_candidate(run: &RunDocuments) -> Option<jiff::Timestamp> {
    run.environment.as_ref()?.finished_at.parse().ok()
}

/// The figures of a block from the seconds of each step on both sides and the candidate's evaluations.
pub(super) fn figures(pair: &Pair<'_, '_>, ours: Option<&[f64]>, theirs: &[f64], evals: &[EvalRow]) -> SpeedBlock {
    let (candidate_rate, baseline_rate) = pair.rates;
    let per_token = |times: &[f64], batch: u64| vec![steady_seconds(times).iter().map(|s| s / batch as f64).collect()];
    let estimate = ours.and_then(|ours| {
        let candidate = per_token(ours, pair.run.plan.total_batch_size);
        let baseline = per_token(theirs, pair.base.total_batch_size);
        statistics::bootstrap_speed_ratio(&candidate, &baseline, speed::DRAWS, CONFIDENCE, speed::SEED)
    });
    let target = pair.summary.final_val_bpb.zip(pair.base.final_val_bpb).map(|(a, b)| a.max(b));
    let mut candidate = BlockArm {
        tokens_per_second: candidate_rate,
        peak_rss_bytes: Some(pair.summary.peak_memory_bytes()),
        startup_seconds: pair.summary.startup_seconds,
        target_seconds_with_startup: None,
        target_seconds_in_steps: None,
    };
    if let (Some(times), Some(target)) = (ours, target) {
        let (whole, in_steps) = candidate_curves(pair.summary, times, evals);
        candidate.target_seconds_in_steps = time_to(target, &in_steps).map(rounded);
        candidate.target_seconds_with_startup = whole.and_then(|whole| time_to(target, &whole)).map(rounded);
    }
    SpeedBlock {
        number: pair.number,
        baseline_first: pair.baseline_first,
        candidate_run: pair.run.plan.run_id.clone(),
        candidate,
        baseline: baseline_arm(pair.base, baseline_rate, theirs, target),
        ratio: rounded(candidate_rate / baseline_rate),
        interval: estimate.map(|estimate| (rounded(estimate.low), rounded(estimate.high))),
        target_val_bpb: target,
    }
}

/// Seconds and bits per byte at each evaluation of ours: since the start, where it is known, and in steps.
///
/// Time outside of steps and evaluations, such as for checkpoints, has no place in the tables: all of it is put before
/// the first evaluation, to our disadvantage.
fn candidate_curves(summary: &Summary, times: &[f64], evals: &[EvalRow]) -> (Option<Vec<(f64, f64)>>, Vec<(f64, f64)>) {
    let measured: Vec<(&EvalRow, f64)> = evals.iter().filter_map(|row| Some((row, row.val_bpb?))).collect();
    let in_steps = measured.iter().map(|(row, bpb)| (after_first(times, row.step), *bpb)).collect();
    let all_evals: f64 = evals.iter().map(|row| row.eval_seconds).sum();
    let elsewhere = (summary.elapsed_seconds - times.iter().sum::<f64>() - all_evals).max(0.0);
    let whole = summary.startup_seconds.map(|startup| {
        let mut evaluating = 0.0;
        let mut curve = Vec::with_capacity(measured.len());
        for (row, bpb) in &measured {
            // The evaluation of the untrained model comes before the first step.
            evaluating += if row.step > 0 { row.eval_seconds } else { 0.0 };
            curve.push((startup + elsewhere + after_first(times, row.step) + evaluating, *bpb));
        }
        curve
    });
    (whole, in_steps)
}

fn baseline_arm(base: &BaselineRun, rate: f64, times: &[f64], target: Option<f64>) -> BlockArm {
    let in_steps: Vec<(f64, f64)> = base.evals.iter().map(|(step, bpb)| (after_first(times, *step), *bpb)).collect();
    let printed = base.measured.as_ref().map(|measured| &measured.eval_printed_seconds);
    let whole = printed.filter(|printed| printed.len() == base.evals.len()).map(|printed| {
        printed.iter().copied().zip(base.evals.iter().map(|(_, bpb)| *bpb)).collect::<Vec<(f64, f64)>>()
    });
    BlockArm {
        tokens_per_second: rate,
        peak_rss_bytes: base.peak_rss_bytes,
        startup_seconds: base.measured.as_ref().and_then(|measured| measured.startup_seconds),
        target_seconds_with_startup: whole.and_then(|whole| time_to(target?, &whole)).map(rounded),
        target_seconds_in_steps: target.and_then(|target| time_to(target, &in_steps)).map(rounded),
    }
}

/// Seconds of the first `steps` steps together, the very first left out.
fn after_first(times: &[f64], steps: u64) -> f64 {
    let end = (steps as usize).min(times.len());
    // The sum of no values is -0.0, which would show in documents.
    times.get(1..end).unwrap_or_default().iter().sum::<f64>() + 0.0
}

/// When a falling curve of seconds and bits per byte first reaches a target, on the straight line between evaluations.
fn time_to(target: f64, curve: &[(f64, f64)]) -> Option<f64> {
    let place = curve.iter().position(|(_, bpb)| *bpb <= target)?;
    let (seconds, bpb) = *curve.get(place)?;
    let Some((earlier, higher)) = place.checked_sub(1).and_then(|before| curve.get(before)) else {
        return Some(seconds);
    };
    Some(earlier + (seconds - earlier) * (higher - target) / (higher - bpb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_reached_between_evaluations() {
        let curve = [(0.0, 3.0), (10.0, 2.0), (20.0, 1.0), (30.0, 1.5)];
        for (target, seconds) in
            [(3.5, Some(0.0)), (2.5, Some(5.0)), (2.0, Some(10.0)), (1.25, Some(17.5)), (0.9, None)]
        {
            assert_eq!(time_to(target, &curve), seconds, "{target}");
        }
        assert_eq!(time_to(1.0, &[]), None);
    }

    #[test]
    fn short_runs_count_all_steps_but_the_first() {
        let steady = |count: usize| steady_seconds(&(0..count).map(|i| i as f64).collect::<Vec<_>>()).to_vec();
        assert_eq!(steady(0), Vec::<f64>::new());
        assert_eq!(steady(1), [0.0]);
        assert_eq!(steady(3), [1.0, 2.0]);
        assert_eq!(steady(11).len(), 10);
        assert_eq!(steady(13), [11.0, 12.0]);
        let times = [100.0, 1.0, 2.0];
        assert_eq!([0, 1, 2, 3, 9].map(|steps| after_first(&times, steps)), [0.0, 0.0, 1.0, 3.0, 3.0]);
    }
}
