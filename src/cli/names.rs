//! Names that arguments are completed with: experiments and axes of the folder, keys of specs.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use nanochat_artifacts::ResultsRoot;
use nanochat_experiment::config::{schema, suggest};
use nanochat_experiment::{LoadOptions, load};

/// Longest path of a key that is proposed.
const DEEPEST: usize = 3;

/// Completes the name of an experiment that has results here.
pub fn experiments() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| candidates(written, recorded(&ResultsRoot::new("."))))
}

/// Completes `AXIS=VALUE` from the specs of the folder.
pub fn axes() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| candidates(written, values_of_axes()))
}

/// Completes `KEY=` from the schema of specs.
pub fn keys() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| {
        let mut keys = Vec::new();
        collect(&mut Vec::new(), &mut keys);
        candidates(written, keys)
    })
}

/// The experiments with results, in order of their names.
pub fn recorded(root: &ResultsRoot) -> Vec<String> {
    root.experiments().unwrap_or_default().iter().map(|folder| folder.name()).collect()
}

/// The help of a name that no experiment has: the nearest one that is there, and how to find the others.
pub fn help(written: &str, root: &ResultsRoot, others: &str) -> String {
    let names = recorded(root);
    match suggest::nearest(written, names.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`? {others}"),
        None => others.to_owned(),
    }
}

fn values_of_axes() -> Vec<String> {
    let files = std::fs::read_dir("experiments").into_iter().flatten().flatten().map(|entry| entry.path());
    let specs = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    // What isn't a sound spec has no axes to propose.
    let loaded = specs.filter_map(|path| load(&path, &LoadOptions::default()).ok());
    let axes = loaded.flat_map(|experiment| experiment.cells).flat_map(|cell| cell.axes);
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named: BTreeSet<String> = axes.map(|(axis, value)| format!("{axis}={}", text(value))).collect();
    named.into_iter().collect()
}

fn collect(path: &mut Vec<String>, keys: &mut Vec<String>) {
    for key in schema::keys_at(&schema::SPEC, path) {
        path.push(key);
        let deeper = path.len() < DEEPEST && !schema::keys_at(&schema::SPEC, path).is_empty();
        match deeper {
            true => collect(path, keys),
            false => keys.push(format!("{}=", path.join("."))),
        }
        path.pop();
    }
}

fn candidates(written: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let written = written.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*written)).map(CompletionCandidate::new).collect()
}
