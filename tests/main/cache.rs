//! What is kept of earlier work changes nothing but time.

use serde_json::Value;

use super::program::{Project, one_line};

/// A run with an evaluation, on a tokenizer of its own.
const TINY: &str = "\
schema: nanochat.experiment/v1
name: tiny
baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
seed: 7
hardware: cpu-smoke
data: { source: jsonl, path: shards }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 6 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 0, tokens: 512 }
reproducibility: { repeats: 0 }
";

const RUN: &[&str] =
    &["run", "tiny.yaml", "--force", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];

/// The summary without what a clock says.
fn summary(project: &Project) -> Value {
    let file = project.files("results/tiny").into_iter().find(|file| file.ends_with("/summary.json")).expect("a run");
    let text = std::fs::read_to_string(project.path().join(file)).unwrap();
    let mut summary: Value = serde_json::from_str(&text).unwrap();
    let timed = ["tokens_per_second", "training_seconds", "startup_seconds", "elapsed_seconds", "peak_rss_bytes"];
    timed.iter().chain(&["files_sha256"]).for_each(|key| drop(summary.as_object_mut().unwrap().remove(*key)));
    summary
}

fn entries(project: &Project) -> Vec<String> {
    let files = project.files(".nanochat-cache");
    // A process may end while its data thread begins an entry.
    files.into_iter().filter(|file| !file.ends_with(".gitignore") && !file.contains("/.tmp-")).collect()
}

/// Tells a file that was written anew from one that wasn't: entries are put in place by a rename.
#[cfg(unix)]
fn number(project: &Project, file: &str) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&project.path().join(file).metadata().unwrap())
}

#[cfg(unix)]
#[test]
fn a_run_is_the_same_with_and_without_the_cache() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    project.run(&["data", "synthesize", "--bytes", "300000", "--as", "jsonl", "--out", "shards"]).exits(0);
    let without = project.command(RUN).env("NANOCHAT_CACHE", "").output().unwrap();
    assert!(without.status.success(), "{}", String::from_utf8_lossy(&without.stderr));
    let expected = summary(&project);
    assert!(entries(&project).is_empty());

    project.run(RUN).exits(0);
    assert_eq!(summary(&project), expected, "when it is filled");
    let kept = entries(&project);
    for kind in ["tokens/", "tokenizer/"] {
        assert!(kept.iter().any(|file| file.contains(kind)), "{kind} in {kept:?}");
    }
    let made: Vec<u64> = kept.iter().map(|file| number(&project, file)).collect();
    project.run(RUN).exits(0);
    assert_eq!(summary(&project), expected, "when it is used");
    let again: Vec<_> = entries(&project).into_iter().filter(|file| kept.contains(file)).collect();
    assert_eq!(again, kept);
    let again: Vec<u64> = again.iter().map(|file| number(&project, file)).collect();
    assert_eq!(again, made, "nothing was made twice");

    for file in &kept {
        let path = project.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    project.run(RUN).exits(0);
    assert_eq!(summary(&project), expected, "when it is damaged");

    let shown = project.run(&["data", "cache", "--format", "json"]).exits(0);
    let shown: Value = serde_json::from_str(&shown.stdout()).unwrap();
    assert_eq!(shown["kinds"]["tokenizer"]["entries"], 1, "{shown:#}");
    project.run(&["data", "cache", "--clear"]).exits(0);
    assert!(entries(&project).is_empty());
    project.run(RUN).exits(0);
    assert_eq!(summary(&project), expected, "when it is made anew");
}

#[test]
fn changed_documents_are_not_taken_for_the_old_ones() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let synthesize = ["data", "synthesize", "--bytes", "300000", "--as", "jsonl", "--out"];
    project.run(&[&synthesize[..], &["shards"]].concat()).exits(0);
    project.run(&[&synthesize[..], &["others", "--seed", "1"]].concat()).exits(0);
    project.run(RUN).exits(0);
    let first = summary(&project);
    std::fs::rename(project.path().join("shards"), project.path().join("away")).unwrap();
    std::fs::rename(project.path().join("others"), project.path().join("shards")).unwrap();
    project.run(RUN).exits(0);
    let second = summary(&project);
    for key in ["data_sha256", "tokenizer_sha256", "loss_trace_sha256"] {
        assert_ne!(first[key], second[key], "{key}");
    }
}

#[test]
fn a_cache_that_cant_be_written_is_told_and_stops_nobody() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    project.run(&["data", "synthesize", "--bytes", "300000", "--as", "jsonl", "--out", "shards"]).exits(0);
    let place = project.write("in-the-way", "a file");
    let ran = project.command(RUN).env("NANOCHAT_CACHE", place).output().unwrap();
    assert!(ran.status.success());
    let told = one_line(&String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("the cache can't write"), "{told}");
}
