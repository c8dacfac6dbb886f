//! The house rules of SPECS.md that a machine can check.

use std::path::{Path, PathBuf};

use super::imports::{self, File};
use super::program::root;

/// Files that are compiled for tests alone, though their names don't say so: measurements that print.
const TEST_FILES: &[&str] = &["src/engine/model/testing.rs", "src/lab/scorecard/fabricate.rs"];

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
    // A build script works for cargo, on what cargo gives it.
    let is_build = path.ends_with("build.rs");
    let is_tests = in_tests || is_build || TEST_FILES.iter().any(|file| path == Path::new(file));
    if is_tests { "" } else { text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text) }
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// The crates of the workspace by the name of their folder, and what each depends on when it isn't tested.
fn crates() -> Vec<(String, Vec<String>)> {
    let folders = std::fs::read_dir(root().join("src")).expect("src").flatten().map(|entry| entry.path());
    let mut crates: Vec<_> = folders
        .filter_map(|folder| {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
            let dependencies = manifest.split("\n[dependencies]\n").nth(1)?.split("\n[").next()?;
            let names = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
            let names = names.filter(|name| !name.is_empty()).map(str::to_string).collect();
            Some((folder.file_name()?.to_string_lossy().into_owned(), names))
        })
        .collect();
    crates.sort();
    crates
}

/// Sources of a crate that are not tests, by their path in its folder. The program's own are those in no other crate.
fn sources_of(name: Option<&str>) -> Vec<File> {
    let others: Vec<String> = crates().into_iter().map(|(name, _)| name).collect();
    let folder = name.map_or_else(|| PathBuf::from("src"), |name| Path::new("src").join(name));
    let in_crate = |path: &Path| match name {
        Some(_) => path.starts_with(&folder),
        None => !others.iter().any(|other| path.starts_with(Path::new("src").join(other))),
    };
    let files = sources().into_iter().filter(|(path, _)| in_crate(path));
    let files = files.map(|(path, text)| (path.clone(), without_tests(&path, &text).to_string()));
    files.map(|(path, text)| (path.strip_prefix(&folder).expect("inside the crate").to_path_buf(), text)).collect()
}

/// What the compiler holds through the manifests, said once more, so that a new dependency is a decision.
#[test]
fn crates_know_only_what_the_architecture_allows() {
    let forbidden = [
        ("kernels", &["nanochat-", "candle", "serde", "polars"][..]),
        ("formats", &["nanochat-", "polars", "tokenizers", "clap"]),
        ("step", &["nanochat-engine", "nanochat-artifacts", "candle", "serde", "polars", "clap"]),
        ("gpu", &["nanochat-engine", "nanochat-artifacts", "candle", "cudarc", "serde", "polars", "clap"]),
        ("cuda", &["nanochat-engine", "nanochat-artifacts", "nanochat-kernels", "candle", "serde", "polars", "clap"]),
        ("emulator", &["nanochat-engine", "nanochat-artifacts", "candle", "serde", "polars", "clap"]),
        ("plan", &["nanochat-", "candle", "polars", "clap", "miette"]),
        (
            "artifacts",
            &["candle", "nanochat-engine", "nanochat-kernels", "nanochat-lab", "nanochat-experiment", "clap"],
        ),
        ("experiment", &["candle", "nanochat-engine", "nanochat-kernels", "nanochat-lab", "polars", "clap"]),
        ("lab", &["candle", "nanochat-engine", "nanochat-kernels", "nanochat-export", "tokenizers", "clap"]),
        ("download", &["candle", "nanochat-engine", "nanochat-lab", "nanochat-experiment", "polars", "clap"]),
        (
            "engine",
            &[
                "nanochat-download",
                "nanochat-lab",
                "nanochat-experiment",
                "nanochat-export",
                "minijinja",
                "figment",
                "clap",
            ],
        ),
        ("export", &["nanochat-lab", "nanochat-experiment", "minijinja", "clap"]),
    ];
    let crates = crates();
    for (name, prefixes) in forbidden {
        let (_, dependencies) = crates.iter().find(|(found, _)| found == name).expect(name);
        for dependency in dependencies {
            let allowed = !prefixes.iter().any(|prefix| dependency.starts_with(prefix));
            assert!(allowed, "src/{name}/Cargo.toml: `{name}` must not depend on `{dependency}`");
        }
    }
}

#[test]
fn rooms_of_a_crate_import_in_one_direction() {
    let names: Vec<String> = crates().into_iter().map(|(name, _)| name).collect();
    for name in names.iter().map(|name| Some(name.as_str())).chain([None]) {
        let graph = imports::graph(&sources_of(name));
        let found = imports::cycle(&graph);
        assert!(found.is_none(), "crate {}: {} ({graph:?})", name.unwrap_or("nanochat"), found.unwrap().join(" → "));
    }
}

/// The same check finds cycles through grouped imports, re-exports, `super` and paths in expressions.
#[test]
fn planted_cycles_are_found() {
    let file = |path: &str, text: &str| (PathBuf::from(path), text.to_string());
    let planted = [
        [file("lib.rs", "mod a;\nmod b;"), file("a.rs", "use crate::{b::B, c};"), file("b.rs", "use super::a::A;")],
        [file("lib.rs", "pub use b::{B, x::Y};"), file("a.rs", "use crate::Y;"), file("b/x.rs", "crate::a::call();")],
        [file("lib.rs", ""), file("a/deep/mod.rs", "use super::super::b;"), file("b.rs", "use crate::{\n    a,\n};")],
    ];
    for files in planted {
        let cycle = imports::cycle(&imports::graph(&files)).unwrap_or_default();
        assert_eq!(cycle, ["a", "b", "a"], "{files:?}");
    }
    let sound =
        [file("lib.rs", "pub use b::B;"), file("a.rs", "use crate::B; use super::b;"), file("b.rs", "// crate::a\n")];
    assert_eq!(imports::cycle(&imports::graph(&sound)), None);
}

#[test]
fn only_the_command_line_prints() {
    for (path, text) in sources() {
        if path == Path::new("src/cli/output.rs") {
            continue;
        }
        for line in code_lines(without_tests(&path, &text)) {
            let prints =
                ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("].iter().any(|name| line.contains(name));
            assert!(!prints, "{}: `{line}`: only cli/output.rs prints", path.display());
        }
    }
}

/// What only certain files may do, since they see to it that no stranger's file is followed, run, or read without end.
/// The others open what their user named (data, weights, benchmarks), or what the system says of itself.
const ROOMS: &[(&[&str], &[&str])] = &[
    (&["Command::new(\"git\")"], &["src/artifacts/git.rs"]),
    // Nothing is sent or fetched over a network elsewhere.
    (
        &["ureq::", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"],
        &["src/download/client.rs", "src/serve/mod.rs"],
    ),
    // The shell sends a signal to a process group; `uv`, `venv` and `pip` make an environment that the user asked for;
    // `nvidia-smi` is asked for the GPUs; a build script starts CUDA's compiler; Slurm's programs; the user's `--on-finish`.
    (
        &["Command::new("],
        &[
            "src/artifacts/git.rs",
            "src/baseline/process.rs",
            "src/baseline/python.rs",
            "src/cuda/build.rs",
            "src/baseline/setup.rs",
            "src/cluster/programs.rs",
            "src/engine/device/gpus.rs",
            "src/run/hook.rs",
        ],
    ),
    (
        &["File::create", "fs::write("],
        &[
            "src/baseline/base_folder.rs",
            "src/cuda/build.rs",
            "src/engine/cache/store.rs",
            "src/engine/device/memory.rs",
        ],
    ),
    (
        &["OpenOptions::new", "File::options"],
        &["src/artifacts/files.rs", "src/engine/checkpoint", "src/export/onnx/files.rs", "src/formats/torch/write.rs"],
    ),
    (
        &["fs::remove_"],
        &[
            "src/artifacts/files.rs",
            "src/baseline/base_folder.rs",
            "src/download/unpack.rs",
            "src/engine/cache/store.rs",
            "src/export/place.rs",
        ],
    ),
    (
        &["fs::read(", "fs::read_to_string("],
        &["src/baseline/usage.rs", "src/engine/device/memory.rs", "src/formats/onnx/proto.rs", "src/hardware"],
    ),
    (
        &["File::open("],
        &[
            "src/artifacts/write.rs",
            "src/cli/input.rs",
            "src/engine/checkpoint/files.rs",
            "src/engine/data",
            "src/formats",
            "src/parity/kind.rs",
        ],
    ),
];

/// Words that begin a line outside the rooms that own them.
fn out_of_place(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (words, rooms) in ROOMS {
        if rooms.iter().any(|room| path.starts_with(room)) {
            continue;
        }
        let lines = code_lines(without_tests(path, text));
        found.extend(lines.filter(|line| words.iter().any(|word| line.contains(word))).map(str::to_string));
    }
    found
}

#[test]
fn files_programs_and_connections_are_opened_where_that_is_safe() {
    for (path, text) in sources() {
        let found = out_of_place(&path, &text);
        assert!(
            found.is_empty(),
            "{}: {found:?}: use `artifacts::files`, `artifacts::git`, `Python` or `download`",
            path.display()
        );
    }
}

#[test]
fn planted_openings_are_found() {
    let planted = [
        "Command::new(\"git\")",
        "Command::new(python)",
        "File::create(path)",
        "std::fs::remove_dir_all(path)",
        "std::fs::read(path)",
        "fs::read_to_string(path)",
        "File::open(path)",
        "OpenOptions::new()",
        "fs::write(path, text)",
        "ureq::get(url)",
        "std::net::TcpStream::connect(address)",
    ];
    for line in planted {
        assert!(
            !out_of_place(Path::new("src/lab/verify.rs"), &format!("fn f() {{\n    {line};\n}}")).is_empty(),
            "{line}"
        );
    }
    assert!(out_of_place(Path::new("src/lab/verify.rs"), "// Command::new(\"git\")").is_empty());
}

#[test]
fn unsafe_code_is_in_kernels_and_at_foreign_interfaces_alone() {
    for (path, text) in sources() {
        if ["src/kernels", "src/emulator", "src/cuda"].iter().any(|room| path.starts_with(room)) {
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
