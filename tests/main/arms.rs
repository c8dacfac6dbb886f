//! Arms through the program, against stand-ins: git repositories with a module `torch` of their own and a training script
//! that prints what the real one does. The launcher and the interpreter are the real ones; our questions to the checkout
//! are answered by a shell script.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::program::{Project, Ran};

const SPEC: &str = "\
schema: nanochat.experiment/v1
name: tiny
arms:
  control: { engine: karpathy, commit: CONTROL }
  candidate: { engine: karpathy, commit: CANDIDATE, flags: { warmdown-ratio: 0.5 } }
control: control
seeds: [42, 43]
hardware: cpu-smoke
data: { source: synthetic, seed: 3, bytes: 400000 }
tokenizer: { train: { vocab_size: 300 } }
model: { depth: 2, aspect_ratio: 16, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 4 }
optimizer: { total_batch_size: 512, warmup_steps: 2 }
eval: { every: 2, tokens: 512 }
ruleset: v2
quality: { claim: better }
speed: { claim: no_slower }
";

/// What the launcher and the script need of PyTorch.
const TORCH: &str = r#"
import array

float32 = "float32"
SEED = [0]

def manual_seed(seed):
    SEED[0] = seed

class cuda:
    @staticmethod
    def manual_seed(seed):
        pass

class nn:
    class Module:
        pass

class Tensor:
    def __init__(self, values):
        self.values, self.shape = values, (len(values),)
    detach = contiguous = lambda self: self
    def to(self, device, dtype):
        return self
    def dim(self):
        return 1
    def numel(self):
        return len(self.values)
    def numpy(self):
        return array.array("f", self.values)

def compile(model=None, **options):
    return model
"#;

/// A training script: `SEEDING` stands for how it seeds, `EFFECT` for what a commit changes, `MISHAP` for what goes wrong
/// before a step.
const SCRIPT: &str = r#"
import sys, time
import torch

flags = dict(flag[2:].split("=") for flag in sys.argv[1:])
steps, every = int(flags["num-iterations"]), int(flags["eval-every"])
SEEDING

class Model(torch.nn.Module):
    def state_dict(self):
        return {"b": torch.Tensor([float(torch.SEED[0])]), "a": torch.Tensor([1.0, 2.0])}

model = torch.compile(Model(), dynamic=False)
print("COMPUTE_DTYPE: torch.float32 (set via NANOCHAT_DTYPE=float32)")
print("WARNING: Flash Attention 3 not available, using PyTorch SDPA fallback")
print("warm-down", flags["warmdown-ratio"])
loss = 6.0 + torch.SEED[0] / 1000
for step in range(steps + 1):
    bpb = 3.5 - 0.1 * step + torch.SEED[0] / 1000 + EFFECT
    if step % every == 0 or step == steps:
        print(f"Step {step:05d} | Validation bpb: {bpb:.6f}")
    if step < steps:
        MISHAP
        print(f"step {step:05d}/{steps:05d} (0.00%) | loss: {loss - step / 10:.6f} | lrm: 1.00 | dt: {40 + step}.00ms | tok/sec: 12,800")
print(f"Minimum validation bpb: {bpb:.6f}")
"#;

/// Our own scripts' questions are answered here; the launcher is run by the real interpreter, a second process of it where
/// several are asked for.
const PYTHON: &str = r#"#!/bin/sh
if test "$6" = -m; then
    shift 11
    RANK=1 sh -c 'exit 3' || status=$?
    RANK=0 timeout 2 python3 "$@"
    echo "rank 1 ended with exit code $status" >&2
    exit 1
fi
case "$8" in
probe) echo 'nanochat-answer {"python":"3.11.7","packages":{"torch":"2.9.1"},"missing":{},"cuda":null,"devices":["cpu"],"accelerators":[]}' ;;
first-batches) echo 'nanochat-answer {"train":"1","validation":"2","vocab_size":300,"token_bytes":"3","evaluation":1.5}' ;;
*) exec python3 "$@" ;;
esac
"#;

/// How the real script seeds.
const SEEDING: &str = "torch.manual_seed(42)";

struct StandIn {
    project: Project,
}

fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(script).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

const COMMIT: &str = "git add -A && git -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false commit -qm change && git rev-parse HEAD";

impl StandIn {
    /// Two checkouts beside each other: the control's, and a clone of it with another script.
    fn new(seeding: &str, mishap: &str) -> Self {
        let project = Project::new();
        let script = |seeding: &str, effect: &str, mishap: &str| {
            SCRIPT.replace("SEEDING", seeding).replace("EFFECT", effect).replace("MISHAP", mishap)
        };
        project.write("control/torch.py", TORCH);
        project.write("control/scripts/base_train.py", &script(SEEDING, "0.0", "pass"));
        project.write("python", PYTHON);
        sh(project.path(), "chmod +x python");
        let control = sh(&project.path().join("control"), &format!("git init -q . && {COMMIT}"));
        sh(project.path(), "git clone -q control candidate");
        project.write("candidate/scripts/base_train.py", &script(seeding, "-0.2", mishap));
        let candidate = sh(&project.path().join("candidate"), COMMIT);
        project.write("tiny.yaml", &SPEC.replace("CONTROL", &control).replace("CANDIDATE", &candidate));
        Self { project }
    }

    fn run(&self, more: &[&str]) -> Ran {
        let places = ["--checkout", "control=control", "--checkout", "candidate=candidate", "--python", "./python"];
        self.project.run(&[&["run", "tiny.yaml", "--allow-hardware-mismatch"], &places[..], more].concat())
    }

    fn json(&self, name: &str) -> Value {
        let path = self.project.path().join("results/tiny").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::from_str(&text).expect("JSON")
    }

    /// The summaries of an arm's runs, by seed.
    fn summaries(&self, arm: &str) -> Vec<Value> {
        let files = self.project.files("results/tiny");
        let of_arm =
            files.iter().filter(|file| file.contains(&format!("d2-{arm}-")) && file.ends_with("/summary.json"));
        of_arm.map(|file| self.json(file.strip_prefix("results/tiny/").expect("a run"))).collect()
    }
}

#[test]
fn every_arm_is_judged_against_the_control() {
    let stand_in = StandIn::new(SEEDING, "pass");
    let ran = stand_in.run(&[]).exits(0);
    assert!(ran.stdout().contains("candidate is better than control: 0.2000"), "{}", ran.stdout());
    for arm in ["control", "candidate"] {
        let summaries = stand_in.summaries(arm);
        let of = |key: &str| summaries.iter().map(|summary| summary[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("status"), ["finished", "finished"], "{arm}");
        assert!(of("initial_weights_sha256")[0] != of("initial_weights_sha256")[1], "{arm}: {summaries:?}");
        let evidence = of("arm");
        assert!(evidence.iter().all(|arm| arm["seed_requests"] == 1), "{evidence:?}");
        assert_eq!((&evidence[0]["first_losses"][0], &evidence[1]["first_losses"][0]), (&6.042.into(), &6.043.into()));
        assert_eq!(sh(&stand_in.project.path().join(arm), "git status --porcelain --ignored"), "", "{arm}");
    }
    let flags = stand_in.summaries("candidate")[0]["arm"]["flags"].to_string();
    assert!(flags.contains("--warmdown-ratio=0.5") && !flags.contains("--warmdown-ratio=0.65"), "{flags}");

    let card = stand_in.json("scorecard.json");
    let candidate = card["cells"].as_array().expect("cells").iter().find(|cell| cell["label"] == "candidate");
    let candidate = candidate.expect("a cell").clone();
    assert_eq!(candidate["quality"]["method"], "paired", "{candidate:#}");
    let blocks = candidate["speed_variants"][0]["blocks"].as_array().expect("blocks").clone();
    assert_eq!(blocks.iter().map(|block| block["baseline_first"] == true).collect::<Vec<_>>(), [true, false]);
    assert!(candidate["quality"]["reason"].as_str().is_some_and(|reason| reason.contains("SDPA")), "{candidate:#}");

    let report = std::fs::read_to_string(stand_in.project.path().join("reports/tiny.md")).expect("a report");
    assert!(report.contains("3.5 - 0.1 * step + torch.SEED[0] / 1000 + -0.2"), "{report}");
    assert!(report.contains("Seeds vary the initial weights alone"), "{report}");
    stand_in.project.run(&["validate", "results"]).exits(0);
    stand_in.project.run(&["verify", "results"]).exits(0);
    // What is done needs no checkout.
    let again = stand_in.project.run(&["run", "tiny.yaml", "--allow-hardware-mismatch"]).exits(0);
    assert!(again.stdout().contains("all 4 runs were done before"), "{}", again.stdout());
}

#[test]
fn a_checkout_that_can_not_serve_is_refused_before_anything_runs() {
    let refuse = |stand_in: &StandIn, arguments: &[&str], words: &str| {
        let ran = stand_in.project.run(&[&["run", "tiny.yaml", "--allow-hardware-mismatch"], arguments].concat());
        let ran = ran.exits(1);
        assert!(ran.told().contains(words), "{words}: {}", ran.stderr());
        assert!(stand_in.project.files("results").is_empty(), "{words}");
    };
    let stand_in = StandIn::new(SEEDING, "pass");
    let both = ["--checkout", "control=control", "--checkout", "candidate=candidate", "--python", "./python"];
    refuse(&stand_in, &[], "--checkout control=FOLDER");
    refuse(&stand_in, &["--checkout", "control", "--python", "./python"], "it is at commit");
    let inside = std::fs::read_to_string(stand_in.project.path().join("tiny.yaml")).expect("a spec");
    stand_in.project.write("tiny.yaml", &inside.replace(", flags", ", checkout: candidate, flags"));
    refuse(&stand_in, &["--checkout", "control=control", "--python", "./python"], "inside the project");
    stand_in.project.write("candidate/torch.py", "changed");
    refuse(&stand_in, &both, "M torch.py");
    stand_in
        .project
        .write("tiny.yaml", &SPEC.replace("CONTROL", &"a".repeat(40)).replace("CANDIDATE", &"b".repeat(40)));
    refuse(&stand_in, &both, "the spec pins aaaa");
    let twice = ["--checkout", "candidate=a", "--checkout", "candidate=b"];
    let ran = stand_in.project.run(&[&["run", "tiny.yaml", "--allow-hardware-mismatch"], &twice[..]].concat()).exits(2);
    assert!(ran.told().contains("two arguments"), "{}", ran.stderr());
}

#[test]
fn what_goes_wrong_in_an_arm_is_recorded_and_the_others_stand() {
    let crash = "if step == 3: raise RuntimeError('out of memory')";
    let cases = [
        (SEEDING, crash, "after 3 of 4 steps: RuntimeError: out of memory", "RuntimeError: out of memory"),
        (SEEDING, "if step == 2: time.sleep(600)", "stopped at the time limit of 6 seconds after 2 of 4 steps", "step"),
        (SEEDING, "print('done', step); continue", "no line reads as `step 00000/00060", "done 3"),
        (SEEDING, "if step == 1: loss = float('nan')", "the loss is no number (NaN) in step 1", "loss: nan"),
        (SEEDING, "this is no Python", "SyntaxError", "this is no Python"),
        ("torch.manual_seed(7)", "pass", "never asked for its fixed seed 42", "Minimum"),
        ("torch.manual_seed(42); torch.manual_seed(7)", "pass", "gave the same initial weights as 42", "Minimum"),
    ];
    for (seeding, mishap, reason, last_line) in cases {
        let stand_in = StandIn::new(seeding, mishap);
        // A time limit that even a busy machine keeps, and one seed that waits for it.
        let limited = ["--baseline-timeout", "6", "--set", "seeds=[42]"];
        let ran = stand_in.run(if mishap.contains("sleep") { &limited } else { &[] }).exits(1);
        assert!(ran.stdout().contains("failed: d2-candidate"), "{mishap}: {}", ran.stdout());
        let failed = stand_in.summaries("candidate").pop().expect("a summary");
        assert_eq!(failed["status"], "failed", "{mishap}");
        let said = failed["reason"].as_str().unwrap_or_default().to_string();
        assert!(said.contains(reason), "{mishap}: {said}");
        let lines = failed["arm"]["last_lines"].to_string();
        assert!(lines.contains(last_line), "{mishap}: {lines}");
        assert!(!lines.contains(&*stand_in.project.path().to_string_lossy()), "a path of this machine was recorded");
        assert!(stand_in.summaries("control").iter().all(|summary| summary["status"] == "finished"), "{mishap}");
        let report = std::fs::read_to_string(stand_in.project.path().join("reports/tiny.md")).expect("a report");
        assert!(report.contains("candidate failed"), "{mishap}: {report}");
        stand_in.project.run(&["verify", "results"]).exits(0);
    }
}

#[test]
fn a_rank_that_dies_fails_the_run() {
    let stand_in = StandIn::new(SEEDING, "if step == 2: time.sleep(600)");
    let ran = stand_in.run(&["--set", "hardware.device_count=2", "--only", "arm=candidate"]).exits(1);
    let failed = stand_in.summaries("candidate").pop().expect("a summary");
    let said = failed["reason"].as_str().unwrap_or_default().to_string();
    assert!(said.contains("rank 1 ended with exit code 3"), "{said}: {}", ran.stderr());
}

#[test]
fn a_checkout_is_set_up_from_a_clone_that_is_here() {
    let stand_in = StandIn::new(SEEDING, "pass");
    let commit = sh(&stand_in.project.path().join("control"), "git rev-parse HEAD");
    let setup =
        |more: &[&str]| stand_in.project.run(&[&["arm", "setup", "fresh", "--python", "./python"], more].concat());
    let absent = setup(&["--repository", "nowhere"]).exits(1);
    assert!(absent.told().contains("cloning the repository failed"), "{}", absent.stderr());
    let other = setup(&["--repository", "candidate", "--commit", &"0".repeat(40)]).exits(1);
    assert!(other.told().contains("it has no commit 0000"), "{}", other.stderr());
    let ready = setup(&["--commit", &commit]).exits(0);
    let line = format!("  fresh: {{ engine: karpathy, commit: {commit}, checkout: fresh }}");
    assert!(ready.stdout().contains(&line), "{}", ready.stdout());
    let places = ["--checkout", "control=fresh", "--checkout", "candidate=candidate", "--python", "./python"];
    let checked = stand_in.project.run(&[&["arm", "check", "tiny.yaml"], &places[..]].concat()).exits(0);
    assert_eq!(checked.stdout().matches("can be used as the baseline").count(), 2, "{}", checked.stdout());
}

/// The `meta_<step>.json` of a recorded run, as the real script would have written it.
fn meta_of(stand_in: &StandIn, run: &str) -> Value {
    let (plan, summary) = (stand_in.json(&format!("{run}/plan.json")), stand_in.json(&format!("{run}/summary.json")));
    let flags = summary["arm"]["flags"].as_array().expect("flags").iter();
    let flags = flags.filter_map(|flag| flag.as_str()?.strip_prefix("--")?.split_once('='));
    let flags: serde_json::Map<String, Value> = flags
        .map(|(name, value)| (name.replace('-', "_"), serde_json::from_str(value).unwrap_or(value.into())))
        .collect();
    serde_json::json!({
        "step": plan["num_iterations"], "model_config": plan["model"], "total_batch_size": plan["total_batch_size"],
        "val_bpb": summary["final_val_bpb"], "user_config": flags,
    })
}

#[test]
fn a_run_made_elsewhere_is_recorded_as_an_arms_and_decides_nothing() {
    let stand_in = StandIn::new(SEEDING, "pass");
    stand_in.run(&[]).exits(0);
    let runs = stand_in.project.files("results/tiny");
    let run_of = |name: &str| {
        let file = runs.iter().find(|file| file.contains(name) && file.ends_with("/summary.json")).expect("a run");
        file.split('/').nth(2).expect("a folder").to_string()
    };
    let (run, other_seed) = (run_of("d2-candidate-seed42"), run_of("d2-candidate-seed43"));
    let meta = meta_of(&stand_in, &run);
    let log = std::fs::read_to_string(stand_in.project.path().join(format!("results/tiny/{run}/output.log")));
    stand_in.project.write("elsewhere.log", &log.expect("the output"));
    stand_in.project.write("meta.json", &meta.to_string());
    let mut changed = meta.clone();
    changed["user_config"]["matrix_lr"] = 0.5.into();
    stand_in.project.write("changed.json", &changed.to_string());
    let import = |meta: &str, run: &str, more: &[&str]| {
        let words = ["arm", "import", "elsewhere.log", "--meta", meta, "--spec", "tiny.yaml", "--run", run];
        stand_in.project.run(&[&words[..], more].concat())
    };
    let refused = |meta: &str, run: &str, words: &str| {
        let told = import(meta, run, &[]).exits(2).told();
        assert!(told.contains(words), "{words}: {told}");
    };
    refused("meta.json", &run, "it is recorded already; `--force` replaces it");
    refused("meta.json", &other_seed, "its seed is 43, and the script alone always has 42");
    refused("changed.json", &run, "--matrix-lr 0.5 for 0.02");
    refused("meta.json", &run.replace("candidate", "candidat"), &format!("did you mean `{run}`?"));

    let before = stand_in.json(&format!("{run}/summary.json"));
    import("meta.json", &run, &["--force"]).exits(0);
    let after = stand_in.json(&format!("{run}/summary.json"));
    for same in ["final_val_bpb", "loss_trace_sha256", "steps", "tokens_per_second"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    assert_eq!(after["data_sha256"], "");
    let ran = stand_in.run(&[]).exits(0);
    assert!(ran.stdout().contains("all 4 runs were done before"), "{}", ran.stdout());
    let card = stand_in.json("scorecard.json");
    let candidate = card["cells"].as_array().expect("cells").iter().find(|cell| cell["label"] == "candidate");
    let quality = &candidate.expect("a cell")["quality"];
    assert_eq!(quality["verdict"], "not_comparable", "{quality:#}");
    assert!(quality["reason"].as_str().is_some_and(|reason| reason.contains("the imported run")), "{quality:#}");
    stand_in.project.run(&["verify", "results"]).exits(0);
}
