//! Recorded runs that are trained again, and run folders that nothing plans any more.

use std::path::PathBuf;

use nanochat_artifacts::{
    RunFolder, Summary, file_sha256, loss_trace_sha256, read_document, read_steps, write_document, write_steps,
};

use super::program::Project;
use super::run_experiment::TINY;

const RUN: &[&str] = &["run", "experiments/tiny.yaml", "--allow-hardware-mismatch"];

/// One run of the tiny spec, judged and reported.
fn ran(spec: &str) -> (Project, RunFolder) {
    let project = Project::new();
    project.write("experiments/tiny.yaml", &spec.replace("repeats: 1", "repeats: 0"));
    project.run(RUN).exits(0);
    let files = project.files("results/tiny");
    let summary = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
    let folder: PathBuf = project.path().join(summary).parent().expect("a folder").to_path_buf();
    (project, RunFolder::at(folder))
}

/// A loss that is changed in the table and everywhere after it passes `verify`, which can't know better. A replay does.
#[test]
fn a_rewritten_table_is_found_out_by_a_replay() {
    let (project, run) = ran(TINY);
    let same = project.run(&["verify", "--replay", "1"]).exits(0).stdout();
    assert!(same.contains("the same losses and weights as recorded, bit for bit"), "{same}");

    let mut steps = read_steps(&run.steps()).expect("steps");
    let last = steps.last_mut().expect("a step");
    last.loss -= 0.01;
    let (number, loss) = (last.step, last.loss);
    write_steps(&run.steps(), &steps).expect("written");
    let mut summary: Summary = read_document(&run.summary()).expect("a summary");
    summary.train_loss = Some(loss);
    summary.loss_trace_sha256 = Some(loss_trace_sha256(&steps));
    summary.files_sha256.insert("steps.parquet".into(), file_sha256(&run.steps()).expect("a hash"));
    write_document(&run.summary(), &summary).expect("written");
    project.run(&["report", "tiny", "--recompute"]).exits(0);
    project.run(&["leaderboard"]).exits(0);
    let unseen = project.run(&["verify"]).exits(0).stdout();
    assert!(unseen.contains("all as recomputed"), "{unseen}");
    let found = project.run(&["verify", "--replay", "1", "--seed", "3"]).exits(1).stdout();
    assert!(found.contains(&format!("step {number}: a loss of {loss} was recorded")), "{found}");
    assert!(found.contains("another loss_trace_sha256 than recorded"), "{found}");
    let annotated = project.run(&["verify", "--replay", "1", "--format", "github"]).exits(1).stdout();
    assert!(annotated.contains("::error file=results/tiny/") && annotated.contains("title=replay::"), "{annotated}");
}

#[test]
fn a_run_whose_inputs_are_gone_cannot_be_replayed_and_says_so() {
    let project = Project::new();
    let line = |n: usize| format!("{{\"text\": \"{}\"}}\n", format!("word{} and more ", n * 7 % 23).repeat(60));
    for (name, count) in [("a", 60), ("b", 20)] {
        project.write(&format!("data/{name}.jsonl"), &(0..count).map(line).collect::<String>());
    }
    let spec = TINY
        .replace("{ source: synthetic, seed: 3, bytes: 400000 }", "{ source: jsonl, path: data }")
        .replace("vocab_size: 300", "vocab_size: 270")
        .replace("repeats: 1", "repeats: 0");
    project.write("experiments/tiny.yaml", &spec);
    project.run(RUN).exits(0);
    std::fs::rename(project.path().join("data"), project.path().join("elsewhere")).expect("moved");
    let told = project.run(&["verify", "--replay", "1"]).exits(5).stdout();
    assert!(told.contains("can't be replayed here: its inputs aren't here"), "{told}");
    assert!(told.contains("data"), "{told}");
}

#[test]
fn what_nothing_plans_any_more_is_named_and_pruned() {
    let (project, old) = ran(TINY);
    let changed = TINY.replace("repeats: 1", "repeats: 0").replace("iterations: 12", "iterations: 10");
    project.write("experiments/tiny.yaml", &changed);
    project.run(RUN).exits(0);
    let named = project.run(&["verify"]).exits(1).stdout();
    assert!(named.contains("`nanochat prune` removes what no spec plans"), "{named}");
    project.write("notes.txt", "mine");
    std::fs::write(old.path().join("notes.txt"), "mine").expect("written");

    let unasked = project.run(&["prune"]);
    assert_eq!(unasked.code(), 2, "{}", unasked.stderr());
    assert!(unasked.told().contains("nobody is asked here") && old.summary().is_file(), "{}", unasked.stderr());
    let pruned = project.run(&["prune", "--yes"]).exits(0).stdout();
    assert!(pruned.contains("removed the files of 1 runs") && pruned.contains("notes.txt"), "{pruned}");
    assert!(old.path().join("notes.txt").is_file(), "what is not the program's stays");
    assert!(!old.summary().exists() && !old.checkpoints().exists());
    assert!(project.run(&["verify"]).exits(0).stdout().contains("all as recomputed"));
    let again = project.run(&["prune"]).exits(0).stdout();
    assert!(again.contains("every run is planned"), "{again}");

    // A spec that can't be read might plan anything.
    project.write("experiments/broken.yaml", "schema: nanochat.experiment/v1\nnmae: x\n");
    let refused = project.run(&["prune", "--yes"]).exits(1);
    assert!(refused.told().contains("what it plans isn't known"), "{}", refused.stderr());
}

/// A link in the way is named, and what it leads to stays.
#[cfg(unix)]
#[test]
fn pruning_follows_no_link() {
    let (project, old) = ran(TINY);
    let changed = TINY.replace("repeats: 1", "repeats: 0").replace("iterations: 12", "iterations: 10");
    project.write("experiments/tiny.yaml", &changed);
    project.run(RUN).exits(0);
    project.write("elsewhere/step_000004/manifest.json", "{}");
    std::fs::remove_dir_all(old.checkpoints()).expect("removed");
    std::os::unix::fs::symlink(project.path().join("elsewhere"), old.checkpoints()).expect("a link");
    let refused = project.run(&["prune", "--yes"]);
    assert_eq!(refused.code(), 1, "{}", refused.stdout());
    assert!(refused.told().contains("link"), "{}", refused.stderr());
    assert!(project.path().join("elsewhere/step_000004/manifest.json").is_file());
}
