//! Timing sessions through the program.

use serde_json::Value;

use super::program::Project;
use super::run_experiment::TINY;

/// Two cells that cost the same, one of them the control, and a claim on speed.
fn spec() -> String {
    let spec = TINY.replace("seed: 7\n", "seeds: [7, 8]\n").replace("ruleset: v1", "ruleset: v2");
    let spec = spec.replace("repeats: 1", "repeats: 0").replace("iterations: 12", "iterations: 60");
    let spec = spec.replace("metric: val_bpb, tolerance: { relative: 0.002 }", "claim: off");
    let spec = spec.replace("{ metric: tokens_per_second, min_ratio: 1.0 }", "{ claim: no_slower }");
    let spec =
        spec.replace("2378b2bcd }", "2378b2bcd, cell: { optimizer.matrix_lr: 0.02 } }").replace("cpu-smoke", "cpu");
    spec + "matrix: { axes: { optimizer.matrix_lr: [0.02, 0.03] } }\n"
}

fn document(project: &Project, name: &str) -> Value {
    let text = std::fs::read_to_string(project.path().join("results/tiny").join(name)).expect("read");
    serde_json::from_str(&text).expect("JSON")
}

/// Whatever else this machine does, the session is recorded, judged and recomputed.
#[test]
fn a_claim_on_speed_makes_a_session_of_its_own() {
    let project = Project::new();
    let spec = spec();
    assert!(spec.contains("cell: {") && spec.contains("claim: no_slower") && spec.contains("claim: off"), "{spec}");
    project.write("experiments/tiny.yaml", &spec);
    project.run(&["run", "experiments/tiny.yaml"]).exits(0);
    let timing = document(&project, "timing.json");
    let blocks = timing["blocks"].as_array().expect("blocks");
    assert!(blocks.len() >= 6 && blocks.len() <= 12, "{}", blocks.len());
    let order = |block: &Value| block["cells"][0]["cell"].as_u64();
    assert_eq!((order(&blocks[0]), order(&blocks[1])), (Some(0), Some(1)), "the order alternates");
    assert_eq!(blocks[0]["cells"][1]["step_seconds"].as_array().map(Vec::len), Some(40));
    let card = document(&project, "scorecard.json");
    let verdict = card["speed"]["verdict"].as_str().expect("a verdict");
    assert!(["pass", "fail", "inconclusive"].contains(&verdict), "{}", card["speed"]);
    let disturbed = card["speed"]["reason"].as_str().unwrap_or_default().contains("were disturbed");
    assert!(!disturbed || verdict == "inconclusive", "{}", card["speed"]);
    assert!(card["evidence"]["timing.json"].is_string());
    assert!(project.run(&["verify"]).exits(0).stdout().contains("all as recomputed"));
    let validated = project.run(&["validate", "results"]).exits(0).stdout();
    assert!(validated.contains("timing.json (timing)"), "{validated}");
}

/// The same code twenty times against itself, while another process keeps a core busy: what is disturbed is inconclusive, and at
/// most one session fails.
#[test]
#[ignore = "takes ten minutes: cargo test --release --test main timing -- --ignored --nocapture"]
fn an_arm_against_itself_under_load_hardly_ever_fails() {
    let project = Project::new();
    project.write("experiments/tiny.yaml", &spec());
    let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh starts");
    let mut verdicts = std::collections::BTreeMap::new();
    for _ in 0..20 {
        let _ = std::fs::remove_file(project.path().join("results/tiny/timing.json"));
        project.run(&["run", "experiments/tiny.yaml"]).exits(0);
        let verdict = document(&project, "scorecard.json")["speed"]["verdict"].as_str().unwrap_or_default().to_string();
        *verdicts.entry(verdict).or_insert(0) += 1;
    }
    busy.kill().expect("ended");
    busy.wait().expect("waited for");
    println!("{verdicts:?}");
    assert!(verdicts.get("fail").is_none_or(|fails| *fails <= 1), "{verdicts:?}");
}
