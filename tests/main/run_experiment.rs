//! The main job through the program: run, run again, stop and go on, fail and tell.

use serde_json::Value;

use super::program::Project;

/// A two-layer model of some seconds: one cell, one seed, one repeat.
pub const TINY: &str = "\
schema: nanochat.experiment/v1
name: tiny
description: small enough for a test
baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
seed: 7
hardware: cpu-smoke
data: { source: synthetic, seed: 3, bytes: 400000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 12 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 5, tokens: 512 }
checkpoint: { every: 4, keep: 2 }
quality: { metric: val_bpb, tolerance: { relative: 0.002 } }
speed: { metric: tokens_per_second, min_ratio: 1.0 }
reproducibility: { repeats: 1, require: bitwise }
ruleset: v1
";

fn json(project: &Project, name: &str) -> Value {
    let text = std::fs::read_to_string(project.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn run_folders(project: &Project) -> Vec<String> {
    let files = project.files("results/tiny");
    files.iter().filter_map(|file| file.strip_suffix("/summary.json")).map(str::to_string).collect()
}

/// What `plan` says that `run` would do with each run, with the sentence.
fn outlook(project: &Project, overrides: &[&str]) -> Vec<Value> {
    let plan = ["plan", "tiny.yaml", "--format", "json", "--set", "hardware.device_batch_size=4"];
    let printed = project.run(&[&plan[..], overrides].concat()).exits(0).stdout();
    let mut set: Value = serde_json::from_str(&printed).unwrap();
    let Value::Array(runs) = set["outlook"].take() else { panic!("{printed}") };
    runs
}

const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];

#[test]
fn an_experiment_runs_to_its_reports_and_is_done_the_second_time() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    assert!(outlook(&project, &[]).iter().all(|run| run["state"] == "new"));
    let first = project.run(RUN).exits(0);
    assert!(first.stdout().contains("reproducibility"), "{}", first.stdout());

    let scorecard = json(&project, "results/tiny/scorecard.json");
    assert_eq!(scorecard["reproducibility"]["verdict"], "pass", "{scorecard:#}");
    assert_eq!(scorecard["quality"]["verdict"], "missing");
    let runs = run_folders(&project);
    assert_eq!(runs.len(), 2, "{runs:?}");
    let [one, two] = [0, 1].map(|place| json(&project, &format!("{}/summary.json", runs[place])));
    for key in ["weights_sha256", "loss_trace_sha256", "first_batch_sha256", "final_val_bpb"] {
        assert_eq!(one[key], two[key], "{key}");
        assert!(!one[key].is_null(), "{key}");
    }
    for file in ["reports/tiny.md", "reports/tiny.html"] {
        assert!(project.path().join(file).is_file(), "{file}");
    }

    let before = json(&project, &format!("{}/summary.json", runs[0]));
    let again = project.run(RUN).exits(0);
    assert!(again.stdout().contains("done before"), "{}", again.stdout());
    assert_eq!(json(&project, &format!("{}/summary.json", runs[0])), before);
    project.run(&["validate", "results", "tiny.yaml"]).exits(0);
    project.run(&["verify", "results"]).exits(0);

    assert!(outlook(&project, &[]).iter().all(|run| run["state"] == "done"));
    let changed = outlook(&project, &["--set", "optimizer.matrix_lr=0.03", "--set", "budget.iterations=14"]);
    for run in &changed {
        assert_eq!(run["state"], "changed");
        let expected = serde_json::json!([
            { "key": "optimizer.matrix_lr", "before": 0.02, "now": 0.03 },
            { "key": "num_iterations", "before": 12, "now": 14 },
        ]);
        assert_eq!(run["changed"], expected);
    }
    let shown = project.run(&["plan", "tiny.yaml", "--set", "hardware.device_batch_size=4", "--set", "seed=8"]);
    let shown = shown.exits(0).stdout();
    assert!(shown.lines().filter(|line| line.trim_end().ends_with("new")).count() == 2, "{shown}");
}

#[test]
fn a_run_that_failed_is_shown_as_such_with_its_reason() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("repeats: 1", "repeats: 0"));
    project.run(RUN).exits(0);
    let run = run_folders(&project).remove(0);
    let summary = project.path().join(format!("{run}/summary.json"));
    let text = std::fs::read_to_string(&summary).unwrap();
    let text = text.replace(r#""reason": null"#, r#""reason": "the disk is full""#);
    std::fs::write(&summary, text.replace(r#""status": "finished""#, r#""status": "failed""#)).unwrap();
    std::fs::remove_dir_all(project.path().join(format!("{run}/checkpoints"))).unwrap();
    let failed = outlook(&project, &[]);
    assert_eq!((&failed[0]["state"], &failed[0]["reason"]), (&"failed".into(), &"the disk is full".into()));
}

#[test]
fn a_smoke_test_under_another_profile_is_no_evidence_of_speed() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("hardware: cpu-smoke", "hardware: h100-x8"));
    project.run(&["run", "tiny.yaml", "--profile", "cpu-smoke"]).exits(0);
    let scorecard = json(&project, "results/tiny-cpu-smoke/scorecard.json");
    assert_eq!(scorecard["speed"]["verdict"], "not_comparable", "{scorecard:#}");
    assert_eq!(scorecard["finished"], 1);
    assert!(scorecard["speed"]["reason"].as_str().unwrap().contains("stood in"), "{scorecard:#}");
}

#[test]
fn what_the_machine_cannot_hold_is_refused_with_the_estimate_before_anything_is_written() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let huge = ["run", "tiny.yaml", "--set", "hardware.device_batch_size=8", "--set", "model.n_embd=131072"];
    let ran = project.run(&huge).exits(2);
    assert!(ran.told().contains("is estimated to need") && ran.told().contains("GiB"), "{}", ran.stderr());
    let elsewhere = project.run(&["run", "tiny.yaml", "--profile", "metal"]).exits(2);
    assert!(elsewhere.told().contains("on metal this is estimated to take"), "{}", elsewhere.stderr());
    assert!(project.files("results").is_empty() && project.files("reports").is_empty());
}

#[cfg(unix)]
#[test]
fn a_run_that_was_interrupted_goes_on_bit_for_bit() {
    let whole = Project::new();
    let spec = TINY.replace("repeats: 1", "repeats: 0").replace("iterations: 12", "iterations: 150");
    whole.write("tiny.yaml", &spec);
    whole.run(RUN).exits(0);

    let parts = Project::new();
    parts.write("tiny.yaml", &spec);
    let mut child = parts.command(RUN).stderr(std::process::Stdio::null()).spawn().unwrap();
    // The first checkpoint says that training is under way.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while parts.files("results").iter().all(|file| !file.contains("step_000004")) {
        assert!(std::time::Instant::now() < deadline, "no checkpoint came");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = i32::try_from(child.id()).unwrap();
    std::process::Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let stopped = json(&parts, &format!("{}/summary.json", run_folders(&parts)[0]));
    assert_eq!(stopped["status"], "interrupted");
    assert!(stopped["steps"].as_u64().unwrap() < 150);
    let open = outlook(&parts, &[]);
    assert_eq!(open[0]["state"], "interrupted");
    assert_eq!(open[0]["step"], stopped["steps"], "{open:?}");

    let rest = parts.run(RUN).exits(0);
    assert!(rest.told().contains("continues from its checkpoint"), "{}", rest.stderr());
    let [a, b] = [&whole, &parts].map(|project| json(project, &format!("{}/summary.json", run_folders(project)[0])));
    for key in ["weights_sha256", "loss_trace_sha256", "final_val_bpb", "min_val_bpb", "steps", "tokens"] {
        assert_eq!(a[key], b[key], "{key}");
    }
}

#[test]
fn the_plans_precision_decides_the_arithmetic() {
    let losses = ["f32", "bf16"].map(|dtype| {
        let project = Project::new();
        project.write("tiny.yaml", &TINY.replace("repeats: 1", "repeats: 0"));
        let set = format!("hardware.dtype={dtype}");
        project.run(&[RUN, &["--set", &set]].concat()).exits(0);
        let summary = json(&project, &format!("{}/summary.json", run_folders(&project)[0]));
        (summary["train_loss"].as_f64().unwrap(), summary["loss_trace_sha256"].clone())
    });
    assert_ne!(losses[0].1, losses[1].1, "bf16 trained in f32");
    // Twelve steps in: bf16 keeps 8 bits, which moves the loss of a model this small by far less than a hundredth.
    assert!((losses[0].0 - losses[1].0).abs() < 0.05, "{losses:?}");
}

#[test]
fn missing_data_is_an_error_that_leaves_nothing_behind() {
    let project = Project::new();
    project.write(
        "tiny.yaml",
        &TINY.replace("source: synthetic, seed: 3, bytes: 400000", "source: parquet, path: nowhere"),
    );
    let ran = project.run(RUN).exits(2);
    assert!(ran.told().contains("nowhere"), "{}", ran.stderr());
    assert!(project.files("results").is_empty() && project.files("reports").is_empty());
}
