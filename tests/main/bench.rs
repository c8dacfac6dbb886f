//! `nanochat bench`, from the outside.

use serde_json::Value;

use super::program::{Project, one_line, root};

/// A model that trains in a blink.
const TINY: &str = "\
schema: nanochat.experiment/v1
name: tiny
baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
seed: 7
hardware: cpu-smoke
data: { source: synthetic, seed: 3, bytes: 400000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 12 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 5, tokens: 512 }
";

const SETTINGS: [&str; 4] = ["--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4", "--format=json"];

fn number(document: &Value, pointer: &str) -> f64 {
    document.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}: {document:#}"))
}

/// The figure whose name begins so.
fn figure<'a>(document: &'a Value, prefix: &str) -> &'a Value {
    let named = |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with(prefix));
    document["figures"].as_array().and_then(|all| all.iter().find(named)).unwrap_or_else(|| panic!("no {prefix}"))
}

/// The value of the figure whose name begins so.
fn value(document: &Value, prefix: &str) -> f64 {
    number(figure(document, prefix), "/value")
}

/// The median of a list of seconds.
fn median(seconds: &Value) -> f64 {
    let mut seconds: Vec<f64> = seconds.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
    seconds.sort_by(f64::total_cmp);
    let half = seconds.len() / 2;
    if seconds.len() % 2 == 1 { seconds[half] } else { (seconds[half - 1] + seconds[half]) / 2.0 }
}

#[test]
fn training_is_measured_by_phase_without_a_trace_in_the_results() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let arguments = ["bench", "train", "tiny.yaml", "--steps", "6", "--warmup", "2", "--out", "bench/train.json"];
    let ran = project.run(&[&arguments[..], &SETTINGS].concat()).exits(0);
    let document: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    assert_eq!(std::fs::read_to_string(project.path().join("bench/train.json")).unwrap(), ran.stdout());
    assert!(project.files("results").is_empty() && project.files("reports").is_empty());
    project.run(&["validate", "bench/train.json"]).exits(0);

    let seconds: Vec<f64> =
        document["step_seconds"].as_array().unwrap().iter().map(|seconds| seconds.as_f64().unwrap()).collect();
    assert_eq!(seconds.len(), 6);
    let mut steady = seconds[2..].to_vec();
    steady.sort_by(f64::total_cmp);
    let median = (steady[1] + steady[2]) / 2.0;
    assert_eq!(number(&document, "/tokens_per_second"), 256.0 / median);
    // The phases follow each other without a gap: beside them a step has but what lies between two readings of the clock.
    let phases = ["data", "forward", "head", "backward", "optimizer"];
    let parts: Vec<f64> = phases.iter().map(|phase| number(&document, &format!("/phases/{phase}"))).collect();
    assert!(parts.iter().all(|&part| part > 0.0), "{parts:?}");
    let (whole, mean) = (parts.iter().sum::<f64>(), steady.iter().sum::<f64>() / 4.0);
    assert!(whole < mean * 2.0 && whole > mean * 0.5, "{whole} of {mean}");
    assert!(number(&document, "/peak_rss_bytes") > 1e6);
    let startup: f64 = document["startup"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum();
    assert!((startup - number(&document, "/first_step_after_seconds")).abs() < 1e-9);
    let rate = number(&document, "/tokens_per_second") * number(&document, "/flops_per_token") / 1e9;
    assert!((value(&document, "achieved") / rate - 1.0).abs() < 1e-12);
    assert!((value(&document, "share of that") - rate / value(&document, "matrix products")).abs() < 1e-12);
    assert_eq!(document["evaluation"]["tokens"], 512);
    // Evaluations before the first step, after 5 and 10, and at the end.
    let spread = number(&document, "/evaluation/seconds") * 4.0 / 12.0;
    assert!((number(&document, "/phases/evaluation") / spread - 1.0).abs() < 1e-12);
}

#[test]
fn what_is_measured_is_what_a_run_does() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let whole = ["bench", "train", "tiny.yaml", "--steps", "12", "--no-evaluation"];
    let ran = project.run(&[&whole[..], &SETTINGS].concat()).exits(0);
    let document: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    project.run(&[&["run", "tiny.yaml"][..], &SETTINGS].concat()).exits(0);
    let summary = project.files("results/tiny").into_iter().find(|file| file.ends_with("/summary.json")).unwrap();
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(project.path().join(summary)).unwrap()).expect("JSON");
    for key in ["plan_hash", "loss_trace_sha256", "first_batch_sha256", "tokenizer_sha256"] {
        assert!(document[key].is_string());
        assert_eq!(document[key], summary[key], "{key}");
    }
    assert_eq!(value(&document, "loss of the last step"), number(&summary, "/train_loss"));
}

#[test]
fn benchmarks_that_measure_nothing_are_refused() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    for (steps, message) in [("13", "the plan has 12 steps, 13 were asked for"), ("2", "leave none to measure")] {
        let ran = project.run(&[&["bench", "train", "tiny.yaml", "--steps", steps][..], &SETTINGS].concat()).exits(2);
        assert!(ran.told().contains(message), "{}", ran.stderr());
    }
}

#[test]
fn benchmarks_of_two_moments_are_compared() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    for (file, dtype) in [("before.json", "f32"), ("after.json", "bf16")] {
        let dtype = format!("hardware.dtype={dtype}");
        let arguments = ["bench", "train", "tiny.yaml", "--steps=4", "--no-evaluation", "--out", file, "--set", &dtype];
        project.run(&[&arguments[..], &SETTINGS].concat()).exits(0);
    }
    let ran = project.run(&["compare", "before.json", "after.json", "--format", "json"]).exits(0);
    let comparison: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    let read = |file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(project.path().join(file)).unwrap()).expect("JSON")
    };
    let (before, after) = (read("before.json"), read("after.json"));
    let figure = &comparison["figures"][0];
    assert_eq!(figure["name"], "tokens a second");
    assert_eq!(figure["before"], before["tokens_per_second"]);
    assert_eq!(figure["after"], after["tokens_per_second"]);
    let gain = number(&after, "/tokens_per_second") / number(&before, "/tokens_per_second");
    assert!((number(figure, "/gain") / gain - 1.0).abs() < 1e-9);
    let interval = (number(&comparison, "/interval/0"), number(&comparison, "/interval/1"));
    // Documents of comparisons round to 12 digits.
    assert!(interval.0 <= gain * (1.0 + 1e-9) && gain <= interval.1 * (1.0 + 1e-9), "{gain} outside {interval:?}");
    let differences = comparison["differences"].to_string();
    assert!(differences.contains("arithmetic: f32 → bf16"), "{differences}");
    let markdown = project.run(&["compare", "before.json", "after.json", "--format", "markdown"]).exits(0);
    assert!(markdown.stdout().contains("| tokens a second | tok/s |"), "{}", markdown.stdout());
    project.run(&["compare", "before.json", "after.json", "--format", "html"]).exits(0);
    let ran = project.run(&["compare", "before.json", "tiny.yaml"]).exits(2);
    assert!(ran.told().contains("tiny.yaml"), "{}", ran.stderr());
    let old = std::fs::read_to_string(project.path().join("before.json")).unwrap();
    project.write("old.json", &old.replace("nanochat.bench/v1", "nanochat.bench_train/v1"));
    for arguments in [&["compare", "old.json", "after.json"][..], &["validate", "old.json"]] {
        let ran = project.run(arguments).exits(2);
        let said = one_line(&(ran.stdout() + &ran.stderr()));
        assert!(said.contains("an earlier version"), "{said}");
    }
}

#[test]
fn kernels_tokenizer_and_data_are_measured_on_a_plan() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let bench = |what: &str, extra: &[&str]| -> Value {
        let file = format!("{what}.json");
        let arguments = ["bench", what, "tiny.yaml", "--out", &file];
        let ran = project.run(&[&arguments[..], extra, &SETTINGS].concat()).exits(0);
        project.run(&["validate", &file]).exits(0);
        serde_json::from_str(&ran.stdout()).expect("JSON")
    };
    let kernels = bench("kernels", &["--milliseconds", "1"]);
    for name in [
        "linear",
        "attention",
        "head",
        "norm",
        "rotary",
        "gated",
        "residual",
        "smear",
        "squared",
        "embedding",
        "optimizer",
    ] {
        let one = figure(&kernels, name);
        assert!(number(one, "/value") > 0.0 && number(one, "/reference") > 0.0, "{one:#}");
        let rate = |key: &str| number(one, &format!("/rates/0/{key}"));
        assert!((rate("share") * rate("limit") / rate("value") - 1.0).abs() < 1e-9);
    }
    let tokenizer = bench("tokenizer", &["--repeats", "2"]);
    for (name, least) in [("training of 300 tokens", 300_000.0), ("encoding of", 300_000.0)] {
        let one = figure(&tokenizer, name);
        assert_eq!(one["seconds"].as_array().unwrap().len(), 2);
        assert!(number(one, "/value") * 1e6 * median(&one["seconds"]) > least, "{one:#}");
    }
    let data = bench("data", &["--milliseconds", "20"]);
    assert_eq!(data["tokenizer_sha256"], tokenizer["tokenizer_sha256"]);
    assert_eq!(value(&data, "tokens packed"), number(&data, "/repeats") * 4.0 * 32.0);
    let without = bench("kernels", &["--milliseconds", "1", "--no-references"]);
    assert!(without["figures"].as_array().unwrap().iter().all(|one| one.get("reference").is_none()));
    let arguments = ["bench", "kernels", "tiny.yaml", "--milliseconds=1", "--no-references"];
    let ran = project.run(&[&arguments[..], &SETTINGS[..3]].concat()).exits(0);
    assert!(ran.stdout().contains("% of the limit") && ran.stdout().contains("copies reach"), "{}", ran.stdout());
}

#[test]
fn inference_is_measured_against_the_machine() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    let arguments = ["bench", "infer", "tiny.yaml", "--prompt-tokens=40", "--tokens=6", "--repeats=2"];
    let more = ["--batch-sizes", "1,3", "--dtype", "bf16", "--out", "infer.json"];
    let ran = project.run(&[&arguments[..], &more, &SETTINGS].concat()).exits(0);
    let document: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    project.run(&["validate", "infer.json"]).exits(0);
    assert_eq!(document["dtype"], "bf16");
    assert_eq!(document["first_ids"].as_array().unwrap().len(), 6);
    let prefill = figure(&document, "prefill (prompt of 40)");
    assert!((number(prefill, "/value") * median(&prefill["seconds"]) / 40.0 - 1.0).abs() < 1e-12);
    for rows in [1.0, 3.0] {
        let one = figure(&document, &format!("decoding, {rows} samples (6 tokens"));
        let seconds = median(&one["seconds"]);
        assert_eq!(number(one, "/value"), rows / seconds);
        // The head's 320 rows of 32, two layers of 12 · 32² weights and a gate of 2 · 12, at two bytes; two layers' keys and
        // values of 35 tokens of 32 channels in f32 for each row.
        let bytes =
            2.0 * (320.0 * 32.0 + 2.0 * 12.0 * 1024.0 + 24.0) + rows * 2.0 * 2.0 * 35.0f64.min(32.0) * 32.0 * 4.0;
        assert!((number(one, "/rates/0/value") * 1e9 * seconds / bytes - 1.0).abs() < 1e-9);
        let share = number(one, "/rates/0/value") / value(&document, "reading reaches");
        assert!((number(one, "/rates/0/share") / share - 1.0).abs() < 1e-9);
    }
    project.run(&["compare", "infer.json", "infer.json"]).exits(0);
    let none = ["bench", "infer", "tiny.yaml", "--tokens=2"];
    project.run(&[&none[..], &SETTINGS].concat()).exits(2);
    let other = root().join("fixtures/parity/checkpoint").to_string_lossy().into_owned();
    let ran = project.run(&[&["bench", "infer", "tiny.yaml", "--weights", &other][..], &SETTINGS].concat()).exits(2);
    assert!(ran.told().contains("spec of its shape") || ran.told().contains("its"), "{}", ran.stderr());
}
