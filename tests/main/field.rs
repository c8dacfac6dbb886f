//! What users of such tools run into: other inputs under an old name, readers that leave, hang-ups, files in disguise.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{Project, one_line, root};
use super::run_experiment::TINY;

const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];

/// The spec over JSON lines in a folder, one run.
fn spec(folder: &str) -> String {
    TINY.replace("{ source: synthetic, seed: 3, bytes: 400000 }", &format!("{{ source: jsonl, path: {folder} }}"))
        .replace("vocab_size: 300", "vocab_size: 270")
        .replace("repeats: 1", "repeats: 0")
}

/// Writes a shard of that many documents, which differ by `seed`.
fn shard(project: &Project, name: &str, documents: usize, seed: usize) {
    let line = |number: usize| {
        let words: Vec<String> =
            (0..60).map(|place| format!("word{} ", (number * 7 + place * seed * 3) % (23 + seed))).collect();
        format!("{{\"text\": \"{} {seed}\"}}\n", words.concat())
    };
    project.write(name, &(0..documents).map(line).collect::<String>());
}

fn summary(project: &Project) -> Value {
    let files = project.files("results/tiny");
    let file = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
    serde_json::from_str(&std::fs::read_to_string(project.path().join(file)).unwrap()).unwrap()
}

/// Waits for a checkpoint of that step.
fn wait_for(project: &Project, step: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while project.files("results").iter().all(|file| !file.contains(step)) {
        assert!(Instant::now() < deadline, "no checkpoint came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

#[test]
fn a_run_is_done_only_with_the_inputs_that_it_was_made_with() {
    let project = Project::new();
    project.write("tiny.yaml", &spec("data"));
    shard(&project, "data/a.jsonl", 60, 1);
    shard(&project, "data/b.jsonl", 20, 2);
    shard(&project, "other/a.jsonl", 60, 3);
    shard(&project, "other/b.jsonl", 20, 4);
    project.run(RUN).exits(0);
    let first = summary(&project);
    let again = project.run(RUN).exits(0);
    assert!(again.told().contains("done before") && !again.told().contains("can't be checked"), "{}", again.stderr());

    let other = project.run(&[RUN, &["--set", "data.path=other"]].concat()).exits(0);
    assert!(other.told().contains("other data, tokenizer than recorded: made again"), "{}", other.stderr());
    let second = summary(&project);
    assert_ne!(first["data_sha256"], second["data_sha256"]);
    assert_ne!(first["weights_sha256"], second["weights_sha256"]);

    // A third shard moves the validation split; the old data back again gives the old run.
    shard(&project, "data/c.jsonl", 20, 5);
    let added = project.run(RUN).exits(0);
    assert!(added.told().contains("than recorded: made again"), "{}", added.stderr());
    std::fs::remove_file(project.path().join("data/c.jsonl")).unwrap();
    project.run(RUN).exits(0);
    assert_eq!(summary(&project)["weights_sha256"], first["weights_sha256"]);

    // Names and formats of the files are no inputs.
    std::fs::rename(project.path().join("data/b.jsonl"), project.path().join("data/z.jsonl")).unwrap();
    let renamed = project.run(RUN).exits(0);
    assert!(renamed.told().contains("done before"), "{}", renamed.stderr());

    // Documents that can't be read are no other documents: the record stands, and why it wasn't compared is told.
    project.write("data/z.jsonl", "no JSON\n");
    let unread = project.run(RUN).exits(0);
    assert!(
        unread.told().contains("its inputs can't be checked") && unread.told().contains("line 1"),
        "{}",
        unread.stderr()
    );
    assert_eq!(summary(&project)["weights_sha256"], first["weights_sha256"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_with_its_own_inputs_alone() {
    let project = Project::new();
    let long = spec("data").replace("iterations: 12", "iterations: 400");
    project.write("tiny.yaml", &long);
    for (folder, seed) in [("data", 1), ("other", 3)] {
        shard(&project, &format!("{folder}/a.jsonl"), 60, seed);
        shard(&project, &format!("{folder}/b.jsonl"), 20, seed + 1);
    }
    // Killed, not stopped: there is no summary, and the checkpoint alone knows the inputs.
    let mut child = project.command(RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&project, "checkpoints/step_000004/manifest.json");
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = project.run(&[RUN, &["--set", "data.path=other"]].concat()).exits(1);
    assert!(refused.told().contains("the run was begun with other inputs (data, tokenizer)"), "{}", refused.stderr());
    assert!(refused.told().contains("--force"), "{}", refused.stderr());
    assert!(project.files("results").iter().any(|file| file.contains("step_")), "its checkpoints stay");
}

#[cfg(unix)]
#[test]
fn force_leaves_a_run_alone_that_another_process_has() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("iterations: 12", "iterations: 600").replace("repeats: 1", "repeats: 0"));
    let mut child = project.command(RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&project, "checkpoints/step_000004/manifest.json");
    let forced = project.run(&[RUN, &["--force"]].concat());
    assert_eq!(forced.code(), 1, "{}", forced.stderr());
    assert!(forced.told().contains(&format!("process {}", child.id())), "{}", forced.stderr());
    assert!(project.files("results").iter().any(|file| file.contains("step_")), "its checkpoints stay");
    signal("-INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Two specs of one name would write over each other's results.
#[test]
fn two_specs_of_one_name_are_refused() {
    let project = Project::new();
    project.write("experiments/tiny.yaml", TINY);
    project.write("experiments/copy.yaml", TINY);
    let run = ["run", "experiments/tiny.yaml", "--allow-hardware-mismatch"];
    let refused = project.run(&run).exits(2);
    assert!(refused.told().contains("experiments/copy.yaml has the name `tiny` too"), "{}", refused.stderr());
    assert!(project.files("results").is_empty());
    let planned = project.run(&["plan", "experiments/tiny.yaml"]).exits(0);
    assert!(planned.told().contains("has the name `tiny` too"), "{}", planned.stderr());
    let validated = project.run(&["validate", "experiments"]).exits(2);
    let told = format!("{} {}", validated.stdout(), validated.told());
    assert!(told.contains("its name `tiny` is also that of"), "{told}");
    // The folder where the noise of `tiny` is measured.
    let noise = project.run(&["run", "experiments/tiny.yaml", "--set", "name=tiny-noise"]).exits(2);
    assert!(noise.told().contains("can't be an experiment's name"), "{}", noise.stderr());
    project.run(&[&run[..], &["--set", "name=other", "--set", "budget.iterations=4"]].concat()).exits(0);
}

#[test]
fn a_stored_tokenizer_needs_no_stated_vocabulary() {
    let project = Project::new();
    let train = ["tokenizer", "train", "--data", "synthetic", "--vocab-size", "300", "--out", "tok"];
    project.run(&train).exits(0);
    let spec = TINY.replace("{ train: { vocab_size: 300 } }", "{ path: tok }").replace("repeats: 1", "repeats: 0");
    project.write("tiny.yaml", &spec);
    project.run(RUN).exits(0);
    assert_eq!(summary(&project)["status"], "finished");
}

#[test]
fn a_reader_that_leaves_ends_nothing_and_a_full_disk_is_told() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("repeats: 1", "repeats: 0"));
    for arguments in
        [&["plan", "tiny.yaml", "--explain"][..], &["list"], &["schema", "experiment"], &["data", "inspect"]]
    {
        let mut child = project.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The reading end is closed before anything is written.
        drop(child.stdout.take());
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        let code = child.wait().unwrap().code();
        assert!(code == Some(0) || code == Some(2), "{arguments:?}: {code:?}, {told}");
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    }
    let mut child = project.command(RUN).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(summary(&project)["status"], "finished", "training goes on without anybody who reads");
    if Path::new("/dev/full").exists() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = project.command(&["plan", "tiny.yaml"]).stdout(full).output().unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ran.stderr).contains("can't write to standard output"));
    }
}

/// As `nohup` starts it.
#[cfg(target_os = "linux")]
#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("iterations: 12", "iterations: 60").replace("repeats: 1", "repeats: 0"));
    for (ignored, expected) in [(true, 0), (false, 130)] {
        // The tests themselves may have been started with hang-ups ignored.
        let line =
            if ignored { "trap '' HUP; exec \"$0\" \"$@\"" } else { "exec env --default-signal=HUP \"$0\" \"$@\"" };
        let program = project.command(RUN);
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).arg(program.get_program()).args(program.get_args()).arg("--force");
        shell.current_dir(project.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = std::fs::remove_dir_all(project.path().join("results"));
        let mut child = shell.spawn().unwrap();
        wait_for(&project, "checkpoints/step_000004/manifest.json");
        signal("-HUP", child.id());
        assert_eq!(child.wait().unwrap().code(), Some(expected), "ignored: {ignored}");
    }
}

#[test]
fn files_are_read_as_people_have_them_or_called_what_they_are() {
    let project = Project::new();
    let inspect = |path: &str| project.run(&["data", "inspect", "--data", path, "--format", "json"]);
    let sha256 = |path: &str| {
        let document: Value = serde_json::from_str(&inspect(path).exits(0).stdout()).unwrap();
        document["sha256"].as_str().unwrap().to_string()
    };
    shard(&project, "plain/a.jsonl", 30, 1);
    shard(&project, "plain/b.jsonl", 30, 2);
    let plain = sha256("plain");

    // A byte order mark is no text.
    for name in ["a.jsonl", "b.jsonl"] {
        let text = std::fs::read_to_string(project.path().join("plain").join(name)).unwrap();
        project.write(&format!("marked/{name}"), &format!("\u{feff}{text}"));
        project.write(&format!("parted/lang=en/part={name}/{name}"), &text);
    }
    assert_eq!(sha256("marked"), plain);
    assert_eq!(sha256("parted"), plain, "folders within folders");
    project.write("plain/.hidden.jsonl", "no document");
    assert_eq!(sha256("plain"), plain, "hidden files are left out");

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", project.path().join("plain/c.jsonl")).unwrap();
        let broken = inspect("plain");
        assert!(
            broken.code() != 0 && broken.told().contains("c.jsonl: a link to a file that isn't there"),
            "{}",
            broken.stderr()
        );
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(project.path().join("parted"), project.path().join("linked")).unwrap();
        std::fs::create_dir(project.path().join("within")).unwrap();
        std::os::unix::fs::symlink(project.path().join("parted"), project.path().join("within/lang")).unwrap();
        std::os::unix::fs::symlink(project.path().join("within"), project.path().join("within/circle")).unwrap();
        assert_eq!((sha256("linked"), sha256("within")), (plain.clone(), plain), "folders behind links");
        std::os::unix::fs::symlink("nowhere", project.path().join("within/more")).unwrap();
        let broken = inspect("within");
        assert!(broken.code() != 0 && broken.told().contains("within/more"), "{}", broken.stderr());
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for (name, content, told) in [
        ("lfs/a.parquet", pointer.as_bytes(), "Git LFS pointer"),
        ("page/a.parquet", b"<!DOCTYPE html><html></html>", "HTML page"),
        ("packed/a.jsonl", b"\x1f\x8b\x08\x00", "compressed by gzip"),
        ("lfsgz/a.jsonl.gz", pointer.as_bytes(), "Git LFS pointer"),
        ("pagezst/a.jsonl.zst", b"<!DOCTYPE html><html></html>", "HTML page"),
    ] {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::write(path.with_file_name(name.rsplit('/').next().unwrap().replacen('a', "b", 1)), content).ok();
        let ran = inspect(name.split('/').next().unwrap());
        assert!(ran.code() != 0 && ran.told().contains(told), "{name}: {}", ran.stderr());
    }
    project.write("tok/tokenizer.json", pointer);
    project.write("tiny.yaml", TINY);
    let ran = project.run(&["plan", "tiny.yaml", "--set", "tokenizer={path: tok}"]).exits(2);
    assert!(ran.told().contains("Git LFS pointer"), "{}", ran.stderr());
}

#[test]
fn a_spec_comes_from_standard_input_too() {
    let project = Project::new();
    let ways: &[[&str; 2]] = match cfg!(unix) {
        true => &[["plan", "-"], ["validate", "-"], ["plan", "/dev/stdin"], ["validate", "/dev/stdin"]],
        false => &[["plan", "-"], ["validate", "-"]],
    };
    for arguments in ways {
        let mut command = project.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(TINY.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = one_line(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        let named = if arguments[0] == "plan" { "tiny" } else { "ok" };
        assert!(String::from_utf8_lossy(&output.stdout).contains(named), "{arguments:?}");
    }
}

/// A job that is cut into slices gets to its end: the cap counts what one start of the program works on a run.
#[test]
fn a_cap_on_wall_clock_counts_each_start_anew() {
    let project = Project::new();
    project.write("tiny.yaml", &TINY.replace("{ iterations: 12 }", "{ iterations: 3, wall_clock: 0.001 }"));
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch"];
    // Each start does at least a step, however short its time is.
    let codes: Vec<i32> = (0..4).map(|_| project.run(&run).code()).collect();
    assert!(codes.contains(&130) && codes.ends_with(&[0]), "{codes:?}");
}

#[test]
fn a_folder_within_a_project_is_told() {
    let project = Project::new();
    project.write("experiments/tiny.yaml", TINY);
    project.write("results/a.txt", "");
    project.write("notes/a.txt", "");
    let mut command = project.command(&["plan", "../experiments/tiny.yaml"]);
    let ran = command.current_dir(project.path().join("notes")).output().unwrap();
    let told = one_line(&String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("this folder lies in the project"), "{told}");
    let here = project.run(&["plan", "experiments/tiny.yaml"]).exits(0);
    assert!(!here.told().contains("lies in the project"), "{}", here.stderr());
}

/// What git has to say is passed on, and a shallow clone is called one.
#[test]
fn gits_own_reasons_are_told() {
    let project = Project::new();
    let git = |folder: &Path, arguments: &[&str]| {
        let name = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"];
        Command::new("git").args(name).arg("-C").arg(folder).args(arguments).output().unwrap()
    };
    let told = |folder: &str, range: &str| {
        let mut command = project.command(&["compare", range]);
        let ran = command.current_dir(project.path().join(folder)).output().unwrap();
        assert_eq!(ran.status.code(), Some(2));
        one_line(&String::from_utf8_lossy(&ran.stderr))
    };
    std::fs::create_dir(project.path().join("bare")).unwrap();
    assert!(told("bare", "HEAD").contains("not a git repository"), "{}", told("bare", "HEAD"));
    let whole = project.path().join("whole");
    std::fs::create_dir(&whole).unwrap();
    git(&whole, &["init", "-q", "-b", "main"]);
    for number in 0..3 {
        project.write("whole/results/a.txt", &number.to_string());
        git(&whole, &["add", "."]);
        git(&whole, &["commit", "-q", "-m", "more"]);
    }
    let from = format!("file://{}", whole.display());
    git(project.path(), &["clone", "-q", "--depth", "1", &from, "shallow"]);
    let missing = told("shallow", "HEAD~1..HEAD");
    assert!(missing.contains("there is no commit `HEAD~1` here: this clone is shallow"), "{missing}");
    // A clone of one branch doesn't have the others, however deep it is; the line that is proposed brings it.
    let branch = told("shallow", "base~0..HEAD");
    let proposed = "git fetch origin base:base";
    assert!(branch.contains(&format!("there is no commit `base~0` here: `{proposed}` brings")), "{branch}");
    git(&whole, &["branch", "base"]);
    assert!(git(&project.path().join("shallow"), &["fetch", "-q", "origin", "base:base"]).status.success());
    assert!(!told("shallow", "base~0..HEAD").contains("there is no commit"));
    assert!(missing.contains("git fetch --unshallow"), "{missing}");
    let elsewhere = told("whole", "HEAD~9..HEAD");
    assert!(elsewhere.contains("there is no commit `HEAD~9` here") && !elsewhere.contains("shallow"), "{elsewhere}");
}

/// Results are held against their canonical form: git must not write them with other line endings.
#[test]
fn git_keeps_line_endings() {
    let asked = Command::new("git")
        .args([
            "-c",
            "core.autocrlf=true",
            "check-attr",
            "eol",
            "--",
            "results/books/experiment.json",
            "reports/books.md",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&asked.stdout);
    assert_eq!(told.lines().filter(|line| line.ends_with("eol: lf")).count(), 2, "{told}");
}

/// In a project without that attribute, the difference is called what it is.
#[test]
fn line_endings_of_windows_are_named() {
    let project = Project::new();
    let name = "results/books/experiment.json";
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    project.write(name, &text.replace('\n', "\r\n"));
    let ran = project.run(&["verify"]).exits(1);
    assert!(ran.stdout().contains("line endings of Windows"), "{}", ran.stdout());
}
