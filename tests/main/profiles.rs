//! The project's own specs on every hardware profile: planned, or refused with what to change.

use super::program::{Project, Ran, one_line, root};

/// What `plan` prints for a spec on a profile, without what depends on this machine.
fn planned(project: &Project, spec: &str, profile: &str) -> String {
    let mut command = project.command(&["plan", spec, "--profile", profile]);
    let ran = Ran(command.env("HOME", project.path()).output().expect("the program starts"));
    if ran.code() != 0 {
        return format!("refused ({}): {}", ran.code(), ran.told());
    }
    // The first run of three seeds and one repeat, and what is said of all of them.
    let text = ran.stdout();
    let lines =
        text.lines().filter(|line| !line.is_empty() && !line.contains("-seed43-") && !line.contains("-seed44-"));
    let lines = lines.filter(|line| !line.contains("-repeat") && !line.contains("the disk"));
    lines.map(one_line).collect::<Vec<_>>().join("\n")
}

fn project() -> Project {
    let project = Project::new();
    for spec in ["d12-matched", "d20-matched"] {
        let text = std::fs::read_to_string(root().join(format!("experiments/{spec}.yaml"))).expect("a spec");
        project.write(&format!("experiments/{spec}.yaml"), &text);
    }
    project
}

fn profiles(project: &Project) -> Vec<String> {
    let files = project.files("experiments/hardware").into_iter();
    files.filter_map(|file| Some(file.rsplit('/').next()?.strip_suffix(".yaml")?.to_owned())).collect()
}

fn on_every_profile(spec: &str) -> String {
    let project = project();
    let spec = format!("experiments/{spec}.yaml");
    let plans = profiles(&project).into_iter().filter(|name| name != "cuda");
    plans.map(|name| format!("== {name}\n{}\n\n", planned(&project, &spec, &name))).collect()
}

#[test]
fn d12_matched_is_planned_or_refused_on_every_profile() {
    insta::assert_snapshot!(on_every_profile("d12-matched"));
}

#[test]
fn d20_matched_is_planned_or_refused_on_every_profile() {
    insta::assert_snapshot!(on_every_profile("d20-matched"));
}

/// Its memory is the machine's, so that its answer is too; it is one of the two.
#[test]
fn the_profile_of_any_gpu_is_planned_or_refused() {
    let project = project();
    let answer = planned(&project, "experiments/d12-matched.yaml", "cuda");
    assert!(
        answer.contains("rate") || answer.contains("evaluations: ") || answer.starts_with("refused (2)"),
        "{answer}"
    );
}

#[test]
fn a_batch_that_does_not_fit_is_answered_with_one_that_does() {
    let project = project();
    let small = ["plan", "experiments/d12-matched.yaml", "--profile", "cpu", "--set", "hardware.memory_gib=60"];
    let refused = project.run(&[&small[..], &["--set", "hardware.device_batch_size=64"]].concat()).exits(2).told();
    let rows = refused.split("set hardware.device_batch_size to ").nth(1).expect("a batch").split(',').next();
    let batch = format!("hardware.device_batch_size={}", rows.expect("a number"));
    assert!(refused.contains("the step stays at 524288 tokens"), "{refused}");
    let fitting = project.run(&[&small[..], &["--set", &batch, "--format", "json"]].concat()).exits(0);
    let document: serde_json::Value = serde_json::from_str(&fitting.stdout()).expect("JSON");
    assert_eq!(document["runs"][0]["total_batch_size"], 524_288);
    let tiny = [&small[..4], &["--set", "hardware.memory_gib=0.5"]].concat();
    let refused = project.run(&tiny).exits(2).told();
    assert!(refused.contains("lower model.depth"), "{refused}");
}
