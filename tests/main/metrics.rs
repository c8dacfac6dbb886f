//! `metrics`, `completions` and `man` through the program.

use std::process::Command;

use super::program::{Project, root};

fn judged() -> String {
    root().join("fixtures/scorecard/project/results/judged").display().to_string()
}

#[test]
fn metrics_go_to_standard_output_or_to_files() {
    let project = Project::new();
    let printed = project.run(&["metrics", &judged(), "--to", "csv"]).exits(0).stdout();
    assert!(printed.starts_with("run_id,seed,repeat,kind,step,model.depth,"), "{printed:.200}");
    project.run(&["metrics", &judged(), "--to", "csv", "--out", "metrics.csv"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.path().join("metrics.csv")).unwrap(), printed);
    let lines = project.run(&["metrics", &judged(), "--to", "jsonl"]).exits(0).stdout();
    assert_eq!(lines.lines().count() + 1, printed.lines().count());

    let files = project.run(&["metrics", &judged(), "--to", "tensorboard", "--out", "board"]).exits(0).stdout();
    assert_eq!(files.lines().count(), 11, "one a run: {files}");
    assert_eq!(project.files("board").len(), 11);
    project.run(&["metrics", &judged(), "--to", "tensorboard"]).exits(2);
    project.run(&["metrics", "nothing", "--to", "csv"]).exits(2);
}

/// A Python of the user's with this module, or why there is none.
fn python_with(modules: &str) -> Option<String> {
    let python = std::env::var("NANOCHAT_TEST_PYTHON").ok().unwrap_or_else(|| "python3".to_owned());
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output().ok()?;
    found.status.success().then_some(python)
}

/// TensorBoard's own reader finds the values that the table has.
#[test]
#[ignore = "needs a Python with `tensorboard` (NANOCHAT_TEST_PYTHON names it)"]
fn tensorboard_reads_the_files() {
    let python = python_with("tensorboard").expect("a Python with tensorboard");
    let project = Project::new();
    project.run(&["metrics", &judged(), "--to", "tensorboard", "--out", "board"]).exits(0);
    project.run(&["metrics", &judged(), "--to", "csv", "--out", "metrics.csv"]).exits(0);
    let script = root().join("fixtures/metrics/read_tensorboard.py");
    let read =
        Command::new(python).arg(script).args(["board", "metrics.csv"]).current_dir(project.path()).output().unwrap();
    assert!(
        read.status.success(),
        "{}{}",
        String::from_utf8_lossy(&read.stdout),
        String::from_utf8_lossy(&read.stderr)
    );
}

/// The notebook loads recorded results with polars and draws their curves.
#[test]
#[ignore = "needs a Python with `nbconvert`, `ipykernel`, `polars` and `matplotlib` (NANOCHAT_TEST_PYTHON names it)"]
fn the_notebook_runs() {
    let python = python_with("nbconvert, ipykernel, polars, matplotlib").expect("a Python with nbconvert and polars");
    let project = Project::new();
    let notebook = root().join("fixtures/metrics/curves.ipynb");
    let ran = Command::new(python)
        .args(["-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir"])
        .arg(project.path())
        .arg(notebook)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let executed = std::fs::read_to_string(project.path().join("curves.ipynb")).unwrap();
    assert!(executed.contains("image/png"), "no curve was drawn");
}

#[test]
fn shells_complete_commands_experiments_axes_and_keys() {
    let project = Project::new();
    let script = project.run(&["completions", "bash"]).exits(0).stdout();
    assert!(script.contains("COMPLETE"), "{script}");
    project.run(&["completions", "tcsh"]).exits(2);
    project.write("results/books/experiment.json", "{}");
    project.write(
        "experiments/mine.yaml",
        "schema: nanochat.experiment/v1\nname: mine\nhardware: cpu\ndata: { source: synthetic, bytes: 1000000 }\n\
         tokenizer: { train: { vocab_size: 512 } }\nmodel: { depth: 2 }\nbudget: { iterations: 2 }\n\
         optimizer: { total_batch_size: 16384 }\nmatrix: { axes: { optimizer.matrix_lr: [0.02, 0.03] } }\n",
    );
    for (words, expected) in [
        (&["nanochat", "lea"][..], "leaderboard"),
        (&["nanochat", "report", "b"], "books"),
        (&["nanochat", "metrics", ""], "books"),
        (&["nanochat", "plan", "x.yaml", "--only", "optimizer.m"], "optimizer.matrix_lr=0.03"),
        (&["nanochat", "plan", "x.yaml", "--set", "budget.it"], "budget.iterations="),
    ] {
        let index = (words.len() - 1).to_string();
        let mut command = project.command(&[&["--"], words].concat());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_COMPLETE_COMP_TYPE", "9");
        command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_SPACE", "true");
        let completed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(completed.lines().any(|line| line == expected), "{words:?}: {completed}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let project = Project::new();
    project.run(&["man", "--out", "man"]).exits(0);
    let pages = project.files("man");
    for page in ["man/nanochat.1", "man/nanochat-run.1", "man/nanochat-bench-train.1", "man/nanochat-init.1"] {
        assert!(pages.iter().any(|found| found == page), "{page}: {pages:?}");
    }
    let run = std::fs::read_to_string(project.path().join("man/nanochat-run.1")).unwrap();
    assert!(run.contains(".TH nanochat-run 1") && run.contains("nanochat run"), "{run}");
}
