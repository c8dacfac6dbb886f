//! On a real Slurm cluster: what goes wrong there, and that results stay what they are.
//!
//! `tests/slurm/start FOLDER` brings one up on this machine; `.ci/run` does so and runs these tests with
//! `SLURM_CONF=FOLDER/slurm.conf`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::parts::assert_same_results;
use super::program::{Project, Ran};
use super::run_experiment::TINY;

/// A sweep over so many learning rates with three seeds each.
fn sweep(name: &str, rates: usize, steps: u64) -> String {
    let rates: Vec<String> = (0..rates).map(|number| format!("0.0{}", number + 2)).collect();
    TINY.replace("name: tiny", &format!("name: {name}"))
        .replace("seed: 7", "seeds: [1, 2, 3]")
        .replace("repeats: 1", "repeats: 0")
        .replace("iterations: 12", &format!("iterations: {steps}"))
        .replace("every: 5, tokens", &format!("every: {}, tokens", steps / 3))
        .replace("every: 4, keep", &format!("every: {}, keep", (steps / 20).max(4)))
        .replace(
            "ruleset: v1",
            &format!("matrix: {{ axes: {{ optimizer.matrix_lr: [{}] }} }}\nruleset: v1", rates.join(", ")),
        )
}

const COMMON: &[&str] = &["--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];

fn run(project: &Project, spec: &str, more: &[&str]) -> Ran {
    project.run(&[&["run", spec], COMMON, more].concat())
}

fn slurm(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("a program of Slurm");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The content of a run's newest lease, once it says what is wanted.
fn lease(project: &Project, run: &str) -> Option<Value> {
    let files = project.files(run);
    let name = files.iter().filter(|file| file.contains("/.lease-")).max_by_key(|file| file.len())?;
    serde_json::from_str(&std::fs::read_to_string(project.path().join(name)).ok()?).ok()
}

/// Runs that train now, each with its process and its job.
fn training(project: &Project, name: &str) -> Vec<(String, String, String)> {
    let files = project.files(&format!("results/{name}"));
    let runs = files.iter().filter_map(|file| file.strip_suffix("/.lock")).filter(|run| !run.ends_with(".slurm"));
    let held = runs.filter_map(|run| {
        let lease = lease(project, run)
            .filter(|lease| lease["released"] == false && lease["progress"]["doing"] == "training")?;
        let owner = &lease["owner"];
        Some((run.to_string(), owner["pid"].to_string(), owner["job"].as_str()?.to_string()))
    });
    held.collect()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nobody took a run before its last owner had let it go.
fn assert_owned_one_at_a_time(project: &Project, name: &str) -> usize {
    let records = project.files(&format!("results/{name}"));
    let records = records.iter().filter(|file| file.ends_with("/owners.jsonl") && !file.contains("/.slurm/"));
    let mut owners = 0;
    for file in records {
        let text = std::fs::read_to_string(project.path().join(file)).unwrap();
        let mut last_end = String::new();
        let mut held = false;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            match line["taken_at"].as_str() {
                Some(taken) => {
                    assert!(!held && taken >= last_end.as_str(), "{file}: {text}");
                    (held, owners) = (true, owners + 1);
                }
                None => (held, last_end) = (false, line["ended_at"].as_str().unwrap().to_string()),
            }
        }
        assert!(!held, "{file}: {text}");
    }
    owners
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_gives_what_one_machine_gives() {
    let (whole, cluster) = (Project::new(), Project::new());
    for project in [&whole, &cluster] {
        project.write("sweep.yaml", &sweep("sweep", 4, 12));
    }
    run(&whole, "sweep.yaml", &[]).exits(0);
    let first = run(&cluster, "sweep.yaml", &["--on", "slurm"]).exits(0);
    assert!(first.stdout().contains("submitted 12 runs"), "{}", first.stdout());
    assert_same_results(&whole, &cluster, "sweep");
    assert_eq!(assert_owned_one_at_a_time(&cluster, "sweep"), 12);
    let again = run(&cluster, "sweep.yaml", &["--on", "slurm"]).exits(0);
    assert!(again.stdout().contains("nothing to submit: 12 runs are done"), "{}", again.stdout());
    let none = cluster.run(&["cancel", "sweep"]).exits(2);
    assert!(none.told().contains("no job of `sweep`"), "{}", none.stderr());
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_jobs_that_are_requeued_killed_and_cancelled_lose_nothing() {
    let (whole, cluster) = (Project::new(), Project::new());
    for project in [&whole, &cluster] {
        project.write("faults.yaml", &sweep("faults", 1, 2000));
    }
    let detached = run(&cluster, "faults.yaml", &["--on", "slurm", "--detach"]).exits(0);
    assert!(detached.stdout().contains("submitted 3 runs"), "{}", detached.stdout());
    // The first is queued again by hand, the second's process killed, the third cancelled.
    let mut hit: Vec<String> = Vec::new();
    while hit.len() < 3 {
        let (run, pid, job) = wait_for("a run that trains", || {
            training(&cluster, "faults").into_iter().find(|(run, ..)| !hit.contains(run))
        });
        match hit.len() {
            0 => drop(slurm("scontrol", &["requeue", &job])),
            1 => drop(slurm("kill", &["-KILL", &pid])),
            _ => drop(slurm("scancel", &[&job])),
        }
        hit.push(run);
    }
    // While the others go on, the same command submits what was cancelled, and waits for all.
    let cancelled = lease(&cluster, &hit[2]).unwrap()["owner"]["job"].as_str().unwrap().to_string();
    wait_for("the end of the cancelled element", || {
        let queue = slurm("squeue", &["--noheader", "--array", "--format=%i"]);
        (!queue.lines().any(|line| line == cancelled)).then_some(())
    });
    let ended = run(&cluster, "faults.yaml", &["--on", "slurm"]).exits(0);
    assert!(ended.stdout().contains("submitted 1 runs"), "{}", ended.stdout());
    run(&whole, "faults.yaml", &[]).exits(0);
    assert_same_results(&whole, &cluster, "faults");
    assert!(assert_owned_one_at_a_time(&cluster, "faults") >= 6);
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_time_that_is_shorter_than_a_run_is_no_end() {
    let (whole, cluster) = (Project::new(), Project::new());
    for project in [&whole, &cluster] {
        project.write("long.yaml", &sweep("long", 1, 14_000).replace("[1, 2, 3]", "[1]"));
    }
    run(&cluster, "long.yaml", &["--on", "slurm", "--set", "hardware.slurm.time=\"1\""]).exits(0);
    run(&whole, "long.yaml", &[]).exits(0);
    assert_same_results(&whole, &cluster, "long");
    assert!(assert_owned_one_at_a_time(&cluster, "long") >= 2, "the run was never stopped");
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_errors_are_told_with_their_cause() {
    let project = Project::new();
    project.write("setup.yaml", &sweep("setup", 1, 12).replace("[1, 2, 3]", "[1]"));
    let refused = run(&project, "setup.yaml", &["--on", "slurm", "--set", "hardware.slurm.partition=nope"]).exits(1);
    assert!(refused.told().contains("invalid partition specified: nope"), "{}", refused.stderr());
    assert!(refused.stderr().contains("#SBATCH --partition=nope"), "{}", refused.stderr());
    assert!(refused.stderr().contains("this line"), "{}", refused.stderr());

    let failing = r#"hardware.slurm.setup=["true", "false # never"]"#;
    let failed = run(&project, "setup.yaml", &["--on", "slurm", "--set", failing]).exits(1);
    assert!(failed.stdout().contains("not finished: d2-"), "{}", failed.stdout());
    let logs = project.files("results/setup/.slurm");
    let logs: Vec<String> = logs.iter().filter(|file| file.ends_with("_0.log")).cloned().collect();
    let log = std::fs::read_to_string(project.path().join(&logs[0])).unwrap();
    assert!(log.contains("the setup line failed: false"), "{log}");
    run(&project, "setup.yaml", &["--on", "slurm"]).exits(0);
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_jobs_of_an_experiment_are_cancelled_and_taken_up_again() {
    let project = Project::new();
    project.write("many.yaml", &sweep("many", 1, 3000));
    run(&project, "many.yaml", &["--on", "slurm", "--detach", "--set", "hardware.slurm.throttle=1"]).exits(0);
    wait_for("a run that trains", || training(&project, "many").pop());
    let listed = project.run(&["list", "many"]).exits(0).stdout();
    assert!(listed.contains("training on ") && listed.contains("queued"), "{listed}");
    let watched = project.run(&["watch", "many"]).exits(0).stdout();
    assert!(watched.contains("training") && watched.contains("queued"), "{watched}");
    let cancelled = project.run(&["cancel", "many"]).exits(0).stdout();
    assert!(cancelled.contains("cancelled 4 jobs"), "{cancelled}");
    wait_for("an empty queue", || slurm("squeue", &["--noheader", "--name=many,many-judge"]).is_empty().then_some(()));
    let listed = project.run(&["list", "many"]).exits(0).stdout();
    assert!(listed.contains("interrupted") && listed.contains("planned"), "{listed}");
    run(&project, "many.yaml", &["--on", "slurm"]).exits(0);
    assert_owned_one_at_a_time(&project, "many");
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_times_cells_in_one_element_after_the_runs() {
    let project = Project::new();
    project.write("tiny.yaml", &super::timing::spec());
    let on_slurm = ["run", "tiny.yaml", "--on", "slurm"];
    let detached = project.run(&[&on_slurm[..], &["--detach"]].concat()).exits(0).stdout();
    assert!(detached.contains("submitted 4 runs and the timing session"), "{detached}");
    let watched = project.run(&["watch", "tiny"]).exits(0).stdout();
    assert!(watched.contains("timing session queued"), "{watched}");
    // It waits for the runs; it is queued again in the middle, and goes on with the blocks that it has.
    let kept = project.path().join("results/tiny/.timing/blocks.json");
    let kept = wait_for("a block", || serde_json::from_slice::<Value>(&std::fs::read(&kept).ok()?).ok());
    let states = project.run(&["list", "tiny", "--format", "json"]).exits(0).stdout();
    let states: Value = serde_json::from_str(&states).unwrap();
    assert_eq!(
        (&states["experiments"][0]["finished"], &states["experiments"][0]["timing"]["state"]),
        (&4.into(), &"timing".into())
    );
    let job = lease(&project, "results/tiny/.timing").unwrap()["owner"]["job"].as_str().unwrap().to_string();
    slurm("scontrol", &["requeue", &job]);
    let ended = project.run(&on_slurm).exits(0).stdout();
    assert!(ended.contains("nothing to submit: 4 runs are done, 0 are queued or running, and so is the"), "{ended}");
    let timing = std::fs::read(project.path().join("results/tiny/timing.json")).unwrap();
    let timing: Value = serde_json::from_slice(&timing).unwrap();
    assert_eq!((&timing["session"], &timing["blocks"][0]), (&kept["session"], &kept["blocks"][0]));
    assert_eq!(assert_owned_one_at_a_time(&project, "tiny"), 4 + 2);
    let card = std::fs::read_to_string(project.path().join("results/tiny/scorecard.json")).unwrap();
    let card: Value = serde_json::from_str(&card).unwrap();
    assert!(
        ["pass", "fail", "inconclusive"].contains(&card["speed"]["verdict"].as_str().unwrap()),
        "{}",
        card["speed"]
    );
}

#[test]
#[ignore = "needs Slurm: run tests/slurm/start FOLDER, then these with SLURM_CONF=FOLDER/slurm.conf and `-- --ignored slurm`"]
fn slurm_controller_that_is_killed_loses_nothing() {
    let (whole, cluster) = (Project::new(), Project::new());
    for project in [&whole, &cluster] {
        project.write("faults.yaml", &sweep("faults", 1, 2000));
    }
    let folder = std::env::var("SLURM_CONF").expect("SLURM_CONF");
    let folder = std::path::Path::new(&folder).parent().unwrap();
    // Two at once on the two cores, and a third that waits.
    run(&cluster, "faults.yaml", &["--on", "slurm", "--detach"]).exits(0);
    wait_for("a run that trains", || training(&cluster, "faults").pop());
    // The controller writes down what it knows every few seconds.
    let begun = std::time::SystemTime::now();
    wait_for("the controller's state", || {
        let written = std::fs::metadata(folder.join("state/job_state")).ok()?.modified().ok()?;
        (written > begun).then_some(())
    });
    let controller = std::fs::read_to_string(folder.join("slurmctld.pid")).unwrap();
    slurm("kill", &["-KILL", controller.trim()]);
    assert!(!Command::new("scontrol").arg("ping").output().unwrap().stdout.ends_with(b"is UP\n"));
    // What runs goes on, and whoever sees the folder sees it.
    let watched = cluster.run(&["watch", "faults"]).exits(0).stdout();
    assert!(watched.contains("training on ") || watched.contains(" training "), "{watched}");
    std::thread::sleep(Duration::from_secs(3));
    let silent = || Stdio::null();
    let again = Command::new("slurmctld").stdin(silent()).stdout(silent()).stderr(silent()).status().unwrap();
    assert!(again.success());
    wait_for("the controller", || Command::new("squeue").output().ok()?.status.success().then_some(()));
    run(&cluster, "faults.yaml", &["--on", "slurm"]).exits(0);
    run(&whole, "faults.yaml", &[]).exits(0);
    assert_same_results(&whole, &cluster, "faults");
    assert_eq!(assert_owned_one_at_a_time(&cluster, "faults"), 3);
}

#[test]
fn without_slurm_the_command_says_so_and_the_scripts_are_shown_all_the_same() {
    let project = Project::new();
    project.write("sweep.yaml", &sweep("sweep", 1, 12));
    let arguments = [&["run", "sweep.yaml"], COMMON, &["--on", "slurm"]].concat();
    let mut command = project.command(&arguments);
    let refused = Ran(command.env("PATH", "").stdin(Stdio::null()).output().unwrap()).exits(1);
    assert!(refused.told().contains("there is no Slurm here"), "{}", refused.stderr());
    assert!(project.files("results").is_empty());
    let settings = ["--set", "hardware.slurm.gres=gpu:1", "--dry-run"];
    let mut command = project.command(&[&arguments[..], &settings].concat());
    let shown = Ran(command.env("PATH", "").output().unwrap()).exits(0).stdout();
    for line in ["#SBATCH --array=0-2", "#SBATCH --gres=gpu:1", "#SBATCH --signal=B:TERM@120", "--dependency=afterany:"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(project.files("results").is_empty());
    // A claim on speed adds the timing session, an element of its own on a node of its own.
    project.write("timed.yaml", &super::timing::spec());
    let mut command =
        project.command(&["run", "timed.yaml", "--on", "slurm", "--dry-run", "--set", "hardware.threads=2"]);
    let shown = Ran(command.env("PATH", "").output().unwrap()).exits(0).stdout();
    for line in [
        "4 runs in 4 elements of 1 arrays, and a timing session,",
        "#SBATCH --exclusive",
        "#SBATCH --cpus-per-task=2",
        "elements-1':$((4 + ",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let hostile =
        project.run(&[&arguments[..], &["--dry-run", "--set", "hardware.slurm.qos=\"a\\n#SBATCH --uid=0\""]].concat());
    assert!(hostile.exits(2).told().contains("must match"));
}
