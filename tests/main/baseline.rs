//! The other arm through the program, against a stand-in: a git repository whose training script prints a recorded log,
//! and a shell script in the place of Python.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::program::{Project, one_line};

const SPEC: &str = "\
schema: nanochat.experiment/v1
name: tiny
baseline: { commit: \"COMMIT\", results: results/baselines/DIGITS/tiny.json }
seed: 42
hardware: cpu-smoke
data: { source: synthetic, seed: 3, bytes: 400000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 4 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 2, tokens: 512 }
reproducibility: { repeats: 1, require: bitwise }
";

/// Answers our scripts as a Python with all packages would, and hands the training script to the shell.
const PYTHON: &str = r#"#!/bin/sh
test "$1" = -I && shift 6
case "$2" in
scripts.base_train) shift; exec sh scripts/base_train.py "$@" ;;
probe) echo 'nanochat-answer {"python":"3.11.7","packages":{"torch":"2.9.1"},"missing":{MISSING},"cuda":null,"devices":["cpu"],"accelerators":[]}' ;;
first-batches) echo 'nanochat-answer {"train":"1","validation":"2","vocab_size":300,"token_bytes":"3"}' ;;
*) exit 9 ;;
esac
"#;

fn log() -> String {
    let mut log = "COMPUTE_DTYPE: torch.float32 (set via NANOCHAT_DTYPE=float32)\n".to_string();
    for step in 0..=4 {
        if step % 2 == 0 {
            log += &format!("Step {step:05} | Validation bpb: {:.6}\n", 3.5 - f64::from(step) * 0.1);
        }
        if step < 4 {
            log += &format!(
                "step {step:05}/00004 (0.00%) | loss: 5.{step}00000 | lrm: 1.00 | dt: 40.00ms | tok/sec: 6,400\n"
            );
        }
    }
    log + "Minimum validation bpb: 3.100000\n"
}

struct StandIn {
    project: Project,
    commit: String,
}

fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(script).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

impl StandIn {
    fn new(body: &str, missing: &str) -> Self {
        let project = Project::new();
        project.write("checkout/scripts/base_train.py", body);
        project.write("checkout/log.txt", &log());
        project.write("python", &PYTHON.replace("MISSING", missing));
        let identity = "-c user.name=test -c user.email=test@localhost -c commit.gpgsign=false";
        sh(project.path(), "chmod +x python");
        let checkout = project.path().join("checkout");
        let commit = sh(
            &checkout,
            &format!("git init -q . && git add -A && git {identity} commit -qm log && git rev-parse HEAD"),
        );
        let spec = SPEC.replace("COMMIT", &commit).replace("DIGITS", &commit[..12]);
        project.write("tiny.yaml", &spec);
        Self { project, commit }
    }

    fn recording(&self) -> Value {
        let path = self.project.path().join(format!("results/baselines/{}/tiny.json", &self.commit[..12]));
        let text = std::fs::read_to_string(path).expect("a recording");
        serde_json::from_str(&text).expect("JSON")
    }
}

const PLACE: [&str; 5] = ["--allow-hardware-mismatch", "--checkout", "checkout", "--python", "./python"];

fn run(stand_in: &StandIn, more: &[&str]) -> super::program::Ran {
    stand_in.project.run(&[&["baseline", "run", "tiny.yaml"], &PLACE[..], more].concat())
}

#[test]
fn a_run_is_recorded_in_every_variant() {
    let stand_in = StandIn::new("cat log.txt", "");
    run(&stand_in, &["--blocks", "2", "--dtype", "f32", "--dtype", "bf16", "--threads", "1"]).exits(0);
    let recording = stand_in.recording();
    let runs = recording["runs"].as_array().expect("runs");
    let variants: Vec<_> = runs.iter().map(|run| run["provenance"]["variant"].as_str().unwrap_or_default()).collect();
    assert_eq!(variants, ["f32-threads1", "bf16-threads1", "f32-threads1", "bf16-threads1"]);
    assert_eq!(runs[0]["evals"], serde_json::json!([[0, 3.5], [2, 3.3], [4, 3.1]]));
    // The stand-in's loader gives other batches, and the recording says so.
    assert_eq!(runs[0]["provenance"]["batches_agree"], false);
    let text = recording.to_string();
    assert!(!text.contains(&*stand_in.project.path().to_string_lossy()), "a path of this machine was recorded");
    stand_in.project.run(&["validate", "results"]).exits(0);
}

#[test]
fn what_can_not_serve_is_refused() {
    let missing = StandIn::new("cat log.txt", r#""rustbpe":"ModuleNotFoundError""#);
    let refused = run(&missing, &[]).exits(1);
    assert!(refused.told().contains("rustbpe"), "{}", refused.stderr());
    let checked = missing.project.run(&["baseline", "check", "checkout", "tiny.yaml", "--python", "./python"]).exits(1);
    assert!(checked.stdout().contains("can't be used as the baseline"), "{}", checked.stdout());

    let dirty = StandIn::new("cat log.txt", "");
    dirty.project.run(&["baseline", "check", "checkout", "tiny.yaml", "--python", "./python"]).exits(0);
    dirty.project.write("checkout/log.txt", "changed");
    let refused = run(&dirty, &[]).exits(1);
    assert!(refused.told().contains("log.txt"), "{}", refused.stderr());

    let other = StandIn::new("cat log.txt", "");
    other.project.write("tiny.yaml", &SPEC.replace("COMMIT", &"0".repeat(40)).replace("DIGITS", &"0".repeat(12)));
    let refused = run(&other, &[]).exits(1);
    assert!(refused.told().contains(&other.commit), "{}", refused.stderr());
    assert!(other.project.files("results").is_empty());
}

#[test]
fn a_failure_is_recorded_with_its_reason() {
    let cases = [
        ("head -n 4 log.txt; echo 'MemoryError: none left' >&2; exit 1", "MemoryError: none left", "60"),
        ("head -n 4 log.txt; sleep 300", "time limit", "1"),
    ];
    for (body, words, timeout) in cases {
        let stand_in = StandIn::new(body, "");
        run(&stand_in, &["--timeout", timeout]).exits(1);
        let recording = stand_in.recording();
        assert_eq!(recording["runs"][0]["status"], "failed", "{body}");
        assert!(recording["runs"][0]["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{recording:#}");
    }
}

#[test]
fn both_arms_take_turns_and_a_failing_baseline_leaves_ours_standing() {
    let stand_in = StandIn::new("cat log.txt", "");
    let arguments = [&["run", "tiny.yaml", "--with-baseline"], &PLACE[..]].concat();
    stand_in.project.run(&arguments).exits(0);
    let recording = stand_in.recording();
    let blocks: Vec<_> =
        recording["runs"].as_array().expect("runs").iter().map(|run| &run["provenance"]["block"]).collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!((&blocks[0]["number"], &blocks[0]["baseline_first"]), (&Value::from(1), &Value::from(true)));
    assert_eq!((&blocks[1]["number"], &blocks[1]["baseline_first"]), (&Value::from(2), &Value::from(false)));
    assert_ne!(blocks[0]["candidate_run"], blocks[1]["candidate_run"]);

    let failing = StandIn::new("exit 3", "");
    failing.project.run(&arguments).exits(0);
    assert_eq!(failing.recording()["runs"][0]["status"], "failed");
    let finished = failing.project.files("results/tiny");
    assert_eq!(finished.iter().filter(|file| file.ends_with("summary.json")).count(), 2, "{finished:?}");
    failing.project.run(&["run", "tiny.yaml", "--with-baseline"]).exits(2);

    let control = [
        "--set",
        "baseline.results=null",
        "--set",
        "matrix={axes: {model.depth: [1, 2]}}",
        "--set",
        "baseline.cell={model.depth: 1}",
    ];
    let refused = stand_in.project.run(&[&arguments[..], &control].concat()).exits(2);
    assert!(refused.told().contains("a cell of its own, not the baseline"), "{}", refused.stderr());
}

#[test]
fn initial_weights_are_asked_for_where_they_are_missing() {
    let stand_in = StandIn::new("cat log.txt", "");
    let ran =
        stand_in.project.run(&["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "init=baseline"]).exits(1);
    let said = one_line(&(ran.stdout() + &ran.stderr()));
    assert!(said.contains("nanochat baseline weights"), "{said}");
}
