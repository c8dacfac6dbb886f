//! The way out through the program: a tiny run trained, exported every way, and used from there.

use std::path::Path;

use candle_core::Device;
use nanochat::checkpoint::baseline::{self, BaselineGroup};
use nanochat::checkpoint::tensors_sha256;
use serde_json::Value;

use super::import;
use super::program::{Project, root};

/// A two-layer model with grouped queries; a second's training.
const SPEC: &str = "\
schema: nanochat.experiment/v1
name: leaving
seed: 7
hardware: { profile: cpu-smoke, device_batch_size: 4 }
data: { source: synthetic, seed: 3, bytes: 200000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, n_embd: 32, head_dim: 16, n_kv_head: 1, sequence_len: 32, window_pattern: L }
budget: { iterations: 6 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 3, tokens: 512 }
checkpoint: { every: 3, keep: 2 }
reproducibility: { repeats: 0 }
";

/// A finished run; the project and the run's folder in it.
fn trained() -> (Project, String) {
    let project = Project::new();
    project.write("leaving.yaml", SPEC);
    project.run(&["run", "leaving.yaml", "--allow-hardware-mismatch"]).exits(0);
    let files = project.files("results/leaving");
    let run = files.iter().find_map(|file| file.strip_suffix("/summary.json")).expect("a run").to_string();
    (project, run)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What the model goes on with after a prompt.
fn continuation(project: &Project, checkpoint: &str) -> Value {
    let arguments =
        ["generate", "--checkpoint", checkpoint, "--prompt", "the", "--max-tokens", "24", "--format", "json"];
    let printed = project.run(&arguments).exits(0).stdout();
    serde_json::from_str::<Value>(&printed).unwrap()["samples"].take()
}

#[test]
fn a_run_leaves_for_other_programs_and_comes_back() {
    let (project, run) = trained();
    let expected = continuation(&project, &run);
    let told = project.run(&["export", &run, "--to", "safetensors", "-o", "out/hub", "--format", "json"]).exits(0);
    let document: Value = serde_json::from_str(&told.stdout()).unwrap();
    assert_eq!(document, json(&project.path().join("out/hub/export.json")));
    project.run(&["validate", "out/hub/export.json"]).exits(0);

    // The card and the document say where the model comes from, in the words of the run's own documents.
    let [plan, summary, environment] =
        ["plan", "summary", "environment"].map(|name| json(&project.path().join(&run).join(format!("{name}.json"))));
    let source = &document["source"];
    for key in ["plan_hash", "run_id", "seed", "experiment"] {
        assert_eq!(source[key], plan[key], "{key}");
    }
    for key in ["data_sha256", "tokenizer_sha256", "weights_sha256"] {
        assert_eq!(source[key], summary[key], "{key}");
    }
    assert_eq!(source["code_commit"], environment["code_commit"]);
    assert_eq!(document["figures"]["val_bpb"], summary["final_val_bpb"]);
    assert_eq!(document["figures"]["tokens"], summary["tokens"]);
    let scorecard = json(&project.path().join("results/leaving/scorecard.json"));
    assert_eq!(document["figures"]["verdicts"]["quality"]["reason"], scorecard["quality"]["reason"]);
    let card = std::fs::read_to_string(project.path().join("out/hub/README.md")).unwrap();
    for value in [&plan["plan_hash"], &summary["data_sha256"], &summary["weights_sha256"], &plan["run_id"]] {
        assert!(card.contains(value.as_str().unwrap()), "{value} in\n{card}");
    }
    let outside = project.path().display().to_string();
    assert!(!card.contains(&outside) && !told.stdout().contains(&outside), "no path of the machine");

    // Graphs, with the weights beside them.
    let graphs =
        ["export", &run, "--to", "onnx", "--external-data", "--dtype", "bf16", "-o", "out/graphs", "--format", "json"];
    let document: Value = serde_json::from_str(&project.run(&graphs).exits(0).stdout()).unwrap();
    for name in ["model.onnx", "model_with_past.onnx", "model.onnx_data", "tokenizer.json", "expected.safetensors"] {
        let held = std::fs::metadata(project.path().join("out/graphs").join(name)).unwrap().len();
        assert_eq!(document["files"][name]["bytes"], held, "{name}");
    }
    let judged = document["checks"].as_array().unwrap().iter().filter(|check| check["bound"].is_number());
    assert!(
        judged.clone().count() == 2 && judged.clone().all(|check| check["max_abs"].as_f64() <= check["bound"].as_f64())
    );
    project.run(&["validate", "out/graphs/export.json"]).exits(0);

    // What was exported goes on as the run does, and can be exported on.
    assert_eq!(continuation(&project, "out/hub"), expected);
    project.run(&["export", "out/hub", "--to", "baseline", "-o", "out/base"]).exits(0);
    assert_eq!(continuation(&project, "out/base/base_checkpoints/d2"), expected);
    project.run(&["export", &run, "--to", "baseline", "-o", "out/base", "--step", "3"]).exits(0);
    let meta = json(&project.path().join("out/base/base_checkpoints/d2/meta_000003.json"));
    assert_eq!((&meta["step"], &meta["model_config"]), (&Value::from(3), &plan["model"]));
    assert_eq!(meta["user_config"]["matrix_lr"], plan["optimizer"]["matrix_lr"]);
    assert!(
        !project.path().join("out/base/base_checkpoints/d2/model_000006.pt").exists(),
        "the earlier one is replaced"
    );
}

#[test]
fn what_cannot_be_exported_is_said_with_the_way_out() {
    let (project, run) = trained();
    let refused = |arguments: &[&str], told: &str| {
        let ran = project.run(&[&["export"], arguments].concat()).exits(2);
        assert!(ran.told().contains(told), "{arguments:?}: {}", ran.told());
    };
    let to = ["--to", "safetensors", "-o", "out"];
    refused(&[&["nowhere"], &to[..]].concat(), "`nowhere` holds no checkpoint");
    refused(&[&[run.as_str()], &to[..], &["--step", "5"]].concat(), "holds no checkpoint of step 5; it has [3, 6]");
    let foreign = root().join("fixtures/parity/tokenizer_310.tiktoken").display().to_string();
    refused(&[&[run.as_str()], &to[..], &["--tokenizer", &foreign]].concat(), "has 310 tokens, the model 300");
    refused(&[&run, "--to", "baseline", "-o", "out", "--dtype", "bf16"], "master weights in f32, not bf16");
    project.write("mine/notes.txt", "mine");
    refused(&[&run, "--to", "safetensors", "-o", "mine"], "`mine` is in the way");
    assert_eq!(project.files("mine"), ["mine/notes.txt"]);
    assert!(!project.path().join("out").exists());
}

/// A checkpoint of the baseline's that became the beginning of a run goes back as the baseline had it: every tensor to the
/// bit, every setting of its optimizer, the step, and the place in the data from which the baseline would have resumed.
#[test]
fn a_run_goes_back_to_the_baseline() {
    let project = import::project(import::SPEC);
    import::import(&project, &[]).exits(0);
    let files = project.files("results/followed");
    let run = files.iter().find_map(|file| file.strip_suffix("/plan.json").filter(|run| !run.contains("checkpoints")));
    let run = run.expect("an imported run").to_string();
    let told = project.run(&["export", &run, "--to", "baseline", "-o", "back", "--format", "json"]).exits(0);
    let document: Value = serde_json::from_str(&told.stdout()).unwrap();
    assert!(document["files"]["base_checkpoints/d1/optim_000016_rank0.pt"].is_object(), "{document:#}");
    let remark = document["remarks"][0].as_str().unwrap();
    assert!(remark.contains("behind the row group that was read last"), "{remark}");

    let (ours, theirs) = (project.path().join("back/base_checkpoints/d1"), root().join("fixtures/parity/checkpoint"));
    let weights =
        |folder: &Path| tensors_sha256(&baseline::load(folder, Some(16), &Device::Cpu).unwrap().weights).unwrap();
    assert_eq!(weights(&ours), weights(&theirs));
    let optimizer = |folder: &Path| baseline::load_optimizer(folder, 16, 0, &Device::Cpu).unwrap();
    let (ours_state, theirs_state): (Vec<BaselineGroup>, _) = (optimizer(&ours), optimizer(&theirs));
    assert_eq!(ours_state.len(), theirs_state.len());
    for (number, (ours, theirs)) in ours_state.iter().zip(&theirs_state).enumerate() {
        assert_eq!((&ours.kind, ours.state.len()), (&theirs.kind, theirs.state.len()));
        assert_eq!(ours.settings.keys().collect::<Vec<_>>(), theirs.settings.keys().collect::<Vec<_>>());
        for (name, setting) in &ours.settings {
            // Products of the same factors in another order.
            let apart = (setting - theirs.settings[name]).abs();
            assert!(
                apart <= 1e-14 * setting.abs(),
                "{name} of group {number}: {setting} and {}",
                theirs.settings[name]
            );
        }
        for (ours, theirs) in ours.state.iter().zip(&theirs.state) {
            assert_eq!(tensors_sha256(ours).unwrap(), tensors_sha256(theirs).unwrap(), "group {number}");
        }
    }
    let [ours, theirs] = [&ours, &theirs].map(|folder| json(&folder.join("meta_000016.json")));
    for key in ["step", "model_config", "device_batch_size", "max_seq_len", "total_batch_size"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(ours["dataloader_state_dict"], theirs["dataloader_state_dict"]);
    assert!(ours["loop_state"]["min_val_bpb"].is_number());
}
