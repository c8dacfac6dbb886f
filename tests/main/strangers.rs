//! A stranger's pull request can be judged and nothing else: attacks that are read, refused or shown, never carried out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::program::{Project, Ran, one_line, root};

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
    let status = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).status();
    assert!(status.expect("git").success(), "{arguments:?}");
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

/// A project in git whose folder `sub/evil` is a bare repository, as far as git can tell, that names a program.
fn with_a_planted_repository() -> (Project, PathBuf) {
    let project = Project::new();
    let (evil, planted) = (project.path().join("sub/evil"), project.path().join("PWNED"));
    for folder in ["objects", "refs"] {
        project.write(&format!("sub/evil/{folder}/keep"), "");
    }
    project.write("sub/evil/HEAD", "ref: refs/heads/main\n");
    let program = format!("touch {}; false", planted.display());
    let settings =
        format!("[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = \"{program}\"\n");
    project.write("sub/evil/config", &settings);
    copy(&root().join("fixtures/scorecard/project/results"), &evil.join("results"));
    git(project.path(), &["init", "-q", "."]);
    (project, planted)
}

#[test]
fn a_planted_repository_starts_nothing() {
    let (project, planted) = with_a_planted_repository();
    let experiment = std::fs::read_dir(project.path().join("sub/evil/results")).expect("listed").flatten();
    let named = experiment.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name = named.filter(|name| name != "baselines").min().expect("an experiment");
    // Git itself obeys it, or this test shows nothing.
    let obeys = Command::new("git").args(["status", "--short"]).current_dir(project.path().join("sub/evil")).output();
    assert!(obeys.is_ok() && planted.exists(), "git didn't start the planted program");
    std::fs::remove_file(&planted).expect("removed");
    for arguments in [
        &["verify", "sub/evil/results"][..],
        &["leaderboard", "--project", "sub/evil"],
        &["report", &name, "--project", "sub/evil"],
        &["report", &format!("sub/evil/results/{name}")],
        &["list", "--project", "sub/evil"],
        &["compare", "sub/evil", "sub/evil"],
        &["baseline", "check", "sub/evil"],
    ] {
        project.run(arguments);
        assert!(!planted.exists(), "{arguments:?} started the planted program");
    }
}

#[test]
fn a_hostile_configuration_of_the_project_starts_nothing() {
    let project = Project::new();
    let planted = project.path().join("PWNED");
    copy(&root().join("fixtures/scorecard/project/results"), &project.path().join("results"));
    git(project.path(), &["init", "-q", "."]);
    git(project.path(), &["add", "-A"]);
    git(project.path(), &["commit", "-qm", "results"]);
    let program = format!("touch {}; false", planted.display());
    for key in ["core.fsmonitor", "core.pager", "diff.external", "core.sshCommand"] {
        git(project.path(), &["config", key, &program]);
    }
    for arguments in [&["verify"][..], &["leaderboard"], &["compare", "HEAD"], &["compare", "HEAD..HEAD"], &["list"]] {
        project.run(arguments);
        assert!(!planted.exists(), "{arguments:?} started the program");
    }
}

/// Python imports nothing from the project's folder, nor from where `PYTHONPATH` points.
#[test]
fn planted_modules_are_not_imported() {
    let project = Project::new();
    let planted = project.path().join("PWNED");
    let module = format!("open({:?}, 'w').close()\n", planted.display().to_string());
    for name in ["filelock", "wandb/__init__", "torch", "numpy", "json", "sitecustomize", "importlib/__init__"] {
        project.write(&format!("{name}.py"), &module);
        project.write(&format!("modules/{name}.py"), &module);
    }
    project.write("checkout/scripts/base_train.py", "");
    let checkout = project.path().join("checkout");
    git(&checkout, &["init", "-q", "."]);
    git(&checkout, &["add", "-A"]);
    git(&checkout, &["commit", "-qm", "baseline"]);
    for arguments in [&["baseline", "check", "checkout"][..], &["baseline", "check", "checkout", "--format", "json"]] {
        let mut command = project.command(arguments);
        let output = command.env("PYTHONPATH", project.path().join("modules")).output().expect("started");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("can't be imported"), "Python was asked and has no packages: {told}");
        assert!(!planted.exists(), "{arguments:?} imported a planted module");
    }
}

/// A project whose experiment is planned and recorded but not run, and the run's folder.
#[cfg(unix)]
fn planned() -> (Project, PathBuf) {
    let project = Project::new();
    project.write("tiny.yaml", super::run_experiment::TINY);
    let printed = project.run(&["plan", "tiny.yaml", "--format", "json"]).exits(0).stdout();
    let plan: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let id = plan["runs"][0]["run_id"].as_str().expect("a run id").to_string();
    let folder = project.path().join("results/tiny").join(id);
    std::fs::create_dir_all(&folder).expect("made");
    (project, folder)
}

#[cfg(unix)]
const RUN: &[&str] = &["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "budget.iterations=2"];

/// Links that a pull request commits where a run writes or deletes: an error names each, and what they lead to stays.
#[cfg(unix)]
#[test]
fn links_in_the_way_of_a_run_are_named_and_not_followed() {
    use std::os::unix::fs::symlink;
    for name in
        [".lock", ".lease-1", "owners.jsonl", "log.jsonl", "checkpoints", "", "../../../results", "../../../reports"]
    {
        let (project, folder) = planned();
        let outside = tempfile::tempdir().expect("a folder");
        let kept = outside.path().join("partial-thesis/chapter.txt");
        std::fs::create_dir_all(kept.parent().expect("a folder")).expect("made");
        std::fs::write(&kept, "mine").expect("written");
        let file = outside.path().join("file");
        std::fs::write(&file, "mine").expect("written");
        let link = if name.is_empty() { folder.clone() } else { folder.join(name) };
        let link = if name.ends_with("results") { project.path().join("results") } else { link };
        let link = if name.ends_with("reports") { project.path().join("reports") } else { link };
        let _ = std::fs::remove_dir_all(&link);
        let is_file = [".lock", ".lease-1", "owners.jsonl", "log.jsonl"].contains(&name);
        symlink(if is_file { &file } else { outside.path() }, &link).expect("a link");
        let command: Vec<&str> = RUN[..3].to_vec();
        let ran = project.run(&command);
        let told = format!("{} {}", ran.told(), super::program::one_line(&ran.stdout()));
        assert_ne!(ran.code(), 0, "{name}: {told}");
        assert!(told.contains("it is a link"), "{name}: {told}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "mine", "{name}");
        assert_eq!(std::fs::read_to_string(&kept).expect("there"), "mine", "{name}");
        let mut left: Vec<_> =
            std::fs::read_dir(outside.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "partial-thesis"], "{name}: something was written through the link");
    }
}

/// A cache that is a link to another program's, or holds links: nothing behind them is read, written or removed.
#[cfg(unix)]
#[test]
fn a_cache_behind_a_link_is_left_alone() {
    use std::os::unix::fs::symlink;
    let (project, _) = planned();
    let hub = tempfile::tempdir().expect("a folder");
    let blob = hub.path().join("blobs/aa").join("0".repeat(64));
    let unfinished = hub.path().join("blobs/aa/.tmp-x");
    std::fs::create_dir_all(blob.parent().expect("a folder")).expect("made");
    std::fs::write(&blob, "a model").expect("written");
    std::fs::write(&unfinished, "a download").expect("written");
    let cache = project.path().join(".nanochat-cache");
    symlink(hub.path(), &cache).expect("a link");
    let ran = project.run(&RUN[..3]).exits(0);
    assert!(ran.told().contains("is a link"), "{}", ran.told());
    assert_ne!(project.run(&["data", "cache", "--clear"]).code(), 0);
    std::fs::remove_file(&cache).expect("removed");
    std::fs::create_dir(&cache).expect("made");
    symlink(hub.path().join("blobs"), cache.join("tokens")).expect("a link");
    symlink(hub.path().join("blobs"), cache.join("holidays")).expect("a link");
    project.run(&["data", "cache", "--clear"]).exits(0);
    let left = std::fs::read_dir(blob.parent().expect("a folder")).expect("listed").count();
    assert!(blob.exists() && unfinished.exists() && left == 2, "something changed behind the link");
}

/// What starting over removes is the run's own, by name.
#[test]
fn starting_over_removes_nothing_else() {
    let project = Project::new();
    project.write("tiny.yaml", super::run_experiment::TINY);
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch"];
    project.run(&run).exits(0);
    let files = project.files("results/tiny");
    let summary = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
    let folder = summary.trim_end_matches("/summary.json");
    project.write(&format!("{folder}/notes.txt"), "mine");
    project.write(&format!("{folder}/checkpoints/partial-thesis/chapter.txt"), "mine");
    project.run(&[&run[..], &["--force"]].concat()).exits(0);
    let files = project.files("results/tiny");
    assert!(files.contains(&format!("{folder}/notes.txt")), "{files:?}");
    assert!(files.contains(&format!("{folder}/checkpoints/partial-thesis/chapter.txt")), "{files:?}");
}

/// A judged project, and the folders of its experiment and of its first run.
fn judged() -> (Project, String, String) {
    let project = Project::new();
    copy(&root().join("fixtures/scorecard/project"), project.path());
    let experiment = "results/judged".to_string();
    let files = project.files(&experiment);
    let plan = files.iter().find(|file| file.ends_with("/plan.json")).expect("a plan");
    let run = plan.trim_end_matches("/plan.json").to_string();
    (project, experiment, run)
}

/// Documents and tables that are links, to a device without end or to a file elsewhere: none is read.
#[cfg(unix)]
#[test]
fn documents_behind_links_are_not_read() {
    use std::os::unix::fs::symlink;
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "{\"schema\": \"hunter2\"}\n").expect("written");
    for target in [Path::new("/dev/zero"), secret.path()] {
        for name in
            ["plan.json", "summary.json", "environment.json", "steps.parquet", "evals.parquet", "../experiment.json"]
        {
            let (project, _, run) = judged();
            let path = project.path().join(&run).join(name);
            std::fs::remove_file(&path).expect("removed");
            symlink(target, &path).expect("a link");
            for arguments in
                [&["verify"][..], &["list"], &["report", "judged", "--recompute"], &["validate", "results"]]
            {
                let ran = project.run(arguments);
                let told = format!("{}{}", ran.stdout(), ran.stderr());
                assert!(!told.contains("hunter2"), "{name}: {arguments:?}: {told}");
                let verified = arguments == ["verify"];
                assert!(!verified || (ran.code() == 1 && told.contains("it is a link")), "{name}: {told}");
            }
        }
    }
}

/// The record names a recording outside the project.
#[test]
fn a_recording_outside_the_project_is_not_read() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "{\"schema\": \"hunter2\"}\n").expect("written");
    for outside in [secret.path().display().to_string(), "../../secret.json".into(), "/dev/zero".into()] {
        let (project, experiment, _) = judged();
        project.run(&["report", "judged", "--recompute"]).exits(0);
        let path = project.path().join(&experiment).join("experiment.json");
        let mut record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
        record["baseline_results"] = outside.clone().into();
        std::fs::write(&path, record.to_string()).expect("written");
        let ran = project.run(&["verify"]).exits(1);
        assert!(ran.stdout().contains("leads out of the folder"), "{outside}: {}", ran.stdout());
        assert!(!ran.stdout().contains("hunter2"), "{}", ran.stdout());
    }
}

/// One run named three times is no repeat: the record is invalid, and no verdict comes of it.
#[test]
fn a_run_that_is_named_three_times_proves_nothing() {
    let (project, experiment, _) = judged();
    let path = project.path().join(&experiment).join("experiment.json");
    let mut record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
    let runs = record["runs"].as_array_mut().expect("runs");
    let first = runs[0].clone();
    runs.extend([first.clone(), first]);
    std::fs::write(&path, record.to_string()).expect("written");
    for arguments in [
        &["verify"][..],
        &["report", "judged", "--recompute"],
        &["compare", ".", ".", "--gate"],
        &["validate", "results"],
    ] {
        let ran = project.run(arguments);
        assert!(matches!(ran.code(), 1 | 2), "{arguments:?}: {}", ran.code());
        let told = format!("{} {}", ran.stdout(), ran.told());
        let why = if arguments[0] == "validate" { "names a value twice" } else { "named twice" };
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
}

/// A spec that names files outside the project: no line of them is shown, unless the user allows it.
#[cfg(unix)]
#[test]
fn a_spec_shows_no_line_of_a_file_outside() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let secret = elsewhere.path().join("secret.yaml");
    std::fs::write(&secret, "password: hunter2\n").expect("written");
    let project = Project::new();
    project.write(".env.yaml", "password: hunter2\n");
    project.write(".git/config", "password: hunter2\n");
    project.write("notes.txt", "password: hunter2\n");
    std::os::unix::fs::symlink(&secret, project.path().join("base.yaml")).expect("a link");
    std::os::unix::fs::symlink(&secret, project.path().join("spec.yaml")).expect("a link");
    let out = secret.display().to_string();
    let named =
        [out.as_str(), "base.yaml", ".env.yaml", ".git/config", "notes.txt", "/proc/self/environ", "/etc/passwd"];
    let command = |arguments: &[&str]| {
        let output = project.command(arguments).env("TOKEN", "hunter2").output().expect("started");
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&told).into_owned())
    };
    for name in named {
        for key in ["extends", "hardware"] {
            let text = super::run_experiment::TINY.replace("hardware: cpu-smoke\n", "");
            project.write("tiny.yaml", &format!("{text}{key}: {name}\n"));
            for what in ["validate", "plan"] {
                let (code, told) = command(&[what, "tiny.yaml"]);
                assert_eq!(code, Some(2), "{what} {key}: {name}: {told}");
                assert!(!told.contains("hunter2") && !told.contains("root:"), "{what} {key}: {name}: {told}");
            }
        }
    }
    std::os::unix::fs::symlink(elsewhere.path(), project.path().join("linked")).expect("a link");
    for arguments in [["validate", "linked"], ["validate", "linked/secret.yaml"], ["plan", "linked/secret.yaml"]] {
        let (code, told) = command(&arguments);
        assert!(code == Some(2) && told.contains("it is a link") && !told.contains("hunter2"), "{arguments:?}: {told}");
    }
    let (code, told) = command(&["validate", "spec.yaml"]);
    assert!(code == Some(2) && told.contains("it is a link") && !told.contains("hunter2"), "{told}");
    project.write("tiny.yaml", &format!("{}extends: {out}\n", super::run_experiment::TINY));
    let (_, told) = command(&["plan", "tiny.yaml", "--allow-outside"]);
    assert!(told.contains("password"), "the user trusts this spec: {told}");
}

/// Escape sequences, changes of direction, line breaks and commands to CI runners in documents and names of files.
#[cfg(unix)]
#[test]
fn nothing_from_outside_steers_a_terminal_or_a_runner() {
    let hostile = "\u{1b}]52;c;ZXZpbA==\u{7}\n::error::x\n##[add-mask]y\u{9b}31m\u{202e}";
    let (project, experiment, run) = judged();
    let edit = |name: &str, edit: &dyn Fn(&mut serde_json::Value)| {
        let path = project.path().join(name);
        let mut document = serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
        edit(&mut document);
        std::fs::write(&path, document.to_string()).expect("written");
    };
    edit(&format!("{run}/environment.json"), &|document| document["finished_at"] = hostile.into());
    edit(&format!("{run}/plan.json"), &|document| document["axes"] = serde_json::json!({ hostile: hostile }));
    project.write(&format!("results/{}/experiment.json", hostile.replace('/', "")), "{\"schema\": \"\\u001b[31m\"}");
    project.write("results/other/experiment.json", &serde_json::json!({ "schema": hostile }).to_string());
    project.write(&format!("{}.yaml", hostile.replace('/', "")), &format!("schema: \"{hostile}\"\nname: {hostile}\n"));
    let list = ["list", "judged"];
    let commands: [&[&str]; 10] = [
        &["verify"],
        &["verify", "--format", "json"],
        &["list"],
        &list,
        &["list", "--format", "json"],
        &["validate", "."],
        &["validate", ".", "--format", "json"],
        &["compare", &experiment, &experiment],
        &["compare", &experiment, &experiment, "--format", "json"],
        &["report", "other"],
    ];
    for arguments in commands {
        let ran = project.run(arguments);
        for text in [ran.stdout(), ran.stderr()] {
            let steering =
                |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!text.contains(steering), "{arguments:?}: {text:?}");
            let command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
            let is_json = arguments.contains(&"json");
            assert!(is_json || !text.lines().any(command), "{arguments:?}: {text}");
        }
    }
}

/// A table of a few kilobytes that stands for more rows than memory holds.
#[test]
fn a_table_without_end_is_refused_by_every_reader() {
    use nanochat::artifacts::{StepRow, write_steps};
    let (project, _, run) = judged();
    let row = StepRow {
        step: 3,
        tokens: 1024,
        loss: 5.0,
        lr_multiplier: 1.0,
        muon_momentum: 1.0,
        muon_weight_decay: 0.5,
        seconds: 0.01,
        rss_bytes: 1,
    };
    write_steps(&project.path().join(&run).join("steps.parquet"), &vec![row; 400_000]).expect("written");
    for arguments in [&["verify"][..], &["report", "judged", "--recompute"]] {
        let ran = project.run(arguments).exits(1);
        let told = format!("{} {}", ran.stdout(), ran.told());
        assert!(told.contains("stand for more than"), "{arguments:?}: {told}");
    }
}

/// Brackets within brackets take a parser of YAML time that grows with their square.
#[test]
fn a_bundle_of_brackets_is_refused_at_once() {
    let project = Project::new();
    project.write("bundle/core.yaml", &format!("icl_tasks: {}", "[".repeat(200_000)));
    let checkpoint = root().join("fixtures/parity/checkpoint");
    let begun = std::time::Instant::now();
    let ran = project.run(&["eval", "--checkpoint", &checkpoint.to_string_lossy(), "--bundle", "bundle"]);
    assert!(ran.code() != 0 && ran.told().contains("brackets within each other"), "{}", ran.told());
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// What a model writes is shown without what steers a terminal, unless it is asked for as it is.
#[test]
fn what_a_model_writes_is_shown_escaped() {
    let project = Project::new();
    let checkpoint = root().join("fixtures/parity/checkpoint").to_string_lossy().into_owned();
    let prompt = "a\u{1b}]52;c;ZXZpbA==\u{7}b\tc\n";
    let generate = ["generate", "--checkpoint", &checkpoint, "--prompt", prompt, "--max-tokens", "1"];
    for samples in ["1", "2"] {
        let arguments = [&generate[..], &["--samples", samples]].concat();
        let shown = project.run(&arguments).exits(0).stdout();
        assert!(shown.contains("a\\u{1b}]52;c;ZXZpbA==\\u{7}b\tc\n"), "{shown:?}");
        let raw = project.run(&[&arguments[..], &["--raw"]].concat()).exits(0).stdout();
        assert!(raw.contains(prompt), "{raw:?}");
    }
}

/// A checkpoint that somebody else made is not gone on from unless the user says so, and the summary keeps it.
#[test]
fn a_checkpoint_of_somebody_else_is_refused() {
    let project = Project::new();
    project.write("tiny.yaml", &super::run_experiment::TINY.replace("iterations: 12", "iterations: 60"));
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "reproducibility.repeats=0"];
    let elsewhere = project.path().join("state-of-somebody-else");
    let start = |stranger: bool, arguments: &[&str]| {
        let mut command = project.command(&[&run[..], arguments].concat());
        if stranger {
            command.env("XDG_STATE_HOME", &elsewhere);
        }
        command
    };
    let interrupt = |stranger: bool| {
        let mut child = start(stranger, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        // A folder that is being written has another name.
        while project.files("results").iter().all(|file| !file.contains("/step_")) {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no checkpoint came in time");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let continued = || {
        let files = project.files("results/tiny");
        let file = files.iter().find(|file| file.ends_with("/summary.json")).expect("a summary");
        let text = std::fs::read_to_string(project.path().join(file)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["continued_from"].clone()
    };
    interrupt(true);
    let refused = Ran(start(false, &[]).output().unwrap()).exits(1);
    assert!(refused.told().contains("was not written by this user on this machine"), "{}", refused.stderr());
    assert!(
        refused.told().contains("--force") && refused.told().contains("--trust-checkpoints"),
        "{}",
        refused.stderr()
    );

    Ran(start(false, &["--trust-checkpoints"]).output().unwrap()).exits(0);
    let trusted = continued();
    assert_eq!(trusted[0]["from_elsewhere"], true, "{trusted}");
    assert_eq!(trusted[0]["manifest_sha256"].as_str().map(str::len), Some(64), "{trusted}");

    Ran(start(false, &["--force"]).output().unwrap()).exits(0);
    assert!(continued().is_null(), "a run made in one go names nothing");
    std::fs::remove_dir_all(project.path().join("results")).unwrap();
    interrupt(false);
    Ran(start(false, &[]).output().unwrap()).exits(0);
    let own = continued();
    assert!(own[0]["step"].as_u64() > Some(0) && own[0]["from_elsewhere"].is_null(), "{own}");
    project.run(&["verify", "results"]).exits(0);
}

/// A stop is heard while data is made, which can take hours and has nothing to save.
#[cfg(unix)]
#[test]
fn a_stop_is_heard_while_data_is_made() {
    let project = Project::new();
    project.write("tiny.yaml", &super::run_experiment::TINY.replace("bytes: 400000", "bytes: 100000000000"));
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch"];
    let child = project.command(&run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while project.files("results").is_empty() {
        assert!(Instant::now() < deadline, "it didn't begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let told = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the same command goes on"), "{output:?}");
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
}

/// Figures of one seed under the name of another, with tables that were rewritten, are no second run.
#[test]
fn a_seed_with_the_weights_of_another_is_told() {
    let project = Project::new();
    let spec = super::run_experiment::TINY.replace("{ iterations: 12 }", "{ iterations: 2 }");
    project.write("tiny.yaml", &spec.replace("repeats: 1", "repeats: 0").replace("seed: 7", "seeds: [7, 8]"));
    project.run(&["run", "tiny.yaml", "--allow-hardware-mismatch"]).exits(0);
    project.run(&["verify"]).exits(0);
    let summaries: Vec<String> =
        project.files("results/tiny").into_iter().filter(|file| file.ends_with("/summary.json")).collect();
    let [first, second] = &summaries[..] else { panic!("two runs: {summaries:?}") };
    let read = |file: &String| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(project.path().join(file)).expect("read")).expect("JSON")
    };
    for (key, what) in [("weights_sha256", "weights"), ("loss_trace_sha256", "losses")] {
        let (own, other) = (read(second)[key].clone(), read(first)[key].clone());
        let text = std::fs::read_to_string(project.path().join(second)).expect("read");
        project.write(second, &text.replace(own.as_str().expect("text"), other.as_str().expect("text")));
        let told = project.run(&["verify"]).exits(1).stdout();
        assert!(told.contains(&format!("has the {what} of `")) && told.contains("with another seed"), "{told}");
    }
}

/// A partial clone lists files whose contents it doesn't have: they are no absent files, so nothing is judged without them.
#[test]
fn files_that_a_partial_clone_lacks_are_named() {
    let project = Project::new();
    copy(&root().join("fixtures/scorecard/project/results"), &project.path().join("whole/results"));
    let whole = project.path().join("whole");
    git(&whole, &["init", "-q", "-b", "main"]);
    git(&whole, &["config", "uploadpack.allowFilter", "true"]);
    git(&whole, &["add", "."]);
    git(&whole, &["commit", "-q", "-m", "results"]);
    let from = format!("file://{}", whole.display());
    git(project.path(), &["clone", "-q", "--no-checkout", "--filter=blob:none", &from, "partial"]);
    let mut command = project.command(&["compare", "HEAD..HEAD"]);
    let ran = command.current_dir(project.path().join("partial")).output().expect("ran");
    let told = one_line(&String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains("as in a partial clone") && told.contains("git fetch --refetch --no-filter"), "{told}");
}
