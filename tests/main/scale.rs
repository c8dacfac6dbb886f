//! What the largest sweeps and a reader of the page cost. These measure, so they are run by hand on an idle machine:
//! `cargo test --release --test main scale:: -- --ignored --nocapture --test-threads 1`.

use std::io::BufRead as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::program::Project;
use super::run_experiment::TINY;
use super::serve::Served;

/// Pairs of training with a reader and without.
const PAIRS: usize = 12;
/// Time of each of both.
const WINDOW: Duration = Duration::from_secs(20);
/// The quantile of Student's t for 95% and 11 degrees of freedom.
const T: f64 = 2.201;

#[test]
#[ignore = "measures: cargo test --release --test main scale:: -- --ignored --nocapture --test-threads 1"]
fn ten_thousand_runs_are_planned_and_shown_as_jobs_in_ten_seconds() {
    let project = Project::new();
    let values = |first: u64| (0..10).map(|n| format!("0.{:03}", first + n)).collect::<Vec<_>>().join(", ");
    let axes = format!(
        "matrix:\n  axes:\n    optimizer.matrix_lr: [{}]\n    optimizer.weight_decay: [{}]\n    optimizer.embedding_lr: [{}]\n",
        values(10),
        values(100),
        values(200)
    );
    let spec = TINY.replace("seed: 7", "seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]").replace("repeats: 1", "repeats: 0");
    project.write("tiny.yaml", &(spec + &axes));
    let begun = Instant::now();
    let shown = project.run(&["run", "tiny.yaml", "--on", "slurm", "--dry-run"]).exits(0).stdout();
    let seconds = begun.elapsed().as_secs_f64();
    assert!(shown.contains("# 10000 runs in 10000 elements"), "{}", shown.lines().next().unwrap_or_default());
    println!("a dry run of 10,000 runs: {seconds:.2} s");
    assert!(seconds < 10.0);
}

#[test]
#[ignore = "measures: cargo test --release --test main scale:: -- --ignored --nocapture --test-threads 1"]
fn two_thousand_run_folders_are_listed_in_two_seconds() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("repeats: 1", "repeats: 0"));
    project.run(&["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"]).exits(0);
    let files = project.files("results/tiny");
    let run = files.iter().find_map(|file| file.strip_suffix("/summary.json")).expect("a run").to_string();
    let id = run.rsplit('/').next().expect("an id").to_string();
    let mut ids = vec![id.clone()];
    for number in 1..2000 {
        let copy = format!("{id}-{number}");
        let folder = project.path().join("results/tiny").join(&copy);
        std::fs::create_dir(&folder).expect("a folder");
        for file in
            files.iter().filter_map(|file| file.strip_prefix(&format!("{run}/"))).filter(|file| !file.contains('/'))
        {
            let bytes = std::fs::read(project.path().join(&run).join(file)).expect("read");
            let bytes = String::from_utf8(bytes)
                .map_or_else(|error| error.into_bytes(), |text| text.replace(&id, &copy).into());
            std::fs::write(folder.join(file), bytes).expect("written");
        }
        ids.push(copy);
    }
    let record = project.path().join("results/tiny/experiment.json");
    let text = std::fs::read_to_string(&record).expect("the record");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["runs"] = ids.into();
    std::fs::write(record, value.to_string()).expect("written");
    for arguments in [&["list"][..], &["list", "tiny"], &["watch", "tiny"]] {
        let begun = Instant::now();
        let printed = project.run(arguments).exits(0).stdout();
        let seconds = begun.elapsed().as_secs_f64();
        assert!(printed.contains("2000") || printed.contains("-1999"), "{printed}");
        println!("`nanochat {}` over 2,000 run folders: {seconds:.2} s", arguments.join(" "));
        assert!(seconds < 2.0);
    }
}

/// Steps that a run has behind it, by its log.
fn steps(project: &Project) -> u64 {
    let files = project.files("results/tiny");
    let Some(log) = files.iter().find(|file| file.ends_with("/log.jsonl")) else { return 0 };
    let file = std::fs::File::open(project.path().join(log)).expect("the log");
    std::io::BufReader::new(file).lines().map_while(Result::ok).filter(|line| line.contains("\"loss\"")).count() as u64
}

/// Steps a second over a window, with a server and a reader that asks as the page does, or without both. The server's processor
/// time is added to `spent`.
fn rate(project: &Project, with_reader: bool, spent: &mut f64) -> f64 {
    let served = with_reader.then(|| Served::start(project, &["127.0.0.1:0"]));
    let (first, begun) = (steps(project), Instant::now());
    while begun.elapsed() < WINDOW {
        let Some(served) = &served else {
            std::thread::sleep(WINDOW - begun.elapsed().min(WINDOW));
            continue;
        };
        let run =
            project.files("results/tiny").iter().find_map(|file| file.strip_suffix("/log.jsonl").map(String::from));
        let run = run.unwrap_or_default();
        let run = run.rsplit('/').next().unwrap_or_default();
        let log = format!("/api/log?name=tiny&run={run}");
        for path in ["/api/experiments", "/api/experiment?name=tiny", "/api/curves?name=tiny", log.as_str()] {
            assert_eq!(served.get(path).0, 200, "{path}");
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    *spent += served.as_ref().and_then(Served::processor_seconds).unwrap_or_default();
    (steps(project) - first) as f64 / begun.elapsed().as_secs_f64()
}

struct Training(Child);

impl Drop for Training {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "measures for eight minutes: cargo test --release --test main scale::a_reader -- --ignored --nocapture"]
fn a_reader_of_the_page_costs_the_training_less_than_a_hundredth() {
    let project = Project::new();
    let spec = TINY.replace("iterations: 12", "iterations: 1000000").replace("every: 5, tokens", "every: 0, tokens");
    let spec = spec.replace("every: 4, keep", "every: 0, keep").replace("repeats: 1", "repeats: 0");
    project.write("tiny.yaml", &spec.replace("n_embd: 32, head_dim: 16", "n_embd: 128, head_dim: 64"));
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];
    let mut command = project.command(&run);
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let _training = Training(started);
    let begun = Instant::now();
    while steps(&project) < 100 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no steps");
        std::thread::sleep(Duration::from_millis(200));
    }
    let (mut ratios, mut spent) = (Vec::new(), 0.0);
    for pair in 0..PAIRS {
        // The order alternates, so that what drifts weighs on both.
        let first = rate(&project, pair % 2 == 0, &mut spent);
        let second = rate(&project, pair % 2 == 1, &mut spent);
        let (with, without) = if pair % 2 == 0 { (first, second) } else { (second, first) };
        println!("pair {}: {with:.1} steps a second with a reader, {without:.1} without", pair + 1);
        ratios.push((with / without).ln());
    }
    let mean = ratios.iter().sum::<f64>() / PAIRS as f64;
    let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (PAIRS - 1) as f64;
    let half = T * (variance / PAIRS as f64).sqrt();
    let (low, high) = ((mean - half).exp(), (mean + half).exp());
    println!("steps with a reader over steps without: {:.4}, 95% interval {low:.4} to {high:.4}", mean.exp());
    // The rates of a shared machine scatter by several percent; the server's processor time doesn't, and bounds what it takes.
    let share = spent / (PAIRS as f64 * WINDOW.as_secs_f64());
    println!("processor time of the server: {:.2}% of one core", 100.0 * share);
    assert!(share < 0.01, "the server takes {:.2}% of a core", 100.0 * share);
    assert!(mean.exp() > 0.99, "a reader costs {:.2}%", 100.0 * (1.0 - mean.exp()));
}
