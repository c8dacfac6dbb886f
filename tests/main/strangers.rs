//! A stranger's pull request can be judged and nothing else: attacks that are read, refused or shown, never carried out.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{Project, root};

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
