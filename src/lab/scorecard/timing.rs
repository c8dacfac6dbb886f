//! Speed from a timing session (rules v2): which blocks count, and what they say of each cell against the control.
//!
//! A block is disturbed when other processes and the host's other guests took more than [`FOREIGN_LOAD`] of the machine, or
//! when a fixed piece of work beside it went more than [`SLOWDOWN`] slower than at the session's best. The bounds are this
//! program's own: a record can't widen them.

use super::speed::Judged;
use super::statistics::{self, rounded};
use super::{cells, claims, quality};
use nanochat_artifacts::{
    BlockArm, CellSeconds, Finding, Judgement, Outcome, RunDocuments, SpeedBlock, SpeedClaim, SpeedComparison,
    SpeedRule, TimedCell, TimingBlock, TimingRecord,
};

/// Share of the machine's processor time that others may take in a block.
pub const FOREIGN_LOAD: f64 = 0.05;
/// How much slower than at the session's best a fixed piece of work may be, as a share.
pub const SLOWDOWN: f64 = 0.05;

/// What disturbed a block; none where nothing did.
pub fn disturbance(record: &TimingRecord, block: &TimingBlock) -> Option<String> {
    if let Some(load) = block.load.filter(|load| load.stolen + load.others > FOREIGN_LOAD) {
        let percent = |share: f64| 100.0 * share;
        return Some(format!(
            "other processes took {:.1}% of the machine and its host {:.1}%",
            percent(load.others),
            percent(load.stolen)
        ));
    }
    let slowest = |block: &TimingBlock| block.calibration.0.min(block.calibration.1);
    let best = record.blocks.iter().map(|block| block.calibration.0.max(block.calibration.1)).fold(0.0, f64::max);
    let lost = 1.0 - slowest(block) / best;
    (lost.is_nan() || lost > SLOWDOWN)
        .then(|| format!("a fixed piece of work went {:.1}% slower than at the session's best", 100.0 * lost))
}

/// Blocks of which no attempt was left undisturbed, with the reason of the last.
pub fn disturbed(record: &TimingRecord) -> Vec<(u64, String)> {
    let last = record.last_attempts().into_iter();
    last.filter_map(|block| Some((block.number, disturbance(record, block)?))).collect()
}

/// Judges a cell by the session of its experiment; `control` are the runs that it is compared with.
pub(super) fn judge(
    record: &TimingRecord,
    rule: &SpeedRule,
    claim: SpeedClaim,
    runs: &[&RunDocuments],
    control: &[&RunDocuments],
) -> Judged {
    let judgement = Judgement::missing(rule.metric.word(), "");
    let undecided = |outcome, reason: String| (Judgement { outcome, reason, ..judgement.clone() }, Vec::new());
    let session = &record.session;
    let (Some(ours), Some(theirs)) = (place(record, runs), place(record, control)) else {
        let reason =
            format!("the timing session of {session} has other plans than these runs; `nanochat run` makes it again");
        return undecided(Outcome::Missing(None), reason);
    };
    if !record.environment.hardware_matches_profile {
        let reason = "the machine of the timing session isn't what the profile says".to_string();
        return undecided(Outcome::NotComparable(None), reason);
    }
    let blocks: Vec<SpeedBlock> = record
        .last_attempts()
        .into_iter()
        .filter(|block| disturbance(record, block).is_none())
        .filter_map(|block| speed_block(record, block, ours, theirs))
        .collect();
    let column = |get: fn(&SpeedBlock) -> f64| blocks.iter().map(get).collect::<Vec<_>>();
    let (fast, slow) = (column(|block| block.candidate.tokens_per_second), column(|b| b.baseline.tokens_per_second));
    let judgement = Judgement {
        candidate: super::speed::arm_figure(&fast, fast.len()),
        baseline: super::speed::arm_figure(&slow, slow.len()),
        ..judgement
    };
    let (Some(one), Some(other)) = (record.cells.get(ours), record.cells.get(theirs)) else {
        return (judgement, Vec::new());
    };
    let mut comparison = SpeedComparison {
        variant: control.first().map(|run| cells::label(run)).unwrap_or_default(),
        dtype: other.dtype,
        fastest: true,
        same_dtype: one.dtype == other.dtype,
        judgement,
        baseline_peak_rss_bytes: None,
        blocks,
    };
    let lacking = record.wanted_blocks.saturating_sub(comparison.blocks.len() as u64);
    comparison.judgement = match lacking {
        0 => claims::by_blocks(rule, claim, &comparison),
        _ => inconclusive(record, &comparison, lacking),
    };
    (comparison.judgement.clone(), vec![comparison])
}

/// Where a session has the plan of these runs.
fn place(record: &TimingRecord, runs: &[&RunDocuments]) -> Option<usize> {
    let is_here =
        |cell: &TimedCell| runs.iter().any(|run| run.plan.plan_hash == cell.plan_hash && run.plan.axes == cell.axes);
    record.cells.iter().position(is_here)
}

fn speed_block(record: &TimingRecord, block: &TimingBlock, ours: usize, theirs: usize) -> Option<SpeedBlock> {
    let rate = |cell: usize| {
        let timed = block.cells.iter().find(|timed| timed.cell == cell)?;
        let seconds = statistics::median(&timed.step_seconds).filter(|seconds| *seconds > 0.0)?;
        Some(record.cells.get(cell)?.tokens_per_step as f64 / seconds)
    };
    let arm = |tokens_per_second: f64| BlockArm {
        tokens_per_second: rounded(tokens_per_second),
        peak_rss_bytes: None,
        startup_seconds: None,
        target_seconds_with_startup: None,
        target_seconds_in_steps: None,
    };
    let order = |cell: usize| block.cells.iter().position(|timed: &CellSeconds| timed.cell == cell);
    let (candidate, baseline) = (rate(ours)?, rate(theirs)?);
    Some(SpeedBlock {
        number: block.number,
        baseline_first: order(theirs) < order(ours),
        candidate_run: record.cells.get(ours)?.run.clone(),
        candidate: arm(candidate),
        baseline: arm(baseline),
        ratio: rounded(candidate / baseline),
        interval: None,
        target_val_bpb: None,
    })
}

fn inconclusive(record: &TimingRecord, comparison: &SpeedComparison, lacking: u64) -> Judgement {
    let why = disturbed(record).into_iter().next().map_or_else(
        || "the session was stopped".to_string(),
        |(number, reason)| {
            let attempts = record.blocks.iter().filter(|block| block.number == number).count();
            format!("in block {number}, taken {}, {reason}", quality::plural(attempts, "time"))
        },
    );
    let ratios: Vec<f64> = comparison.blocks.iter().map(|block| block.ratio.ln()).collect();
    let ratio = statistics::mean(&ratios).map(|mean| rounded(mean.exp()));
    let reason = format!(
        "{lacking} of {} of the timing session were disturbed: {why}; run it again on a quieter machine",
        quality::plural(record.wanted_blocks as usize, "block")
    );
    let finding = Finding { ratio, ..Finding::default() };
    Judgement { outcome: Outcome::Inconclusive { finding, more_runs: None }, reason, ..comparison.judgement.clone() }
}
