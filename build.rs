//! Records the commit that the program is built from, and the versions of the libraries that decide its results.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "src/artifacts/deciding.rs"]
mod deciding;

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rerun-if-changed=Cargo.lock");
    record_commit();
    record_versions();
    record_deciding_code();
}

/// Digest of the sources that decide figures.
fn record_deciding_code() {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = deciding::DECIDING.iter().map(PathBuf::from).collect();
    while let Some(path) = open.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else if let Some(name) =
            path.to_str().map(|name| name.replace('\\', "/")).filter(|name| deciding::decides(name))
        {
            files.push((name, std::fs::read(&path).unwrap_or_default()));
        }
    }
    println!("cargo:rustc-env=NANOCHAT_DECIDING_CODE={}", deciding::deciding_digest(files));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}

/// Outside a checkout nothing is recorded, and the documents say `null`.
fn record_commit() {
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return };
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rustc-env=NANOCHAT_CODE_COMMIT={commit}");
    let what_decides = ["status", "--porcelain", "--", "src", "templates", "Cargo.toml", "Cargo.lock", "build.rs"];
    if let Some(changes) = git(&what_decides) {
        println!("cargo:rustc-env=NANOCHAT_CODE_CLEAN={}", changes.is_empty());
    }
}

fn record_versions() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    for (name, variable) in [("candle-core", "NANOCHAT_CANDLE_VERSION"), ("gemm", "NANOCHAT_GEMM_VERSION")] {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let version = lock.split(&entry).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("unknown");
        println!("cargo:rustc-env={variable}={version}");
    }
}
