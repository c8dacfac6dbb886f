//! Results that were tampered with, the leaderboard, and the comment on a pull request, through the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{Project, root};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The recorded project of the fixtures, judged, reported and listed.
fn recorded() -> Project {
    let project = Project::new();
    copy(&root().join("fixtures/scorecard/project"), project.path());
    // As if they were no smoke tests, which the leaderboard leaves out.
    for plan in project.files("results").iter().filter(|file| file.ends_with("plan.json")) {
        let path = project.path().join(plan);
        let text = std::fs::read_to_string(&path).expect("read").replace("\"cpu-smoke\"", "\"cpu\"");
        std::fs::write(&path, text).expect("written");
    }
    project.run(&["report", "judged", "--recompute"]).exits(0);
    project.run(&["leaderboard"]).exits(0);
    let verified = project.run(&["verify"]).exits(0);
    assert!(verified.stdout().contains("all as recomputed"), "{}", verified.stdout());
    project
}

fn first_run(project: &Project) -> PathBuf {
    let files = project.files("results/judged");
    let summary = files.iter().find(|file| file.ends_with("summary.json")).expect("a run");
    project.path().join(summary).parent().expect("a folder").to_path_buf()
}

/// Changes the first digit after `mark` in a text file.
fn change_digit(path: &Path, mark: &str) {
    let text = std::fs::read_to_string(path).expect("read");
    let start = text.find(mark).unwrap_or_else(|| panic!("no {mark:?} in {}", path.display())) + mark.len();
    let place = start + text[start..].find(|c: char| c.is_ascii_digit()).expect("a digit");
    let digit = if &text[place..=place] == "7" { "8" } else { "7" };
    std::fs::write(path, format!("{}{digit}{}", &text[..place], &text[place + 1..])).expect("written");
}

#[test]
fn one_changed_digit_is_caught_in_every_kind_of_file() {
    let places: [(&str, &str); 8] = [
        ("plan.json", "\"matrix_lr\": 0."),
        ("summary.json", "\"final_val_bpb\": "),
        ("environment.json", "\"memory_bytes\": "),
        ("../scorecard.json", "\"candidate\": "),
        ("../experiment.json", "\"relative\": 0."),
        ("../../../reports/judged.md", "| Quality"),
        ("../../../reports/judged.html", "<polyline"),
        ("../../LEADERBOARD.md", "| val bpb"),
    ];
    for (file, mark) in places {
        let project = recorded();
        change_digit(&first_run(&project).join(file), mark);
        let name = file.rsplit('/').next().expect("a name");
        let found = project.run(&["verify"]).exits(1).stdout();
        assert!(found.contains(name) || found.contains("differs from what the artifacts say"), "{file}: {found}");
    }
}

#[test]
fn a_changed_table_is_caught() {
    for table in ["steps.parquet", "evals.parquet"] {
        let project = recorded();
        let path = first_run(&project).join(table);
        let mut bytes = std::fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let found = project.run(&["verify"]).exits(1).stdout();
        assert!(found.lines().any(|line| line.contains(table)), "{table}: {found}");
    }
}

#[test]
fn a_plan_is_held_against_its_hash() {
    let project = recorded();
    change_digit(&first_run(&project).join("plan.json"), "\"matrix_lr\": 0.");
    let found = project.run(&["verify"]).exits(1).stdout();
    assert!(found.contains("plan_hash"), "{found}");
}

fn git(folder: &Path, arguments: &[&str]) -> bool {
    let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn the_leaderboard_leaves_out_what_git_ignores() {
    let project = recorded();
    let board = || std::fs::read_to_string(project.path().join("results/LEADERBOARD.md")).expect("read");
    assert!(board().contains("[judged](../reports/judged.md)"), "{}", board());
    assert!(board().contains("*karpathy/nanochat, tiny*"), "{}", board());
    project.write(".gitignore", "/results/judged/\n");
    for in_a_repository in [false, true] {
        if in_a_repository && !git(project.path(), &["init", "-q"]) {
            println!("skipped: git is not installed");
            return;
        }
        project.run(&["leaderboard"]).exits(0);
        assert!(!board().contains("judged"), "{}", board());
        project.run(&["verify"]).exits(0);
    }
}

fn workflow(name: &str) -> (serde_yaml::Value, String) {
    let text = std::fs::read_to_string(root().join(".github/workflows").join(name)).expect("the workflow");
    (serde_yaml::from_str(&text).expect("YAML"), text)
}

/// The step of a job with this id.
fn script(name: &str, id: &str) -> String {
    let (workflow, _) = workflow(name);
    let job = name.trim_end_matches(".yml");
    let steps = workflow["jobs"][job]["steps"].as_sequence().expect("steps");
    let step = steps.iter().find(|step| step["id"] == id).expect("the step");
    step["run"].as_str().expect("a script").to_string()
}

/// The workflow posts what `compare` prints, and finds it again by the marker.
#[test]
fn the_workflow_knows_the_program() {
    let project = recorded();
    let ran = project.run(&["compare", "results", "results", "--gate", "--format", "markdown"]).exits(0);
    let marker = "<!-- nanochat-compare -->";
    assert!(ran.stdout().trim_end().ends_with(marker) && workflow("comment.yml").1.contains(marker));
}

/// Workflows pin what they use by full commit, end, and give a pull request's job no right to write or to run its own code.
#[test]
fn workflows_give_strangers_nothing() {
    for name in ["ci.yml", "comment.yml", "compare.yml", "release.yml"] {
        let (parsed, text) = workflow(name);
        // What the repository has itself comes from the base branch.
        let elsewhere = |line: &&str| line.contains("uses: ") && !line.contains("uses: ./base/.github/actions/");
        for line in text.lines().filter(elsewhere) {
            let commit = line.split('@').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            let is_full = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_full, "{name}: {line}");
        }
        for (job, entry) in parsed["jobs"].as_mapping().expect("jobs") {
            assert!(entry["timeout-minutes"].is_number(), "{name}: {job:?} has no time limit");
        }
        for line in text.lines().filter(|line| line.contains("cargo build") || line.contains("cargo run")) {
            assert!(line.contains("--locked"), "{name}: {line}");
        }
        assert!(!text.contains("pull_request_target"), "{name}");
    }
    let (compare, text) = workflow("compare.yml");
    assert!(!text.contains(": write") && !text.contains("GH_TOKEN"), "the job that reads a stranger's files");
    let steps = compare["jobs"]["compare"]["steps"].as_sequence().expect("steps");
    let folder = |step: &serde_yaml::Value| step["working-directory"].as_str().unwrap_or_default().to_string();
    for step in steps {
        let run = step["run"].as_str().unwrap_or_default();
        assert!(!run.contains("cargo") || folder(step) == "base", "{run}");
    }
    let (_, comment) = workflow("comment.yml");
    assert!(!comment.contains("actions/checkout"), "the job with rights has no code of the pull request");
}

#[cfg(unix)]
fn executable(project: &Project, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = project.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Runs the workflow's script that posts the comment against a stand-in for GitHub's program.
#[cfg(unix)]
#[test]
fn the_comment_is_posted_once_and_then_updated() {
    let project = Project::new();
    executable(
        &project,
        "bin/gh",
        "#!/bin/sh\n# What was asked for: the pull request, its files, its comments; else what is sent is written down.\n\
         case \"$*\" in\n  *--method*) echo \"$@\" >> asked; cat temp/comparison/comment.md > sent ;;\n\
         *head.sha*) cat head ;;\n  *filename*) cat changed ;;\n  *) cat comments ;;\nesac\n",
    );
    let path = format!("{}:{}", project.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let run = |comments: &str, number: &str, head: &str, changed: &str| {
        project.write("temp/comparison/comment.md", "first\n<!-- nanochat-compare -->\n");
        project.write("temp/comparison/number", number);
        for (file, text) in [("comments", comments), ("head", head), ("changed", changed), ("asked", "")] {
            project.write(file, text);
        }
        let status = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script("comment.yml", "post")])
            .current_dir(project.path())
            .env("PATH", &path)
            .env("REPOSITORY", "owner/name")
            .env("RUNNER_TEMP", "temp")
            .env("HEAD_SHA", "abc")
            .status();
        (status.expect("bash starts").success(), std::fs::read_to_string(project.path().join("asked")).expect("read"))
    };
    let (done, first) = run("", "7", "abc", "results/a\n");
    assert!(done && first.contains("--method POST repos/owner/name/issues/7/comments"), "{first}");
    let (done, second) = run("1234\n", "7\n", "abc", "src/a\n");
    assert!(done && second.contains("--method PATCH repos/owner/name/issues/comments/1234"), "{second}");
    assert_eq!(second.lines().count(), 1, "{second}");
    // Another pull request's number, a number that is none, and a workflow that the pull request wrote itself.
    assert_eq!(run("", "8", "def", ""), (true, String::new()));
    assert_eq!(run("", "7; id", "abc", ""), (false, String::new()));
    let (done, warned) = run("", "7", "abc", ".github/workflows/compare.yml\n");
    let sent = std::fs::read_to_string(project.path().join("sent")).expect("read");
    assert!(done && warned.contains("POST") && sent.contains("is not posted") && !sent.contains("first"), "{sent}");
}

/// Runs the workflow's script that compares against a stand-in for the program: a `comment.md` in the checkout is not
/// taken for the program's, and a failure of the program is one of the step.
#[cfg(unix)]
#[test]
fn the_workflow_takes_no_comment_from_the_checkout() {
    let cases = [(0, true), (3, true), (5, true), (6, true), (1, false), (1, true), (2, false), (134, true)];
    for (code, writes) in cases {
        let project = Project::new();
        project.write("comment.md", "a stranger's");
        project.write("temp/comparison/comment.md", "a stranger's");
        let wrote = if writes { "for last; do true; done; echo ours > \"$last\"\n" } else { "" };
        let judge = format!("#!/bin/sh\ncase \"$*\" in *github*) exit 0 ;; esac\n{wrote}exit {code}\n");
        let judge = executable(&project, "judge", &judge);
        let (summary, output) = (project.write("summary", ""), project.write("output", ""));
        let status = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script("compare.yml", "compare")])
            .current_dir(project.path())
            .env("RUNNER_TEMP", project.path().join("temp"))
            .env("GITHUB_STEP_SUMMARY", &summary)
            .env("GITHUB_OUTPUT", &output)
            .env("JUDGE", judge)
            .env("BASE", "HEAD")
            .env("APPROVED", "")
            .env("NUMBER", "7")
            .status();
        let is_verdict = [0, 3, 4, 5, 6].contains(&code);
        assert_eq!(status.expect("bash starts").code(), Some(if is_verdict { 0 } else { code }), "{code}");
        let shown = std::fs::read_to_string(summary).expect("read");
        assert_eq!(shown, if is_verdict { "ours\n" } else { "" }, "{code}");
    }
}

/// A branch that changes a learning rate and commits its results, replayed: figures, sentence, the specs' difference, and the
/// exit code by the claim; then a spec that went on without its results.
#[test]
fn a_branch_that_changes_a_learning_rate_is_judged() {
    let project = Project::new();
    let claiming = |rate: &str, rules: &str, iterations: u32| {
        let spec = super::run_experiment::TINY.replace("seed: 7\n", "seeds: [7, 8, 9]\n");
        let spec = spec.replace("iterations: 12", &format!("iterations: {iterations}"));
        let spec = spec.replace("total_batch_size: 256,", &format!("total_batch_size: 256, matrix_lr: {rate},"));
        let spec = spec.replace("repeats: 1", "repeats: 0");
        let (before, _) = spec.split_once("quality:").expect("a rule of quality");
        project.write("experiments/tiny.yaml", &format!("{before}{rules}reproducibility: {{ repeats: 0 }}\n"));
    };
    let run = || {
        project.run(&["run", "experiments/tiny.yaml", "--allow-hardware-mismatch"]).exits(0);
    };
    let commit = |message: &str| {
        let committed = git(project.path(), &["add", "experiments", "results"]);
        assert!(committed && git(project.path(), &["commit", "-q", "-m", message]), "{message}");
    };
    if !git(project.path(), &["init", "-q"]) {
        println!("skipped: git is not installed");
        return;
    }
    project.write(".gitignore", "checkpoints/\nlog.jsonl\n");
    claiming("0.002", "quality: { claim: better }\nruleset: v2\n", 12);
    run();
    commit("before");
    claiming("0.3", "quality: { claim: better }\nruleset: v2\n", 12);
    run();
    commit("after");
    let compared = project.run(&["compare", "HEAD~1..HEAD", "--gate"]).exits(0);
    let told = compared.stdout();
    assert!(told.contains("tiny: matrix_lr 0.3 is better than 0.002: "), "{told}");
    assert!(told.contains("3 seeds each.") && told.contains("95% interval"), "{told}");
    assert!(told.contains("(changed: optimizer.matrix_lr 0.002 → 0.3)"), "{told}");
    // The other way round it is worse.
    let back = project.run(&["compare", "HEAD", "HEAD~1", "--gate"]).exits(3).stdout();
    assert!(back.contains("tiny: matrix_lr 0.002 is worse than 0.3: "), "{back}");
    // Nobody touched anything.
    let same = project.run(&["compare", "HEAD..HEAD", "--gate"]).exits(0).stdout();
    assert!(same.contains("nothing changed: 1 experiment is as it was.") && same.contains("untouched: tiny"), "{same}");

    // A change that claims less waits for a person, and names what it claims less.
    claiming("0.3", "quality: { claim: off }\nruleset: v2\n", 12);
    run();
    commit("no claim");
    let waits = project.run(&["compare", "HEAD~2..HEAD", "--gate"]).exits(6).stdout();
    assert!(waits.contains("a person must approve: tiny: quality.claim better → off"), "{waits}");
    assert!(waits.contains("tiny: matrix_lr 0.3 is better than 0.002: "), "by the earlier side's rules: {waits}");
    let approved = project.run(&["compare", "HEAD~2..HEAD", "--gate", "--approved"]).exits(0).stdout();
    assert!(approved.contains("approved: tiny: quality.claim better → off"), "{approved}");
    claiming("0.3", "quality: { claim: better }\nruleset: v2\n", 12);
    run();
    commit("the claim again");

    // The spec goes on, the results don't.
    claiming("0.4", "quality: { claim: better }\nruleset: v2\n", 12);
    commit("a spec without results");
    let stale = project.run(&["compare", "HEAD~1..HEAD", "--gate"]).exits(6).stdout();
    assert!(stale.contains("stale: tiny: 3 of the 3 runs that the spec plans have no results"), "{stale}");
    assert!(stale.contains("optimizer.matrix_lr 0.3 → 0.4"), "{stale}");

    // Another budget can't be compared, and is named.
    claiming("0.3", "quality: { claim: better }\nruleset: v2\n", 14);
    run();
    commit("another budget");
    let unjudged = project.run(&["compare", "HEAD~2..HEAD", "--gate"]).exits(6).stdout();
    let wanted = "the two sides differ in the budget (3584 training tokens against 3072)";
    assert!(unjudged.contains(wanted) && unjudged.contains("not judged: tiny"), "{unjudged}");
}
