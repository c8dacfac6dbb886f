//! Failures that must not cost training: of an evaluation, of the disk.

use serde_json::Value;

use super::program::Project;

const SPEC: &str = "\
schema: nanochat.experiment/v1
name: tiny
baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
seed: 7
hardware: { profile: cpu-smoke, device_batch_size: 2 }
data: { source: synthetic, seed: 3, bytes: 60000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 12 }
optimizer: { total_batch_size: 128, warmup_steps: 2 }
eval: { every: 5, tokens: 512 }
checkpoint: { every: 4, keep: 2 }
reproducibility: { repeats: 0 }
";

const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch"];

fn summary(project: &Project) -> Value {
    let files = project.files("results/tiny");
    let file = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
    serde_json::from_str(&std::fs::read_to_string(project.path().join(file)).unwrap()).unwrap()
}

fn bundle(project: &Project, shots: usize, lines: &str) {
    let yaml = format!(
        "icl_tasks:\n-\n  label: birds\n  dataset_uri: a.jsonl\n  num_fewshot: [{shots}]\n  icl_task_type: language_modeling\n  continuation_delimiter: \"\"\n"
    );
    project.write("bundle/core.yaml", &yaml);
    project.write("bundle/eval_meta_data.csv", "Eval Task,Random baseline\nbirds,0\n");
    project.write("bundle/eval_data/a.jsonl", lines);
}

/// Known failure 1 of the baseline: an evaluation fails before the checkpoint is written, and training is lost.
#[test]
fn known_failure_1_an_evaluation_that_fails_leaves_a_finished_run_and_its_checkpoints() {
    let project = Project::new();
    project.write("tiny.yaml", &SPEC.replace("tokens: 512 }", "tokens: 512, core: { every: 6, bundle: bundle } }"));
    // Nothing to continue with: the question can't be posed, which shows when it is.
    bundle(&project, 0, "{\"context\": \"a\", \"continuation\": \"\"}\n");
    let ran = project.run(RUN).exits(0);
    assert!(ran.told().contains("evaluation at step 6 failed, training continues"), "{}", ran.stderr());
    let summary = summary(&project);
    assert_eq!((summary["status"].as_str(), summary["steps"].as_u64()), (Some("finished"), Some(12)));
    let reason = summary["reason"].as_str().unwrap();
    assert!(reason.starts_with("2 evaluations failed, the last at step 12: task `birds`, example 0"), "{reason}");
    assert!(summary["final_val_bpb"].is_f64(), "what could be evaluated was: {summary:#}");
    assert!(summary["core_metric"].is_null());
    let files = project.files("results/tiny");
    assert!(files.iter().any(|file| file.ends_with("step_000012/manifest.json")), "{files:?}");
    assert!(project.run(RUN).exits(0).stdout().contains("done before"));
}

/// Known failure 6 of the baseline, in a run: told before any step is taken.
#[test]
fn known_failure_6_too_few_examples_are_told_before_training() {
    let project = Project::new();
    project.write("tiny.yaml", &SPEC.replace("tokens: 512 }", "tokens: 512, core: { every: 6, bundle: bundle } }"));
    bundle(&project, 3, &"{\"context\": \"a\", \"continuation\": \"b\"}\n".repeat(3));
    let ran = project.run(RUN).exits(1);
    let told = "task `birds` wants 3 examples before each question, and has 3 examples in all";
    assert!(ran.told().contains(told), "{}", ran.stderr());
    assert!(project.files("results/tiny").iter().all(|file| !file.contains("step_")));

    // The failure is on record, the record holds together, and a later look tells of it.
    let recorded = summary(&project);
    assert_eq!((&recorded["status"], &recorded["steps"]), (&"failed".into(), &0.into()));
    assert!(recorded["reason"].as_str().unwrap().contains(told), "{recorded:#}");
    project.run(&["verify", "results"]).exits(0);
    let plan = project.run(&["plan", "tiny.yaml", "--format", "json"]).exits(0).stdout();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["outlook"][0]["state"], "failed", "{plan:#}");
    let again = project.run(RUN).exits(1);
    assert!(again.told().contains(told), "{}", again.stderr());
}

/// A loss that explodes: the run fails with step and tensor, its last good checkpoint is there, and nothing of it is NaN.
#[test]
fn a_run_that_diverges_keeps_its_last_good_checkpoint() {
    let project = Project::new();
    // The rates rise to their peak only after the first checkpoint.
    project.write("tiny.yaml", &SPEC.replace("warmup_steps: 2", "warmup_steps: 2, unembedding_lr: 1000.0"));
    let ran = project.run(RUN).exits(1);
    assert!(ran.told().contains("the loss "), "{}", ran.stderr());
    let summary = summary(&project);
    let reason = summary["reason"].as_str().unwrap();
    assert_eq!(summary["status"], "failed");
    assert!(reason.contains(" at step ") && reason.contains('`'), "{reason}");
    let rolled = project.run(&[RUN, &["--set", "on_divergence=rollback"]].concat()).exits(1);
    assert!(rolled.told().contains("back to step 0, continuing with the data after step"), "{}", rolled.stderr());
    assert!(rolled.told().contains("after 3 rollbacks"), "{}", rolled.stderr());
}

#[cfg(unix)]
#[test]
fn a_disk_without_room_stops_the_run_and_costs_nothing_that_was_saved() {
    let undisturbed = Project::new();
    undisturbed.write("tiny.yaml", SPEC);
    undisturbed.run(RUN).exits(0);
    let project = Project::new();
    project.write("tiny.yaml", SPEC);
    // Files may have 64 KiB: enough for all but the weights. The run gets as far as its first save.
    let program = project.command(RUN);
    let limited = |project: &Project| {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]).arg(program.get_program()).args(RUN);
        shell.current_dir(project.path()).env("NO_COLOR", "1");
        super::program::Ran(shell.output().unwrap())
    };
    let ran = limited(&project).exits(1);
    assert!(ran.told().contains("cannot write `") && ran.told().contains("model.safetensors"), "{}", ran.stderr());
    let failed = summary(&project);
    assert_eq!((failed["status"].as_str(), failed["steps"].as_u64()), (Some("failed"), Some(4)));
    let files = project.files("results/tiny");
    assert!(files.iter().all(|file| !file.contains("step_") && !file.contains("partial-")), "{files:?}");
    // Room again: what failed is done.
    project.run(RUN).exits(0);
    let figures = |project: &Project| {
        let summary = summary(project);
        ["weights_sha256", "loss_trace_sha256", "final_val_bpb"].map(|key| summary[key].clone())
    };
    assert_eq!(figures(&project), figures(&undisturbed));
}

#[test]
fn a_place_that_cannot_be_written_is_told_by_its_path() {
    let project = Project::new();
    project.write("tiny.yaml", SPEC);
    // A file where a folder should be: refused for every user, the superuser too.
    project.write("results", "");
    let ran = project.run(RUN);
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    assert!(ran.told().contains("results"), "{}", ran.stderr());
}
