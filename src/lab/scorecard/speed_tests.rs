//! Speed against the baseline's variants, in blocks and apart, and of a candidate in several precisions.

use super::fabricate::{MACHINE, Project, Wanted};
use super::tests::check;
use nanochat_artifacts::{BaselineRun, CellSummary, RunStatus, Verdict};
use nanochat_plan::Precision::{self, Bf16, F32};

/// Blocks of one cell: our seconds a step, and the baseline's in each of its variants.
fn in_blocks(ours: &[f64], variants: &[(Precision, &[f64])]) -> (Project, Vec<BaselineRun>) {
    let mut project = Project::new("blocks");
    let mut recorded = Vec::new();
    for (place, seconds) in ours.iter().enumerate() {
        let run = project.add(Wanted { seconds: *seconds, ..Wanted::seed(42, 1.0).repeat(place as u64) });
        for (dtype, theirs) in variants {
            let base = project.baseline_run(42, 1.0, theirs[place]);
            recorded.push(project.beside(base, *dtype, place as u64 + 1, &run.name()));
        }
    }
    project.baseline(recorded.clone());
    (project, recorded)
}

fn only_cell(project: &mut Project) -> CellSummary {
    project.scorecard().cells.remove(0)
}

#[test]
fn drift_over_a_session_cancels_in_blocks() {
    let drift = [1.0, 1.3, 0.8, 1.1];
    let scaled = |seconds: f64| drift.map(|factor| seconds * factor);
    let (mut project, mut recorded) = in_blocks(&scaled(0.2), &[(F32, &scaled(0.22))]);
    let cell = only_cell(&mut project);
    check(
        &cell.speed,
        Verdict::Pass,
        "block_log_ratio",
        &["over 4 blocks", "t on the logarithms of the blocks' ratios"],
    );
    let (low, high) = cell.speed.interval().expect("an interval");
    assert!(low > 1.09 && high < 1.11, "{low} {high}");
    // The same runs apart: the drift hides the difference.
    recorded.iter_mut().for_each(|run| run.provenance.as_mut().expect("provenance").block = None);
    project.baseline(recorded);
    check(
        &only_cell(&mut project).speed,
        Verdict::Inconclusive,
        "welch_log_ratio",
        &["4 runs against 4 baseline runs"],
    );
}

#[test]
fn the_fastest_variant_decides() {
    let (mut project, mut recorded) =
        in_blocks(&[0.2, 0.2, 0.2], &[(F32, &[0.3, 0.3, 0.3]), (Bf16, &[0.18, 0.18, 0.18])]);
    let cell = only_cell(&mut project);
    check(
        &cell.speed,
        Verdict::Fail,
        "block_log_ratio",
        &[
            "`bf16-threads2` is the fastest of 2 variants",
            "in the candidate's own f32 (`f32-threads2`) the ratio is 1.49",
        ],
    );
    let shown: Vec<_> = cell
        .speed_variants
        .iter()
        .map(|one| (one.variant.as_str(), one.fastest, one.same_dtype, one.judgement.verdict(), one.blocks.len()))
        .collect();
    assert_eq!(
        shown,
        [("bf16-threads2", true, false, Verdict::Fail, 3), ("f32-threads2", false, true, Verdict::Pass, 3)]
    );
    assert_eq!(cell.speed_variants[0].baseline_peak_rss_bytes, Some(1_500_000_003));
    recorded.iter_mut().filter(|run| run.dtype == Bf16).for_each(|run| run.status = RunStatus::Failed);
    project.baseline(recorded);
    let cell = only_cell(&mut project);
    check(&cell.speed, Verdict::Pass, "block_log_ratio", &["`bf16-threads2` has no finished run"]);
    assert_eq!(cell.speed_variants.len(), 1);
}

#[test]
fn two_blocks_rest_on_their_steps_and_say_so() {
    let (mut project, _) = in_blocks(&[0.2, 0.21], &[(F32, &[0.3, 0.31])]);
    let cell = only_cell(&mut project);
    check(&cell.speed, Verdict::Pass, "bootstrap", &["over 2 blocks", "blind to noise between runs"]);
    let block = &cell.speed_variants[0].blocks[1];
    assert_eq!((block.number, block.baseline_first), (2, false));
    let (low, high) = block.interval.expect("an interval");
    assert!(low <= block.ratio && block.ratio <= high, "{block:?}");
    assert_eq!(block.target_val_bpb, Some(1.0));
    // 59 steps of some 0.21 s after the first; and the first evaluation comes before it.
    let in_steps = block.candidate.target_seconds_in_steps.expect("reached");
    assert!((12.3..12.7).contains(&in_steps), "{in_steps}");
    let whole = block.candidate.target_seconds_with_startup.expect("reached");
    assert!(whole > in_steps + 1.5 + 6.0 * 0.5, "{whole}");
    assert!(block.baseline.target_seconds_with_startup > block.baseline.target_seconds_in_steps);
}

#[test]
fn a_run_made_again_later_is_in_no_block() {
    let (mut project, recorded) = in_blocks(&[0.2, 0.2, 0.2], &[(F32, &[0.3, 0.3, 0.3])]);
    let mut apart = recorded.clone();
    apart.iter_mut().for_each(|run| {
        run.provenance.as_mut().expect("provenance").finished_at = Some("2026-07-09T11:58:00Z".into());
    });
    project.baseline(apart);
    let cell = only_cell(&mut project);
    assert_eq!(cell.speed_variants[0].blocks, []);
    check(&cell.speed, Verdict::Pass, "welch_log_ratio", &["3 runs against 3 baseline runs"]);
    let mut two = recorded;
    two[2].provenance.as_mut().expect("provenance").finished_at = None;
    project.baseline(two);
    assert_eq!(only_cell(&mut project).speed_variants[0].blocks.len(), 2);
}

/// One matrix over precisions, blocks with both variants of the baseline beside each run.
fn precisions(f32_seconds: f64, bf16_seconds: f64) -> Project {
    let mut project = Project::new("precisions");
    let mut recorded = Vec::new();
    let mut number = 0;
    for (dtype, seconds) in [(F32, f32_seconds), (Bf16, bf16_seconds)] {
        for seed in 42..45 {
            number += 1;
            let run = project.add(Wanted { seconds, ..Wanted::seed(seed, 1.0 + 1e-5 * seed as f64) }.dtype(dtype));
            for (theirs, seconds) in [(F32, 0.3), (Bf16, 0.2)] {
                let base = project.baseline_run(42, if theirs == F32 { 1.0 } else { 1.1 }, seconds);
                recorded.push(project.beside(base, theirs, number, &run.name()));
            }
        }
    }
    project.baseline(recorded);
    project
}

#[test]
fn a_candidate_in_two_precisions_is_as_fast_as_its_faster_one() {
    let scorecard = precisions(0.25, 0.15).scorecard();
    let verdicts: Vec<_> = scorecard.cells.iter().map(|cell| cell.speed.verdict()).collect();
    assert_eq!(verdicts, [Verdict::Fail, Verdict::Pass]);
    check(
        &scorecard.speed,
        Verdict::Pass,
        "block_log_ratio",
        &["of 2 cells that differ in hardware alone the fastest, hardware.dtype=bf16: the ratio 1.3"],
    );
    let slow = precisions(0.25, 0.22).scorecard();
    check(&slow.speed, Verdict::Fail, "block_log_ratio", &["hardware.dtype=bf16"]);
    // Quality is held against the baseline in the same precision.
    let base: Vec<_> = scorecard.cells.iter().map(|cell| cell.quality.baseline.figure).collect();
    assert_eq!(base, [Some(1.0), Some(1.1)]);
}

#[test]
fn cells_that_are_not_judged_speak_for_themselves() {
    let mut project = precisions(0.25, 0.15);
    project.add(Wanted { status: RunStatus::Failed, ..Wanted::seed(49, 1.0) }.dtype(F32));
    let scorecard = project.scorecard();
    check(&scorecard.speed, Verdict::Missing, "none", &["hardware.dtype=f32", "planned runs are finished"]);
}

#[test]
fn another_precision_of_the_baseline_is_named() {
    let mut project = Project::new("other");
    let run = project.add(Wanted::seed(42, 1.0));
    let base = project.baseline_run(42, 1.0, 0.3);
    let base = project.beside(base, Bf16, 1, &run.name());
    project.baseline(vec![base.clone()]);
    let cell = only_cell(&mut project);
    check(&cell.quality, Verdict::Pass, "point", &["the baseline was recorded in bf16, not in f32"]);
    assert!(!cell.speed_variants[0].same_dtype);
    let mut moved = base;
    moved.machine_id = Some(format!("{MACHINE}0"));
    project.baseline(vec![moved]);
    let cell = only_cell(&mut project);
    check(&cell.speed, Verdict::NotComparable, "none", &["context, not evidence"]);
    assert_eq!(cell.speed_variants, []);
}
