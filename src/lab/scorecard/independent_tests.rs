//! Whole scorecards against an independent script's, and a scorecard over many runs.

use std::path::Path;

use serde_json::Value;

use super::build;
use super::fabricate::{Project, Wanted};
use super::tests::close;

/// Copies the project of the fixture into the tree; by hand, after a change of the documents:
/// `cargo test --release --lib -- --ignored writes_the_fixture`, then `fixtures/scorecard/recompute.py`.
#[test]
#[ignore = "writes into the source tree"]
fn writes_the_fixture() {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("listed") {
            let path = entry.expect("an entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                copy(&path, &target);
            } else {
                std::fs::copy(&path, target).expect("copied");
            }
        }
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scorecard/project");
    let _ = std::fs::remove_dir_all(&target);
    let project = fixture();
    project.write_record();
    copy(project.path(), &target);
}

/// Five cells: three seeds on the baseline's machine, two seeds, one without a matching baseline, three seeds in blocks with
/// two variants of the baseline, and one run in one block.
fn fixture() -> Project {
    let mut project = Project::new("judged");
    project.steps = 40;
    for (seed, bpb, seconds) in [(42, 1.0011, 0.2), (43, 0.9992, 0.201), (44, 1.0003, 0.199)] {
        project.add(Wanted { seconds, ..Wanted::seed(seed, bpb).depth(4) });
    }
    project.add(Wanted::seed(42, 1.0011).depth(4).repeat(1));
    project.add(Wanted { seconds: 0.25, ..Wanted::seed(42, 0.9512).depth(5) });
    project.add(Wanted { seconds: 0.251, ..Wanted::seed(43, 0.9507).depth(5) });
    project.add(Wanted::seed(42, 0.93).depth(6));
    let mut runs: Vec<_> = [(142, 1.0004, 0.21), (143, 0.9999, 0.212), (144, 1.0008, 0.211), (145, 1.0001, 0.2105)]
        .map(|(seed, bpb, seconds)| project.baseline_run(seed, bpb, seconds))
        .into();
    let mut deeper = project.baseline_run(42, 0.9499, 0.2495);
    deeper.model.n_layer = 5;
    runs.push(deeper);
    use nanochat_plan::Precision::{Bf16, F32};
    let blocks = [(7, 42, 0.15, 0.21, 0.152), (7, 43, 0.151, 0.214, 0.1525), (7, 44, 0.1502, 0.212, 0.151)];
    for (number, (depth, seed, ours, f32, bf16)) in (1..).zip(blocks.into_iter().chain([(8, 42, 0.3, 0.29, 0.31)])) {
        let bpb = 0.91 + 1e-4 * (seed as f64 - 43.0) * (seed as f64 - 42.5);
        let run = project.add(Wanted { seconds: ours, ..Wanted::seed(seed, bpb).depth(depth) });
        for (dtype, seconds) in [(F32, f32), (Bf16, bf16)] {
            let mut base = project.baseline_run(
                seed,
                bpb * 1.0002 + 1e-5 * (seed as f64 * 7.0).sin() + if dtype == F32 { 0.0 } else { -3e-4 },
                seconds,
            );
            base.model.n_layer = depth;
            runs.push(project.beside(base, dtype, number, &run.name()));
        }
    }
    project.baseline(runs);
    project
}

#[test]
fn scorecards_agree_with_an_independent_script() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scorecard");
    let experiment =
        nanochat_artifacts::ResultsRoot::new(folder.join("project")).experiment("judged").expect("a fine name");
    let scorecard = build(&experiment, &folder.join("project")).expect("a scorecard");
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("read");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let ours = serde_json::to_value(&scorecard).expect("JSON");
    let mut compared = 0;
    agree("", &ours, &expected, &mut compared);
    assert!(compared > 100, "{compared} figures were compared");
}

/// Holds every value of `expected` against ours, numbers to 1e-9; sentences, which the script leaves out, aren't compared.
fn agree(key: &str, ours: &Value, expected: &Value, compared: &mut usize) {
    match (ours, expected) {
        (Value::Object(_), Value::Object(entries)) => {
            for (name, value) in entries {
                agree(&format!("{key}.{name}"), &ours[name], value, compared);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{key}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| agree(&format!("{key}.{i}"), a, b, compared));
        }
        (Value::Number(a), Value::Number(b)) => {
            *compared += 1;
            close(a.as_f64().expect("a number"), b.as_f64().expect("a number"), key);
        }
        (a, b) => {
            *compared += 1;
            assert_eq!(a, b, "{key}");
        }
    }
}

/// Prints time and peak memory: `cargo test --release --lib -- --ignored --nocapture two_thousand_runs`.
#[test]
#[ignore = "writes 2,000 runs of 1,000 steps"]
fn two_thousand_runs() {
    let mut project = Project::new("many");
    project.steps = 1000;
    for depth in 1..=20 {
        (0..100).for_each(|seed| drop(project.add(Wanted::seed(seed, 1.0 + 1e-5 * seed as f64).depth(depth))));
    }
    let recorded = (1..=20).map(|depth| {
        let base = project.baseline_run(42, 1.0, 0.3);
        let model = nanochat_plan::ModelShape { n_layer: depth, ..base.model.clone() };
        nanochat_artifacts::BaselineRun { model, ..base }
    });
    project.baseline(recorded.collect());
    project.write_record();
    let start = std::time::Instant::now();
    let scorecard = build(&project.experiment(), project.path()).expect("a scorecard");
    println!("{:.2} s for {} runs", start.elapsed().as_secs_f64(), scorecard.finished);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
}
