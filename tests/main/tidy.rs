//! The house rules of SPECS.md that a machine can check.

use std::path::{Path, PathBuf};

use super::program::root;

/// What each room may import, as the table in SPECS.md has it. `cli` may import all.
const ROOMS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("experiment", &["spec", "plan", "artifacts", "tokenizer", "hardware", "data"]),
    ("plan", &["experiment"]),
    ("hardware", &["plan"]),
    ("artifacts", &["plan"]),
    ("ops", &[]),
    ("tokenizer", &[]),
    ("cache", &[]),
    ("data", &["cache", "tokenizer", "plan"]),
    ("model", &["ops", "plan"]),
    ("optim", &["model", "ops", "plan"]),
    ("checkpoint", &[]),
    ("evals", &["model", "data", "tokenizer", "plan", "checkpoint"]),
    ("generate", &["model", "tokenizer"]),
    ("train", &["plan", "data", "model", "optim", "evals", "checkpoint", "artifacts", "tokenizer", "hardware"]),
    (
        "run",
        &[
            "plan",
            "experiment",
            "hardware",
            "artifacts",
            "cache",
            "checkpoint",
            "data",
            "tokenizer",
            "model",
            "optim",
            "evals",
            "train",
            "scorecard",
            "report",
        ],
    ),
    ("trained", &["checkpoint", "model", "tokenizer", "artifacts", "plan"]),
    ("export", &["trained", "checkpoint", "model", "tokenizer", "artifacts", "plan", "ops", "optim"]),
    ("baseline", &["plan", "artifacts", "tokenizer", "data", "checkpoint", "hardware"]),
    (
        "bench",
        &[
            "plan",
            "run",
            "train",
            "data",
            "tokenizer",
            "model",
            "ops",
            "optim",
            "hardware",
            "artifacts",
            "generate",
            "trained",
        ],
    ),
    ("scorecard", &["artifacts", "plan"]),
    ("report", &["scorecard", "artifacts", "plan"]),
    ("schemas", &["spec", "experiment", "plan", "artifacts", "scorecard", "report"]),
    ("scalar", &["plan"]),
    ("parity", &["plan", "data", "tokenizer", "model", "optim", "evals", "generate", "train", "checkpoint", "scalar"]),
];

/// Files that are compiled for tests alone, though their names don't say so: measurements that print.
const TEST_FILES: &[&str] = &["src/ops/kernels/gemm_bf16/measure.rs"];

/// Longest source file, in lines; tests may be a little longer, since they are data.
const LONGEST_FILE: usize = 600;

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path.strip_prefix(root()).expect("inside the project").to_path_buf(), text));
            }
        }
    }
    found.sort();
    found
}

/// The text before the tests at the end of a file; nothing of a file that is tests as a whole.
fn without_tests<'a>(path: &Path, text: &'a str) -> &'a str {
    let in_tests = path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
    let is_tests = in_tests || TEST_FILES.iter().any(|file| path == Path::new(file));
    if is_tests { "" } else { text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text) }
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = path.components().nth(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let Some((room, allowed)) = ROOMS.iter().find(|(name, _)| Some(*name) == room.as_deref()) else { continue };
        for line in code_lines(without_tests(&path, &text)) {
            for rest in line.split("crate::").skip(1) {
                let imported: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let is_room = imported == "cli" || ROOMS.iter().any(|(name, _)| *name == imported);
                if is_room && imported != *room && !allowed.contains(&imported.as_str()) {
                    wrong.push(format!("{}: `{room}` may not import `{imported}`", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    for entry in std::fs::read_dir(root().join("src")).expect("src").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name == "cli" || ROOMS.iter().any(|(room, _)| *room == name);
        assert!(!entry.path().is_dir() || known, "src/{name} is in no table: say in SPECS.md what it is for");
    }
}

#[test]
fn only_the_command_line_prints() {
    for (path, text) in sources() {
        if path.starts_with("src/cli") {
            continue;
        }
        for line in code_lines(without_tests(&path, &text)) {
            let prints =
                ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("].iter().any(|name| line.contains(name));
            assert!(!prints, "{}: `{line}`: only cli prints", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_kernels_alone() {
    for (path, text) in sources() {
        if path.starts_with("src/ops/kernels") {
            continue;
        }
        for line in code_lines(&text) {
            assert!(!line.contains("unsafe {") && !line.contains("unsafe fn"), "{}: `{line}`", path.display());
        }
    }
}

#[test]
fn files_can_be_seen_whole() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: is there a seam?", path.display());
    }
}

#[test]
fn no_loose_ends() {
    for (path, text) in sources() {
        for line in text.lines() {
            for mark in [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("FIX", "ME")] {
                assert!(!line.contains(mark), "{}: `{line}`", path.display());
            }
        }
    }
}
