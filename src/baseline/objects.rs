//! Whether the objects of a commit are what their names say. Git believes what lies in `.git/objects`, so an altered tree could
//! give a file of the commit any contents. Here the trees' names are made anew, from the files' names upwards; they have to lead
//! to the commit, whose name is made anew from its text.

use std::collections::BTreeMap;

use nanochat_artifacts::ArtifactError;
use nanochat_artifacts::git::Git;

/// An entry of a folder: the bytes by which git sorts it, and those that stand for it in the tree object.
type Entry = (Vec<u8>, Vec<u8>);

/// Folders by how deep they lie, and what is in them.
type Folders = BTreeMap<(usize, String), Vec<Entry>>;

/// Refuses a commit that is checked out and has forged objects; files themselves aren't looked at. `listed` is what
/// `git ls-tree -r` says.
pub(super) fn refuse_forged(git: &Git, listed: &[String]) -> Result<(), String> {
    let text = git.output(&["cat-file", "commit", "HEAD"]).map_err(said)?;
    let head = git.output(&["rev-parse", "--verify", "HEAD"]).map_err(said)?;
    let tree = name_of_tree(git, listed)?;
    let first = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_string();
    match first == format!("tree {tree}") && hash(git, "commit", &text)? == String::from_utf8_lossy(&head).trim() {
        true => Ok(()),
        false => Err("git's objects aren't those of its commit (`git fsck` names them); clone it anew".into()),
    }
}

/// The name of the whole tree, by that of its files.
fn name_of_tree(git: &Git, listed: &[String]) -> Result<String, String> {
    let mut folders = Folders::from([(at(""), Vec::new())]);
    for line in listed {
        let (path, object, mode) = parts(line).ok_or("git lists a commit in a way that makes no sense")?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut above = folder;
        while !above.is_empty() {
            folders.entry(at(above)).or_default();
            above = parent(above).0;
        }
        folders.entry(at(folder)).or_default().push((name.into(), entry(mode, name, object)?));
    }
    let mut tree = String::new();
    // The deepest first: a folder's name is part of that above.
    while let Some(((_, folder), mut entries)) = folders.pop_last() {
        entries.sort();
        tree = hash(git, "tree", &entries.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>())?;
        if !folder.is_empty() {
            let (above, name) = parent(&folder);
            let entry = (format!("{name}/").into_bytes(), entry("40000", name, &tree)?);
            folders.entry(at(above)).or_default().push(entry);
        }
    }
    Ok(tree)
}

/// Path, object and mode of a line of `git ls-tree`.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let (head, path) = line.split_once('\t')?;
    let mut words = head.split(' ');
    let (mode, object) = (words.next()?, words.nth(1)?);
    Some((path, object, mode))
}

/// The key of a folder.
fn at(folder: &str) -> (usize, String) {
    let depth = if folder.is_empty() { 0 } else { folder.matches('/').count() + 1 };
    (depth, folder.to_string())
}

/// The folder above, and the own name.
fn parent(folder: &str) -> (&str, &str) {
    folder.rsplit_once('/').unwrap_or(("", folder))
}

/// An entry as it stands in a tree object.
fn entry(mode: &str, name: &str, object: &str) -> Result<Vec<u8>, String> {
    let digits = object.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let mut bytes = format!("{mode} {name}\0").into_bytes();
    bytes.extend(digits.collect::<Option<Vec<u8>>>().ok_or("git names an object in a way that makes no sense")?);
    Ok(bytes)
}

fn hash(git: &Git, kind: &str, bytes: &[u8]) -> Result<String, String> {
    let hashed = git.output_of(&["hash-object", "-t", kind, "--stdin"], bytes).map_err(said)?;
    Ok(String::from_utf8_lossy(&hashed).trim().to_string())
}

fn said(error: ArtifactError) -> String {
    error.to_string()
}
