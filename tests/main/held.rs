//! Cases from reports of users and from attacks that behaved rightly when they were tried, so that they stay so.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::program::{Project, root};
use super::run_experiment::TINY;

/// The results of the fixture, in a project of its own.
fn judged() -> Project {
    let project = Project::new();
    copy(&root().join("fixtures/scorecard/project/results"), &project.path().join("results"));
    project
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied")),
        }
    }
}

/// Which shard is the last one, and so validation, hangs on every one: a link to nothing is an error wherever it stands.
#[test]
fn a_link_to_nothing_is_an_error_wherever_it_stands_among_shards() {
    for (place, target) in [("a", "nowhere"), ("c", "nowhere"), ("z", "nowhere"), ("z", "z.jsonl")] {
        let project = Project::new();
        for shard in ["b", "d", "n"] {
            project.write(&format!("data/{shard}.jsonl"), "{\"text\": \"x y z\"}\n{\"text\": \"x y\"}\n");
        }
        project.run(&["data", "inspect", "--data", "data"]).exits(0);
        symlink(target, project.path().join(format!("data/{place}.jsonl"))).expect("a link");
        let ran = project.run(&["data", "inspect", "--data", "data"]).exits(2);
        assert!(
            ran.told().contains(&format!("data/{place}.jsonl: a link to a file that isn't there")),
            "{}",
            ran.told()
        );
    }
    let project = Project::new();
    symlink("gone", project.path().join("data")).expect("a link");
    let ran = project.run(&["data", "inspect", "--data", "data"]).exits(2);
    assert!(ran.told().contains("no such folder or file"), "{}", ran.told());
}

/// What `run` would refuse is refused by every command that opens the spec, in the same words.
#[test]
fn an_evaluation_of_less_than_a_batch_is_refused_by_every_command() {
    let project = Project::new();
    let device = "hardware.device_batch_size=4";
    project.write("tiny.yaml", &TINY.replace("tokens: 512", "tokens: 1"));
    let plain = project.run(&["validate", "tiny.yaml"]).exits(2);
    assert!(plain.told().contains("less than one batch"), "{}", plain.told());
    for command in [&["plan"][..], &["run", "--allow-hardware-mismatch"], &["bench", "train"]] {
        let ran = project.run(&[command, &["tiny.yaml", "--set", device]].concat()).exits(2);
        assert!(ran.told().contains("less than one batch"), "{command:?}: {}", ran.told());
    }
}

#[test]
fn names_that_results_hold_are_refused_in_any_case_and_by_every_way() {
    let project = Project::new();
    project.write("tiny.yaml", TINY);
    for name in ["baselines", "Baselines", "BENCH", "leaderboard.md"] {
        let set = format!("name={name}");
        for command in [&["plan"][..], &["run", "--allow-hardware-mismatch"], &["noise", "--seeds", "2"]] {
            let ran = project.run(&[command, &["tiny.yaml", "--set", &set]].concat()).exits(2);
            assert!(ran.told().contains("can't be an experiment's name"), "{name} {command:?}: {}", ran.told());
        }
        project.write("named.yaml", &TINY.replace("name: tiny", &format!("name: {name}")));
        project.run(&["validate", "named.yaml"]).exits(2);
    }
    assert!(!project.path().join("results").exists());
}

/// A reader that leaves doesn't turn a failure into a success.
#[test]
fn exit_codes_of_failures_survive_a_closed_pipe() {
    let project = judged();
    project.write("broken.yaml", "schema: nanochat.experiment/v1\nnme: x\n");
    let record = "results/judged/experiment.json";
    let text = std::fs::read_to_string(project.path().join(record)).expect("a record");
    project.write(record, &format!("{text}\n"));
    for (arguments, code) in [(&["verify"][..], 1), (&["validate", "broken.yaml"], 2)] {
        assert_eq!(project.run(arguments).code(), code, "{arguments:?}");
        let mut child =
            project.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("ended").code(), Some(code), "{arguments:?}");
    }
}

/// Links where the program writes: replaced, or named; what they lead to stays as it is.
#[test]
fn links_in_the_place_of_what_is_written_lead_nowhere() {
    let project = judged();
    project.write("target", "untouched");
    std::fs::create_dir_all(project.path().join("site")).expect("a folder");
    for (link, arguments, code) in [
        ("results/LEADERBOARD.md", &["leaderboard"][..], 0),
        ("reports/judged.md", &["report", "judged"], 0),
        ("site/index.html", &["site", "--out", "site"], 1),
    ] {
        let place = project.path().join(link);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        let _ = std::fs::remove_file(&place);
        symlink(project.path().join("target"), &place).expect("a link");
        project.run(arguments).exits(code);
        let text = std::fs::read_to_string(project.path().join("target")).expect("there");
        assert_eq!(text, "untouched", "{arguments:?}");
        assert_eq!(place.symlink_metadata().expect("there").is_symlink(), code != 0, "{link}");
    }
}

/// Templates are regular files of their folder: pipes and devices are refused at once, and none includes a file of the system.
#[test]
fn templates_that_are_no_files_or_reach_outside_are_refused() {
    let project = judged();
    let template = project.path().join("templates/report.md");
    std::fs::create_dir_all(template.parent().expect("a folder")).expect("a folder");
    let refused = |what: &str| {
        let ran = project.run(&["report", "judged", "--templates", "templates"]).exits(1);
        assert!(ran.told().contains(what), "{}", ran.told());
        let _ = std::fs::remove_file(&template);
    };
    assert!(Command::new("mkfifo").arg(&template).status().expect("mkfifo").success());
    refused("it is no regular file");
    symlink("/dev/zero", &template).expect("a link");
    refused("links are not followed");
    for text in ["{% include '/etc/passwd' %}", "{% extends '../target' %}", "{% import '/etc/passwd' as x %}"] {
        project.write("templates/report.md", text);
        refused("can't be rendered");
    }
}

/// Revisions are names of commits, never options or lines of their own.
#[test]
fn revisions_are_never_options() {
    let project = judged();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
        let ran = Command::new("git").arg("-C").arg(project.path()).args(identity).args(arguments).output();
        assert!(ran.expect("git").status.success(), "{arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "results"]);
    git(&["commit", "-q", "-m", "results"]);
    for revision in ["--output=PWNED", "-h", "@{-1}", "a\nb", "$(touch PWNED)", "HEAD;touch PWNED"] {
        for range in [format!("{revision}..HEAD"), format!("HEAD...{revision}")] {
            let ran = project.run(&["compare", "--", &range]).exits(2);
            assert!(ran.told().contains("no commit"), "{range:?}: {}", ran.told());
        }
    }
    assert!(!project.path().join("PWNED").exists());
}
