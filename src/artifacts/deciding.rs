//! Which sources decide the figures of a run, and their digest: of the crates that compute them and of the libraries that
//! these rest on. The build script uses this file too, so it knows no other.

use sha2::{Digest, Sha256};

/// What is looked through: the crates that compute figures, and the lock file.
pub const DECIDING: [&str; 7] =
    ["Cargo.lock", "src/cuda", "src/engine", "src/gpu", "src/kernels", "src/plan", "src/step"];

/// Libraries whose versions decide figures too.
const LIBRARIES: [&str; 3] = ["candle-core", "candle-nn", "gemm"];

/// Whether the file of this path, with `/` between its parts, decides figures: no test, no text for people.
pub fn decides(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_source = [".rs", ".cu", ".cuh", ".cpp", ".h", ".toml"].iter().any(|end| name.ends_with(end));
    let is_test = path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs");
    path == "Cargo.lock" || (is_source && !is_test)
}

/// SHA-256 over path and content of each file, in order of their paths; of the lock file the entries that decide.
pub fn deciding_digest(mut files: Vec<(String, Vec<u8>)>) -> String {
    files.sort();
    let mut all = Sha256::new();
    for (path, content) in files {
        let content = if path == "Cargo.lock" { versions(&content) } else { content };
        all.update(path.as_bytes());
        all.update([0]);
        all.update(Sha256::digest(content));
    }
    all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names and versions of the libraries that decide figures.
fn versions(lock: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(lock).replace("\r\n", "\n");
    let entries = text.split("\n\n").filter(|entry| {
        LIBRARIES.iter().any(|name| entry.trim_start().starts_with(&format!("[[package]]\nname = \"{name}\"\n")))
    });
    let lines = entries.flat_map(str::lines).filter(|line| line.starts_with("name") || line.starts_with("version"));
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}
