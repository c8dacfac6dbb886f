//! What is recorded stays: other values, another spec of the same name, another folder.

use super::program::{Project, one_line};
use super::run_experiment::TINY;

const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch"];

fn record(project: &Project, name: &str) -> String {
    std::fs::read_to_string(project.path().join(format!("results/{name}/experiment.json"))).expect("a record")
}

#[test]
fn values_laid_over_a_spec_never_replace_what_is_recorded() {
    let project = Project::new();
    project.write(
        "tiny.yaml",
        &TINY.replace("{ iterations: 12 }", "{ iterations: 3 }").replace("repeats: 1", "repeats: 0"),
    );
    project.run(RUN).exits(0);
    let original = record(&project, "tiny");
    assert!(original.contains("\"spec\": \"tiny.yaml\""), "{original}");
    let other = ["--set", "budget.iterations=2"];
    let planned = project.run(&[&["plan", "tiny.yaml"], &other[..]].concat()).exits(0);
    assert!(planned.told().contains("recorded as `tiny-set-"), "{}", planned.told());
    let ran = project.run(&[RUN, &other].concat()).exits(0);
    assert!(
        ran.told().contains("other ones than those recorded as `tiny`, so they are recorded as `tiny-set-"),
        "{}",
        ran.told()
    );
    assert_eq!(record(&project, "tiny"), original);
    // The same values again are the same experiment.
    let again = project.run(&[RUN, &other].concat()).exits(0);
    assert!(again.stdout().contains("done before"), "{}", again.stdout());
    let listed = project.run(&["list"]).exits(0).stdout();
    assert_eq!(listed.matches("tiny-set-").count(), 1, "{listed}");
    project.run(&["verify"]).exits(0);
    // A part of what is planned, and a name of the user's own, are taken as they are.
    let named = project.run(&[RUN, &other, &["--set", "name=mine"]].concat()).exits(0);
    assert!(!named.told().contains("-set-"), "{}", named.told());
    assert_eq!(record(&project, "tiny"), original);
}

#[test]
fn a_spec_elsewhere_of_the_same_name_is_refused() {
    let project = Project::new();
    let spec = TINY.replace("{ iterations: 12 }", "{ iterations: 2 }").replace("repeats: 1", "repeats: 0");
    project.write("s1/a.yaml", &spec);
    project.write("s2/b.yaml", &spec.replace("iterations: 2", "iterations: 3"));
    let run = |spec: &str, more: &[&str]| project.run(&[&["run", spec, "--allow-hardware-mismatch"], more].concat());
    run("s1/a.yaml", &[]).exits(0);
    let original = record(&project, "tiny");
    let refused = run("s2/b.yaml", &[]).exits(1);
    assert!(refused.told().contains("made by s1/a.yaml, and s2/b.yaml has the same name"), "{}", refused.told());
    assert!(refused.told().contains("--force") && refused.told().contains("--set name="), "{}", refused.told());
    assert_eq!(record(&project, "tiny"), original);
    run("s1/../s1/a.yaml", &[]).exits(0);
    run("s2/b.yaml", &["--force"]).exits(0);
    assert!(record(&project, "tiny").contains("s2/b.yaml"));
    // A spec that was moved is the same one.
    std::fs::rename(project.path().join("s2/b.yaml"), project.path().join("moved.yaml")).expect("moved");
    run("moved.yaml", &[]).exits(0);
}

#[test]
fn every_command_in_a_subfolder_tells_of_the_project() {
    let project = Project::new();
    project.write("experiments/tiny.yaml", TINY);
    project.write("results/a.txt", "");
    // Results that grew there before don't make it a project.
    project.write("notes/results/a.txt", "");
    for (arguments, told) in [
        (&["list"][..], true),
        (&["plan", "../experiments/tiny.yaml"], true),
        (&["verify"], true),
        (&["compare", "HEAD"], true),
        (&["leaderboard"], true),
        (&["validate", "../experiments/tiny.yaml"], true),
        (&["list", "--project", ".."], false),
        (&["schema", "--check"], false),
    ] {
        let ran = project.command(arguments).current_dir(project.path().join("notes")).output().expect("ran");
        let said = one_line(&String::from_utf8_lossy(&ran.stderr));
        assert_eq!(said.contains("lies in the project"), told, "{arguments:?}: {said}");
    }
    assert!(!project.run(&["list"]).told().contains("lies in the project"));
}

/// `plan` and `list` go by the rule that `run` goes by: a run is done only with the inputs that it was made with.
#[test]
fn plan_and_list_compare_the_inputs_of_recorded_runs() {
    let project = Project::new();
    let data = "{ source: synthetic, seed: 3, bytes: 400000 }";
    let spec = TINY.replace(data, "{ source: jsonl, path: data }").replace("vocab_size: 300", "vocab_size: 270");
    project.write(
        "tiny.yaml",
        &spec.replace("{ iterations: 12 }", "{ iterations: 2 }").replace("repeats: 1", "repeats: 0"),
    );
    let shard = |name: &str, word: &str| {
        let line = |number: usize| format!("{{\"text\": \"{}\"}}\n", format!("{word} {number} ").repeat(80));
        project.write(&format!("data/{name}.jsonl"), &(0..60).map(line).collect::<String>());
    };
    for (name, word) in [("a", "first"), ("b", "second")] {
        shard(name, word);
    }
    project.run(RUN).exits(0);
    let both = |what: &str| {
        let planned = one_line(&project.run(&["plan", "tiny.yaml"]).exits(0).stdout());
        let listed = [&["list"][..], &["list", "tiny"]].map(|arguments| project.run(arguments).exits(0).stdout());
        for told in [&planned, &listed[0], &listed[1]] {
            assert!(told.contains(what), "{what}: {told}");
        }
    };
    for arguments in [&["plan", "tiny.yaml"][..], &["list"], &["list", "tiny"]] {
        let told = project.run(arguments).exits(0).stdout();
        assert!(!told.contains("changed") && !told.contains("inputs"), "{told}");
    }
    for name in ["c", "d", "e"] {
        shard(name, name);
    }
    both("data (3 shards added)");
    for name in ["c", "d", "e"] {
        std::fs::remove_file(project.path().join(format!("data/{name}.jsonl"))).expect("removed");
    }
    shard("a", "other");
    both("data (1 shard replaced)");
    std::fs::rename(project.path().join("data"), project.path().join("gone")).expect("renamed");
    both("inputs not here to check");
}
