//! What is released and how it is installed: one name for an archive in all places, and nothing installed that isn't what the
//! release's checksums say.

#![cfg(unix)]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_yaml::Value;

use super::program::{Project, root};

const ACTION: &str = ".github/actions/setup-nanochat";

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn archives_have_one_name_in_the_release_the_manifest_and_the_action() {
    let release = read(".github/workflows/release.yml");
    assert!(release.contains(r#"tar -czf "dist/nanochat-$TARGET.tar.gz" "nanochat-$TARGET""#));
    let manifest = read("Cargo.toml");
    assert!(manifest.contains(r#"pkg-url = "{ repo }/releases/download/v{ version }/nanochat-{ target }.tar.gz""#));
    assert!(manifest.contains(r#"bin-dir = "nanochat-{ target }/{ bin }{ binary-ext }""#));
    let install = read(&format!("{ACTION}/install"));
    assert!(install.contains("archive=nanochat-$target.tar.gz") && install.contains("nanochat-$target/nanochat"));

    let workflow = yaml(".github/workflows/release.yml");
    let built = workflow["jobs"]["build"]["strategy"]["matrix"]["include"].as_sequence().expect("platforms").clone();
    assert_eq!(built.len(), 3);
    for platform in built {
        let target = platform["target"].as_str().expect("a target");
        assert!(install.contains(&format!("target={target} ")), "the action doesn't know {target}");
    }
}

#[test]
fn only_the_job_that_publishes_may_write() {
    let workflow = yaml(".github/workflows/release.yml");
    assert_eq!(workflow["permissions"]["contents"], "read");
    for (name, job) in workflow["jobs"].as_mapping().expect("jobs") {
        assert_eq!(job["permissions"].is_mapping(), name == "publish", "{name:?}");
    }
    let publish = serde_yaml::to_string(&workflow["jobs"]["publish"]).expect("YAML");
    assert!(!publish.contains("checkout") && !publish.contains("cargo"), "it runs code of the repository: {publish}");
}

/// The judge comes by the action, from the base branch.
#[test]
fn comparisons_take_their_program_from_the_action() {
    let compare = yaml(".github/workflows/compare.yml");
    let steps = compare["jobs"]["compare"]["steps"].as_sequence().expect("steps");
    let judge = steps.iter().find(|step| step["id"] == "judge").expect("the judge");
    assert_eq!(judge["uses"], "./base/.github/actions/setup-nanochat");
    let action = yaml(&format!("{ACTION}/action.yml"));
    for (input, _) in judge["with"].as_mapping().expect("inputs") {
        assert!(action["inputs"].as_mapping().expect("inputs").contains_key(input), "{input:?}");
    }
    assert!(action["outputs"]["program"].is_mapping());
    let uses = read(&format!("{ACTION}/action.yml"));
    for line in uses.lines().filter(|line| line.contains("uses: ")) {
        let commit = line.split('@').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
    }
}

#[test]
fn a_tag_is_the_version_that_the_changelog_tells_of() {
    let ask = |tag: &str| Command::new(root().join(".ci/version")).arg(tag).output().expect("bash");
    let version = env!("CARGO_PKG_VERSION");
    let right = ask(&format!("v{version}"));
    assert_eq!(String::from_utf8_lossy(&right.stdout).trim(), version, "{right:?}");
    let wrong = ask("v99.0.0");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("the tag is v99.0.0"));
}

/// A release in a folder, whose program is a script.
struct Release {
    project: Project,
}

impl Release {
    fn new() -> Self {
        let project = Project::new();
        let target = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("macos", _) => "aarch64-apple-darwin",
            (_, "aarch64") => "aarch64-unknown-linux-gnu",
            _ => "x86_64-unknown-linux-gnu",
        };
        project.write(&format!("v1.2.3/nanochat-{target}/nanochat"), "#!/bin/sh\necho nanochat 1.2.3\n");
        let pack = format!(
            "chmod +x nanochat-{target}/nanochat && tar -czf nanochat-{target}.tar.gz nanochat-{target} && \
             (sha256sum nanochat-{target}.tar.gz || shasum -a 256 nanochat-{target}.tar.gz) > SHA256SUMS 2> /dev/null"
        );
        let status = Command::new("sh").args(["-ec", &pack]).current_dir(project.path().join("v1.2.3")).status();
        assert!(status.expect("a shell").success());
        Self { project }
    }

    fn install(&self, version: &str) -> (Output, PathBuf) {
        let folder = self.project.path().join("installed");
        let output = Command::new(root().join(ACTION).join("install"))
            .arg(&folder)
            .env("VERSION", version)
            .env("REPOSITORY", "owner/name")
            .env("RELEASES", format!("file://{}", self.project.path().display()))
            .env_remove("SOURCE")
            .output()
            .expect("bash");
        (output, folder.join("nanochat"))
    }
}

#[test]
fn a_release_is_installed_when_it_has_its_checksum() {
    let release = Release::new();
    let (output, program) = release.install("1.2.3");
    assert!(output.status.success(), "{output:?}");
    let said = Command::new(&program).output().expect("the program");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "nanochat 1.2.3\n");

    let (none, _) = release.install("1.2.4");
    assert_eq!(none.status.code(), Some(3), "no release is an exit code of its own: {none:?}");
    let (odd, _) = release.install("../1.2.3");
    assert_eq!(odd.status.code(), Some(2), "{odd:?}");
}

#[test]
fn an_archive_with_another_checksum_is_not_installed() {
    let release = Release::new();
    let sums = release.project.path().join("v1.2.3/SHA256SUMS");
    let right = std::fs::read_to_string(&sums).expect("checksums");
    let (digest, name) = right.split_once(' ').expect("a digest and a name");
    for wrong in [format!("{} {name}", "0".repeat(digest.len())), String::new(), right.repeat(2)] {
        std::fs::write(&sums, &wrong).expect("written");
        let (output, program) = release.install("1.2.3");
        assert_eq!(output.status.code(), Some(1), "{wrong}: {output:?}");
        assert!(!program.exists(), "{wrong}");
    }
}
