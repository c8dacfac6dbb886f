//! A cell of the experiment's own in the baseline's place.

use serde_json::json;

use super::fabricate::{Project, Wanted};
use super::tests::close;
use super::*;
use nanochat_artifacts::RunStatus;
use nanochat_plan::Precision;

/// Four seeds in f32, the control, and the same in bf16, each worse by its share and in 0.8 of the time.
fn project(name: &str, worse: [f64; 4]) -> Project {
    let mut project = Project::new(name);
    project.record.control = Some(BTreeMap::from([("hardware.dtype".to_string(), json!("f32"))]));
    for (seed, worse) in (42..).zip(worse) {
        let bpb = 1.0 + 0.01 * seed as f64;
        project.add(Wanted::seed(seed, bpb).dtype(Precision::F32));
        project.add(Wanted { seconds: 0.16, ..Wanted::seed(seed, bpb + worse).dtype(Precision::Bf16) });
    }
    project
}

#[test]
fn other_cells_are_held_against_the_control() {
    let worse = [0.0001, -0.0002, 0.0003, 0.0002];
    let mut project = project("control", worse);
    let card = project.scorecard();
    assert_eq!(card.cells.iter().map(|cell| cell.control).collect::<Vec<_>>(), [true, false]);
    let (control, other) = (&card.cells[0], &card.cells[1]);
    assert_eq!((control.quality.verdict(), control.speed.verdict()), (Verdict::Missing, Verdict::Missing));
    assert_eq!(control.quality.reason, "the control: the other cells are held against it");
    assert!(control.quality.candidate.figure.is_some() && control.speed_variants.is_empty());

    // Overall verdicts are the other cell's alone, and those of the pairs.
    assert_eq!((card.quality.verdict(), card.speed.verdict()), (Verdict::Pass, Verdict::Pass));
    assert_eq!((&card.quality.interval(), card.quality.baseline.runs), (&other.quality.interval(), 4));
    let pairs: Vec<(f64, f64)> = worse.iter().map(|worse| (*worse, 0.0)).collect();
    let expected = statistics::paired(&pairs, CONFIDENCE).expect("an estimate");
    let (low, high) = card.quality.interval().expect("an interval");
    close(low, expected.low, "low");
    close(high, expected.high, "high");
    assert!(card.quality.reason.contains("4 seeds against 4 control runs (paired by seed)"), "{}", card.quality.reason);
    assert!(card.speed.reason.contains("4 runs against 4 control runs"), "{}", card.speed.reason);
    assert!(!card.quality.reason.contains("recorded in"), "{}", card.quality.reason);

    // What the control's runs say decides as the same runs do when they are recorded as a baseline.
    project.record.control = None;
    let recorded = (42..46).map(|seed| project.baseline_run(seed, 1.0 + 0.01 * seed as f64, 0.2)).collect();
    project.baseline(recorded);
    let against_recording = project.scorecard();
    assert_eq!(against_recording.cells[1].quality.interval(), other.quality.interval());
    assert_eq!(against_recording.cells[1].speed.ratio(), other.speed.ratio());
    assert_eq!(against_recording.cells[1].speed.interval(), other.speed.interval());
}

#[test]
fn a_cell_worse_than_the_control_fails() {
    let card = project("worse-than-control", [0.02, 0.021, 0.019, 0.02]).scorecard();
    assert_eq!((card.quality.verdict(), card.speed.verdict()), (Verdict::Fail, Verdict::Pass));
}

#[test]
fn a_control_without_runs_is_missing() {
    let mut absent = Project::new("no-control");
    absent.record.control = Some(BTreeMap::from([("hardware.dtype".to_string(), json!("f32"))]));
    absent.add(Wanted::seed(42, 1.0).dtype(Precision::Bf16));
    let card = absent.scorecard();
    assert_eq!((card.quality.verdict(), card.speed.verdict()), (Verdict::Missing, Verdict::Missing));
    let wanted = "no run of the control (hardware.dtype=f32) is there: `nanochat run` takes up what is missing";
    assert!(card.quality.reason.contains(wanted), "{}", card.quality.reason);

    absent.add(Wanted { status: RunStatus::Failed, ..Wanted::seed(42, 1.0).dtype(Precision::F32) });
    let card = absent.scorecard();
    assert_eq!(card.quality.verdict(), Verdict::Missing);
    let wanted = "no run of the control (hardware.dtype=f32) is finished";
    assert!(card.quality.reason.contains(wanted), "{}", card.quality.reason);
}
