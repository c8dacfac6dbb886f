//! Plans for a GPU: carried out there where there is one, and refused with the reason where there is none.

use serde_json::Value;

use super::program::{Project, Ran};
use super::run_experiment::TINY;

/// What keeps this program from a GPU on this machine; none where one can be used.
fn obstacle(project: &Project) -> Option<String> {
    let report: Value =
        serde_json::from_str(&project.run(&["doctor", "--no-measure", "--format", "json"]).stdout()).expect("JSON");
    report["cuda"]["problem"].as_str().map(str::to_owned)
}

#[track_caller]
fn names_the_obstacle(ran: &Ran, obstacle: &str) {
    // Long lines are wrapped for the terminal.
    let words = |text: &str| {
        text.split(|c: char| c.is_whitespace() || c == '│')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    // A document has the message and its help in one line, an error prints the help below.
    let printed = words(&ran.stderr());
    for part in obstacle.split("; ") {
        assert!(printed.contains(&words(part)), "{}\nwithout\n{part}", ran.stderr());
    }
}

#[test]
fn a_run_on_a_gpu_is_bitwise_or_says_what_is_missing() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("hardware: cpu-smoke", "hardware: cuda"));
    let ran =
        |arguments: &[&str]| project.run(&[&["run", "tiny.yaml", "--allow-hardware-mismatch"], arguments].concat());
    if let Some(obstacle) = obstacle(&project) {
        println!("skipped on a GPU: {obstacle}");
        for dtype in ["f32", "bf16"] {
            let refused = ran(&["--set", &format!("hardware.dtype={dtype}")]).exits(1);
            names_the_obstacle(&refused, &obstacle);
        }
        assert_eq!(project.files("results"), Vec::<String>::new(), "something was left");
        return;
    }
    for dtype in ["f32", "bf16"] {
        let ran = ran(&["--force", "--set", &format!("hardware.dtype={dtype}")]).exits(0);
        assert!(ran.stdout().contains("bitwise"), "{}", ran.stdout());
    }
    for file in project.files("results").iter().filter(|file| file.ends_with("environment.json")) {
        let text = std::fs::read_to_string(project.path().join(file)).expect("a document");
        let environment: Value = serde_json::from_str(&text).expect("JSON");
        assert!(environment["gpus"].as_array().is_some_and(|gpus| !gpus.is_empty()), "{file}");
        assert!(environment["libraries"]["cuda"].is_string(), "{file}");
    }
}

#[test]
fn commands_on_a_gpu_work_there_or_say_what_is_missing() {
    let project = Project::new();
    let fixture = super::program::root().join("fixtures/parity");
    let files: Vec<String> = std::fs::read_dir(&fixture)
        .expect("fixtures")
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".safetensors"))
        .collect();
    let mut parity = vec!["parity", "--device", "cuda"];
    parity.extend(files.iter().map(String::as_str));
    match obstacle(&project) {
        None => {
            project.run(&parity).exits(0);
        }
        Some(obstacle) => {
            println!("skipped on a GPU: {obstacle}");
            names_the_obstacle(&project.run(&parity).exits(1), &obstacle);
        }
    }
}

#[test]
fn a_gpu_is_measured_or_the_command_says_what_is_missing() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("hardware: cpu-smoke", "hardware: cuda"));
    let arguments = ["bench", "gpu", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.dtype=bf16"];
    if let Some(obstacle) = obstacle(&project) {
        println!("skipped on a GPU: {obstacle}");
        let refused = project.run(&arguments).exits(1);
        assert!(refused.stderr().contains("help: "), "{}", refused.stderr());
        return;
    }
    let measured = project.run(&arguments).exits(0);
    assert!(measured.stdout().contains("micro-step as a graph"), "{}", measured.stdout());
}
