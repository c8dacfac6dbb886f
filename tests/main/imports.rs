//! Which rooms of a crate import which: read from the sources, grouped imports and re-exports included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Rooms that each room imports, with one place that does.
pub type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// A source file of a crate, its path relative to the crate's folder.
pub type File = (PathBuf, String);

/// The graph of a crate's rooms, its top-level modules. `lib.rs` is no room: its re-exports count as what they name.
pub fn graph(files: &[File]) -> Graph {
    let library = files.iter().find(|(path, _)| path == Path::new("lib.rs")).map_or("", |(_, text)| text.as_str());
    let exported: BTreeMap<String, String> = uses(library)
        .into_iter()
        .filter_map(|path| Some((path.last()?.clone(), path.iter().find(|step| !is_keyword(step))?.clone())))
        .collect();
    let mut graph = Graph::new();
    for (path, text) in files {
        let module = module_of(path);
        let Some(room) = module.first() else { continue };
        for target in targets(&module, text) {
            let target = exported.get(&target).cloned().unwrap_or(target);
            let is_room = target.chars().next().is_some_and(|first| first.is_ascii_lowercase());
            if is_room && target != *room {
                let place = path.display().to_string();
                graph.entry(room.clone()).or_default().entry(target).or_insert(place);
            }
        }
    }
    graph
}

/// A chain of rooms that leads back to its first one, if there is any.
pub fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph.keys().find_map(|room| visit(graph, room, &mut Vec::new(), &mut done))
}

fn visit(graph: &Graph, room: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|earlier| earlier == room) {
        return Some(path[start..].iter().cloned().chain([room.to_string()]).collect());
    }
    if done.contains(room) {
        return None;
    }
    path.push(room.to_string());
    let imported = graph.get(room).into_iter().flat_map(BTreeMap::keys);
    let found = imported.into_iter().find_map(|next| visit(graph, next, path, done));
    path.pop();
    done.insert(room.to_string());
    found
}

/// `model/fast/mod.rs` and `model/fast.rs` are both `[model, fast]`.
fn module_of(path: &Path) -> Vec<String> {
    let steps = path.with_extension("");
    let steps = steps.components().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    steps.filter(|step| !matches!(step.as_str(), "mod" | "lib" | "main")).collect()
}

fn is_keyword(step: &str) -> bool {
    matches!(step, "crate" | "self" | "super")
}

/// First steps, from the crate's root, of all paths that a module uses.
fn targets(module: &[String], text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let in_line = ["crate::", "super::"].into_iter().flat_map(|start| paths_from(&code, start));
    uses(&code).into_iter().chain(in_line).filter_map(|path| from_root(module, &path)).collect()
}

fn from_root(module: &[String], path: &[String]) -> Option<String> {
    let supers = path.iter().take_while(|step| *step == "super").count();
    let rest = &path[supers..];
    match path.first()?.as_str() {
        "crate" => path.get(1).cloned(),
        "super" => module.get(..module.len().checked_sub(supers)?)?.iter().chain(rest).next().cloned(),
        _ => None,
    }
}

/// Paths within expressions and types.
fn paths_from(code: &str, start: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let tails = code.match_indices(start).map(|(at, _)| &code[at..]);
    let texts = tails.map(|tail| tail.split(|c| !is_path(c)).next().unwrap_or_default());
    texts.map(|text| text.split("::").filter(|step| !step.is_empty()).map(str::to_string).collect()).collect()
}

/// Every path of every `use` item, groups expanded.
fn uses(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let starts = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        let item = code[at + 4..].split(';').next().unwrap_or_default();
        if starts {
            expand("", item, &mut found);
        }
    }
    found
}

fn expand(prefix: &str, item: &str, found: &mut Vec<Vec<String>>) {
    let (mut depth, mut start) = (0usize, 0usize);
    let bounds = item.char_indices().chain([(item.len(), ',')]);
    for (at, character) in bounds {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                one(prefix, item[start..at].trim(), found);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn one(prefix: &str, part: &str, found: &mut Vec<Vec<String>>) {
    if let Some((head, group)) = part.split_once('{') {
        let inner = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
        return expand(&format!("{prefix}{}", head.trim()), inner, found);
    }
    let part = part.split(" as ").next().unwrap_or(part);
    let path = format!("{prefix}{part}");
    let steps: Vec<String> =
        path.split("::").map(|step| step.trim().to_string()).filter(|step| !step.is_empty()).collect();
    if !steps.is_empty() {
        found.push(steps);
    }
}
