//! Timing sessions through the program.

use serde_json::Value;

use super::program::Project;
use super::run_experiment::TINY;

/// Two cells that cost the same, one of them the control, and a claim on speed.
pub fn spec() -> String {
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
    let owners = std::fs::read_to_string(project.path().join("results/tiny/.timing/owners.jsonl")).expect("owners");
    assert_eq!(owners.lines().count(), 2, "{owners}");

    // One machine's session is taken over with the runs; a second one contradicts it.
    let (joined, other) = (Project::new(), Project::new());
    let from = project.path().display().to_string();
    joined.run(&["merge", &from]).exits(0);
    assert_eq!(document(&joined, "timing.json"), timing);
    other.run(&["merge", &from]).exits(0);
    let text = timing.to_string().replacen(timing["session"].as_str().expect("a name"), "2020-01-01T00:00:00Z", 1);
    other.write("results/tiny/timing.json", &text);
    let refused = joined.run(&["merge", &other.path().display().to_string()]).exits(2);
    assert!(refused.told().contains("each has a timing session of its own"), "{}", refused.stderr());
}

/// A session that is stopped goes on with the blocks that it has; one that fails leaves the verdict on quality standing.
#[cfg(unix)]
#[test]
fn a_session_goes_on_after_a_stop_and_its_failure_is_not_that_of_the_runs() {
    let project = Project::new();
    project.write("experiments/tiny.yaml", &spec());
    // Where the session's folder should be is a file.
    project.write("results/tiny/.timing", "");
    let failed = project.run(&["run", "experiments/tiny.yaml"]).exits(1);
    assert!(failed.stdout().contains("no timing session: "), "{}", failed.stdout());
    let card = document(&project, "scorecard.json");
    assert_eq!((&card["finished"], &card["speed"]["verdict"]), (&4.into(), &"missing".into()));
    std::fs::remove_file(project.path().join("results/tiny/.timing")).expect("removed");

    let mut running = project.command(&["run", "experiments/tiny.yaml"]).spawn().expect("started");
    let kept = project.path().join("results/tiny/.timing/blocks.json");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !kept.is_file() {
        assert!(std::time::Instant::now() < deadline, "no block was kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = project.run(&["run", "experiments/tiny.yaml"]).exits(1);
    assert!(
        second.told().contains("FAILED the timing session") && second.told().contains("process"),
        "{}",
        second.told()
    );
    let ended = std::process::Command::new("kill").args(["-TERM", &running.id().to_string()]).status();
    assert!(ended.expect("kill starts").success());
    assert_eq!(running.wait().expect("ended").code(), Some(130));
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(kept).expect("kept")).expect("JSON");
    project.run(&["run", "experiments/tiny.yaml"]).exits(0);
    let timing = document(&project, "timing.json");
    assert_eq!((&timing["session"], &timing["blocks"][0]), (&kept["session"], &kept["blocks"][0]));
    assert!(!project.files("results/tiny/.timing").iter().any(|file| file.ends_with("blocks.json")));
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
