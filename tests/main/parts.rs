//! An experiment in parts: shards in folders of their own, joined; and who owns a run.

use serde_json::Value;

use super::program::Project;
use super::run_experiment::TINY;

/// Two learning rates with three seeds each: six runs.
fn sweep() -> String {
    TINY.replace("name: tiny", "name: sweep")
        .replace("seed: 7", "seeds: [1, 2, 3]")
        .replace("repeats: 1", "repeats: 0")
        .replace("ruleset: v1", "matrix: { axes: { optimizer.matrix_lr: [0.02, 0.03] } }\nruleset: v1")
}

const RUN: &[&str] = &["run", "sweep.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];

fn json(project: &Project, name: &str) -> Value {
    let text = std::fs::read_to_string(project.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn runs(project: &Project) -> Vec<String> {
    let record = json(project, "results/sweep/experiment.json");
    record["runs"].as_array().unwrap().iter().map(|run| run.as_str().unwrap().to_string()).collect()
}

/// What both say, but for times, memory and sessions.
pub fn assert_same_results(whole: &Project, other: &Project, name: &str) {
    let record = format!("results/{name}/experiment.json");
    assert_eq!(json(whole, &record), json(other, &record));
    for run in json(whole, &record)["runs"].as_array().unwrap() {
        let run = format!("results/{name}/{}", run.as_str().unwrap());
        assert_eq!(json(whole, &format!("{run}/plan.json")), json(other, &format!("{run}/plan.json")));
        let [a, b] = [whole, other].map(|project| json(project, &format!("{run}/summary.json")));
        for key in
            ["status", "weights_sha256", "loss_trace_sha256", "final_val_bpb", "min_val_bpb", "steps", "data_sha256"]
        {
            assert_eq!(a[key], b[key], "{run}: {key}");
        }
    }
    let [a, b] = [whole, other].map(|project| json(project, &format!("results/{name}/scorecard.json")));
    for key in ["quality", "finished", "runs"] {
        assert_eq!(a[key], b[key], "{key}");
    }
}

#[test]
fn shards_in_folders_of_their_own_join_to_what_one_machine_gives() {
    let whole = Project::new();
    whole.write("sweep.yaml", &sweep());
    whole.run(RUN).exits(0);

    let shards: Vec<Project> = (1..=4)
        .map(|number| {
            let project = Project::new();
            project.write("sweep.yaml", &sweep());
            project.run(&[RUN, &["--shard", &format!("{number}/4")]].concat()).exits(0);
            project
        })
        .collect();
    let joined = Project::new();
    let folders: Vec<String> = shards.iter().map(|shard| shard.path().display().to_string()).collect();
    let merge: Vec<&str> = ["merge"].into_iter().chain(folders.iter().map(String::as_str)).collect();
    let printed = joined.run(&merge).exits(0).stdout();
    assert!(printed.contains("6 runs brought in, 0 were there"), "{printed}");
    assert_same_results(&whole, &joined, "sweep");
    joined.run(&["verify", "results"]).exits(0);

    // Again changes nothing, and a copy that says otherwise is refused with both places.
    let again = joined.run(&merge).exits(0).stdout();
    assert!(again.contains("0 runs brought in, 6 were there"), "{again}");
    let shard = shards.iter().find(|shard| shard.files("results").iter().any(|file| file.ends_with("summary.json")));
    let shard = shard.unwrap();
    let file = shard.files("results").into_iter().find(|file| file.ends_with("summary.json")).unwrap();
    let text = std::fs::read_to_string(shard.path().join(&file)).unwrap();
    shard.write(&file, &text.replace("\"elapsed_seconds\": ", "\"elapsed_seconds\": 1"));
    let before = std::fs::read(joined.path().join(&file)).unwrap();
    let refused = joined.run(&merge).exits(2);
    assert!(refused.told().contains("contradict each other"), "{}", refused.stderr());
    assert!(refused.told().contains("summary.json differs"), "{}", refused.stderr());
    assert_eq!(std::fs::read(joined.path().join(&file)).unwrap(), before);

    // A table that isn't the summary's, and a plan that isn't the hash's.
    shard.write(&file, &text);
    let steps = shard.path().join(file.replace("summary.json", "steps.parquet"));
    std::fs::write(&steps, "PAR1").unwrap();
    let refused = joined.run(&merge).exits(2);
    assert!(refused.told().contains("the table that the summary beside it was made from"), "{}", refused.stderr());
    let empty = joined.run(&["merge", "nowhere"]).exits(2);
    assert!(empty.told().contains("no results"), "{}", empty.stderr());
}

#[test]
fn a_shard_is_judged_as_partial_and_a_broken_one_refused() {
    let project = Project::new();
    project.write("sweep.yaml", &sweep());
    project.run(&[RUN, &["--shard", "1/2"]].concat()).exits(0);
    let (card, all) = (json(&project, "results/sweep/scorecard.json"), runs(&project));
    assert_eq!(all.len(), 6);
    assert!(card["finished"].as_u64().unwrap() < 6, "{card:#}");
    project.run(&[RUN, &["--shard", "2/2"]].concat()).exits(0);
    assert_eq!(json(&project, "results/sweep/scorecard.json")["finished"], 6);
    let refused = project.run(&[RUN, &["--shard", "3/2"]].concat()).exits(2);
    assert!(refused.told().contains("NUMBER/OF"), "{}", refused.stderr());
}

#[test]
fn a_command_runs_when_the_experiment_ends() {
    let project = Project::new();
    project.write("sweep.yaml", &sweep());
    let command = "printf '%s %s %s' \"$NANOCHAT_EXPERIMENT\" \"$NANOCHAT_STATUS\" \"$NANOCHAT_REPORT\" > said; exit 3";
    let ran = project.run(&[RUN, &["--shard", "1/3", "--on-finish", command]].concat()).exits(0);
    assert!(ran.told().contains("the command of --on-finish failed"), "{}", ran.stderr());
    let said = std::fs::read_to_string(project.path().join("said")).unwrap();
    assert_eq!(said, "sweep finished reports/sweep.md");
}

#[test]
fn owners_of_a_run_are_recorded_and_a_live_one_is_respected() {
    let project = Project::new();
    project.write("sweep.yaml", &sweep());
    let only = ["--only", "optimizer.matrix_lr=0.02", "--set", "seeds=[1]"];
    project.run(&[RUN, &only].concat()).exits(0);
    let run = format!("results/sweep/{}", runs(&project)[0]);
    let owners = std::fs::read_to_string(project.path().join(format!("{run}/owners.jsonl"))).unwrap();
    let owners: Vec<Value> = owners.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((owners.len(), &owners[1]["how"]), (2, &"released".into()), "{owners:?}");

    // A lease of another machine that was renewed just now.
    let lease = std::fs::read_to_string(project.path().join(format!("{run}/.lease-1"))).unwrap();
    let mut lease: Value = serde_json::from_str(&lease).unwrap();
    assert_eq!((&lease["progress"]["step"], &lease["progress"]["steps"]), (&12.into(), &12.into()));
    (lease["generation"], lease["released"], lease["owner"]["host"]) = (2.into(), false.into(), "elsewhere".into());
    project.write(&format!("{run}/.lease-2"), &lease.to_string());
    let refused = project.run(&[RUN, &only, &["--force"]].concat()).exits(1);
    assert!(refused.told().contains("on elsewhere"), "{}", refused.stderr());
    // Nothing of the run was touched.
    assert_eq!(json(&project, &format!("{run}/summary.json"))["status"], "finished");
}
