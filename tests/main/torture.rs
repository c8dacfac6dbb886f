//! Kills at random moments, and going on: what comes out is what an undisturbed run gives.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nanochat::artifacts::read_evals;
use serde_json::Value;

use super::program::{Project, root};

/// Small steps, many saves, many evaluations of both kinds, so that kills strike all of them.
const SPEC: &str = "\
schema: nanochat.experiment/v1
name: tiny
baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
seed: 7
hardware: { profile: cpu-smoke, device_batch_size: 2 }
data: { source: synthetic, seed: 3, bytes: 60000 }
tokenizer: { path: tokenizer.tiktoken }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 32, window_pattern: L }
budget: { iterations: 60 }
optimizer: { total_batch_size: 128, warmup_steps: 2 }
eval: { every: 3, tokens: 2048, core: { every: 10, max_per_task: 12, bundle: bundle } }
checkpoint: { every: 2, keep: 2 }
reproducibility: { repeats: 0 }
";

const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch"];

fn project() -> Project {
    let project = Project::new();
    project.write("tiny.yaml", SPEC);
    let parity = root().join("fixtures/parity");
    std::fs::copy(parity.join("tokenizer_310.tiktoken"), project.path().join("tokenizer.tiktoken")).unwrap();
    copy(&parity.join("eval_bundle"), &project.path().join("bundle"));
    project
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// What must be the same: hashes, figures, and every evaluation.
fn outcome(project: &Project) -> (Vec<Value>, Vec<(u64, u64, Option<f64>, Option<f64>)>) {
    let files = project.files("results/tiny");
    let summary = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
    let text = std::fs::read_to_string(project.path().join(summary)).unwrap();
    let summary_json: Value = serde_json::from_str(&text).unwrap();
    let keys = ["status", "reason", "weights_sha256", "loss_trace_sha256", "first_batch_sha256", "final_val_bpb"];
    let more = ["min_val_bpb", "core_metric", "steps", "tokens", "train_loss"];
    let values = keys.iter().chain(&more).map(|key| summary_json[*key].clone()).collect();
    let evals = read_evals(&project.path().join(summary.replace("summary.json", "evals.parquet"))).unwrap();
    (values, evals.into_iter().map(|row| (row.step, row.tokens, row.val_bpb, row.core_metric)).collect())
}

/// xorshift64*, so that a seed tells the whole course.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// When a child is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// Some time after its start.
    AnyTime,
    /// Some moments after a checkpoint was begun: within the save.
    InSave,
    /// Some moments after a checkpoint was published: within its read-back, the pruning, or the evaluation after it.
    AfterSave,
}

/// Whether a checkpoint is being written, and the newest one's step.
fn checkpoints(project: &Project) -> (bool, Option<String>) {
    let (mut partial, mut newest) = (false, None);
    let runs = std::fs::read_dir(project.path().join("results/tiny")).into_iter().flatten().flatten();
    for run in runs {
        for entry in std::fs::read_dir(run.path().join("checkpoints")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            partial |= name.starts_with("partial-");
            if name.starts_with("step_") {
                newest = newest.max(Some(name));
            }
        }
    }
    (partial, newest)
}

/// Kills a run `kills` times, over as many whole runs as that takes, each of which must end like `expected`.
fn torture(kills: u32, seed: u64) {
    println!("seed {seed}, {kills} kills");
    let undisturbed = project();
    let start = Instant::now();
    undisturbed.run(RUN).exits(0);
    let whole = start.elapsed();
    let expected = outcome(&undisturbed);
    let mut random = Random(seed | 1);
    let (mut killed, mut runs, mut struck) = (0, 0, [0u32; 3]);
    while killed < kills {
        let project = project();
        runs += 1;
        loop {
            if killed == kills {
                project.run(RUN).exits(0);
                break;
            }
            let moment = [Moment::AnyTime, Moment::InSave, Moment::AfterSave][random.below(3) as usize];
            // A run goes on long enough for some of its saves to pass before the one that is struck.
            let passes = random.below(4);
            let delay = match moment {
                Moment::AnyTime => Duration::from_micros(random.below(1 + whole.as_micros() as u64)),
                Moment::InSave => Duration::from_micros(random.below(4_000)),
                Moment::AfterSave => Duration::from_micros(random.below(12_000)),
            };
            let mut child = project.command(RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let start = Instant::now();
            let (mut last, mut seen) = (checkpoints(&project), 0);
            let reached = loop {
                if child.try_wait().unwrap().is_some() {
                    break false;
                }
                let now = checkpoints(&project);
                seen += match moment {
                    Moment::AnyTime => 0,
                    Moment::InSave => u64::from(now.0 && !last.0),
                    Moment::AfterSave => u64::from(now.1 > last.1),
                };
                last = now;
                if seen > passes || (moment == Moment::AnyTime && start.elapsed() >= delay) {
                    break true;
                }
                std::thread::sleep(Duration::from_micros(100));
            };
            if reached && moment != Moment::AnyTime {
                std::thread::sleep(delay);
            }
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "the run failed by itself: {status}");
            killed += 1;
            struck[moment as usize] += 1;
        }
        assert_eq!(outcome(&project), expected, "run {runs}, after {killed} kills of seed {seed}");
    }
    let [any, saves, after] = struck;
    println!("{killed} kills ({any} at any time, {saves} in saves, {after} after saves) over {runs} runs: all equal");
}

#[test]
fn a_run_that_is_killed_five_times_ends_as_if_it_never_was() {
    torture(5, 20_260_701);
}

/// `NANOCHAT_TORTURE_SEED=N NANOCHAT_TORTURE_KILLS=N cargo test --release --test main torture -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_run_that_is_killed_two_hundred_times_ends_as_if_it_never_was() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("NANOCHAT_TORTURE_SEED").unwrap_or_else(clock);
    torture(number("NANOCHAT_TORTURE_KILLS").unwrap_or(200) as u32, seed);
}
