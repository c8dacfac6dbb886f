//! Timing sessions that are made up: which blocks count, and what the rest says.

use serde_json::json;

use super::fabricate::{Project, Wanted};
use super::timing::{disturbance, disturbed};
use nanochat_artifacts::{
    CellSeconds, Document, Environment, ForeignLoad, Judgement, Method, QualityClaim, RunDocuments, SpeedClaim,
    TimedCell, TimingBlock, TimingRecord, Verdict, read_document, read_experiment, write_document,
};

const QUIET: Option<ForeignLoad> = Some(ForeignLoad { stolen: 0.0, others: 0.01 });

/// An experiment of two cells that claims speed, with a session in which the second takes `ratio` times the first's time.
fn session(claim: SpeedClaim, ratios: &[f64], change: impl FnOnce(&mut TimingRecord)) -> (Project, TimingRecord) {
    let mut project = Project::new("timed");
    project.record.ruleset = "v2".into();
    project.record.quality.claim = Some(QualityClaim::Off);
    project.record.speed.claim = Some(claim);
    project.record.control = Some([("model.depth".to_string(), json!(4))].into());
    for depth in [4, 5] {
        (42..44).for_each(|seed| drop(project.add(Wanted::seed(seed, 1.0).depth(depth))));
    }
    project.write_record();
    let documents = read_experiment(&project.experiment()).expect("read");
    let of_depth =
        |depth: u64| documents.runs.iter().find(|run| run.plan.axes["model.depth"] == json!(depth)).expect("a run");
    let cell = |run: &RunDocuments| TimedCell {
        axes: run.plan.axes.clone(),
        run: run.plan.run_id.clone(),
        plan_hash: run.plan.plan_hash.clone(),
        dtype: run.plan.dtype,
        tokens_per_step: run.plan.total_batch_size,
    };
    let environment: Environment = read_document(&of_depth(4).folder.environment()).expect("an environment");
    let seconds = |cell: usize, seconds: f64| CellSeconds { cell, step_seconds: vec![seconds; 40] };
    let block = |(number, ratio): (u64, &f64)| TimingBlock {
        number,
        attempt: 1,
        calibration: (100.0, 100.0),
        load: QUIET,
        cells: match number.is_multiple_of(2) {
            true => vec![seconds(1, 0.2 * ratio), seconds(0, 0.2)],
            false => vec![seconds(0, 0.2), seconds(1, 0.2 * ratio)],
        },
    };
    let mut record = TimingRecord {
        schema: TimingRecord::SCHEMA.to_string(),
        session: "2026-07-10T12:00:00Z".into(),
        boot: Some("0123456789abcdef".into()),
        environment,
        warmup_steps: 5,
        wanted_blocks: ratios.len() as u64,
        cells: vec![cell(of_depth(4)), cell(of_depth(5))],
        blocks: (1..).zip(ratios).map(block).collect(),
    };
    change(&mut record);
    write_document(&project.experiment().timing(), &record).expect("written");
    (project, record)
}

fn speed(project: &Project) -> Judgement {
    let card = project.scorecard();
    card.cells.iter().find(|cell| !cell.control).expect("the candidate").speed.clone()
}

const EVEN: [f64; 6] = [1.001, 0.999, 1.0, 1.002, 0.998, 1.0];
const SLOWER: [f64; 6] = [1.051, 1.049, 1.05, 1.052, 1.048, 1.05];

#[test]
fn blocks_of_a_quiet_session_decide_by_the_claim() {
    let cases = [
        (SpeedClaim::NoSlower, EVEN, Verdict::Pass),
        (SpeedClaim::NoSlower, SLOWER, Verdict::Fail),
        (SpeedClaim::Faster, EVEN, Verdict::Fail),
        (SpeedClaim::Faster, [0.9, 0.91, 0.9, 0.905, 0.9, 0.91], Verdict::Pass),
        (SpeedClaim::Off, SLOWER, Verdict::Off),
    ];
    for (claim, ratios, verdict) in cases {
        let (project, _) = session(claim, &ratios, |_| {});
        let found = speed(&project);
        assert_eq!(found.verdict(), verdict, "{claim:?}: {}", found.reason);
        if verdict != Verdict::Off {
            assert_eq!((found.method(), found.candidate.runs), (Method::BlockLogRatio, 6));
            // By hand: the geometric mean of the inverse ratios.
            let by_hand = (ratios.iter().map(|ratio| -f64::ln(*ratio)).sum::<f64>() / 6.0).exp();
            assert!((found.ratio().expect("a ratio") - by_hand).abs() < 1e-9, "{:?}", found.ratio());
        }
    }
}

/// Quality runs never decide: these took the same time, the session says otherwise.
#[test]
fn quality_runs_are_no_evidence_of_speed() {
    let (project, _) = session(SpeedClaim::NoSlower, &SLOWER, |_| {});
    assert_eq!(speed(&project).verdict(), Verdict::Fail);
    std::fs::remove_file(project.experiment().timing()).expect("removed");
    let without = speed(&project);
    assert_eq!(without.verdict(), Verdict::Missing, "{}", without.reason);
    assert!(without.reason.contains("`nanochat run` makes one"), "{}", without.reason);
}

#[test]
fn a_disturbed_block_counts_only_when_it_was_taken_again() {
    let loaded = Some(ForeignLoad { stolen: 0.02, others: 0.04 });
    let (project, record) = session(SpeedClaim::NoSlower, &EVEN, |record| record.blocks[2].load = loaded);
    assert_eq!(disturbed(&record).len(), 1);
    let found = speed(&project);
    assert_eq!(found.verdict(), Verdict::Inconclusive, "{}", found.reason);
    let wanted = "1 of 6 blocks of the timing session were disturbed: in block 3, taken 1 time, other processes took 4.0% of the machine and its host 2.0%";
    assert!(found.reason.contains(wanted), "{}", found.reason);

    let again = |record: &mut TimingRecord| {
        let block = TimingBlock { attempt: 2, ..record.blocks[2].clone() };
        record.blocks[2].load = loaded;
        record.blocks.push(block);
    };
    let (project, record) = session(SpeedClaim::NoSlower, &EVEN, again);
    assert!(disturbed(&record).is_empty());
    assert_eq!(speed(&project).verdict(), Verdict::Pass);

    // A machine that was slow for a while, without anybody's load to be seen.
    let (project, record) = session(SpeedClaim::NoSlower, &EVEN, |record| record.blocks[4].calibration = (100.0, 94.0));
    assert!(disturbance(&record, &record.blocks[4]).is_some_and(|why| why.contains("6.0% slower")));
    assert_eq!(speed(&project).verdict(), Verdict::Inconclusive);
}

#[test]
fn a_session_of_other_plans_or_of_a_wrong_machine_decides_nothing() {
    let (project, _) = session(SpeedClaim::NoSlower, &EVEN, |record| record.cells[1].plan_hash = "0".repeat(64));
    let found = speed(&project);
    assert_eq!(found.verdict(), Verdict::Missing);
    assert!(found.reason.contains("has other plans than these runs"), "{}", found.reason);
    let wrong = |record: &mut TimingRecord| record.environment.hardware_matches_profile = false;
    let (project, _) = session(SpeedClaim::NoSlower, &EVEN, wrong);
    assert_eq!(speed(&project).verdict(), Verdict::NotComparable);
}

/// `verify` sees a session that was changed afterwards.
#[test]
fn a_changed_session_is_found_out() {
    let (project, mut record) = session(SpeedClaim::NoSlower, &SLOWER, |_| {});
    super::update(&project.experiment(), project.path()).expect("a scorecard");
    let verified = || crate::verify::verify(&project.root(), None).expect("verified").findings;
    assert!(verified().iter().all(|one| !one.file.contains("scorecard")), "{:?}", verified());
    for block in &mut record.blocks {
        block.cells.iter_mut().for_each(|cell| cell.step_seconds = vec![0.2; 40]);
    }
    write_document(&project.experiment().timing(), &record).expect("written");
    assert!(verified().iter().any(|one| one.file.ends_with("scorecard.json")), "{:?}", verified());
}
