//! Hardware profiles by name: looked up in `experiments/hardware/` of the project folder, else among the built-in ones.

use std::path::Path;
use std::sync::Arc;

use super::inside::Inside;
use super::{Diagnostic, Entry, Kind, Layer, LayerKind, Node, Place, Source, load::read_source, suggest};

/// The profile of a spec that names none.
pub const DEFAULT: &str = "cpu";
/// Where a project keeps its profiles.
pub const FOLDER: &str = "experiments/hardware";
/// The built-in profiles.
pub const BUILT_IN: [(&str, &str); 15] = [
    ("a100-x1", include_str!("../../../experiments/hardware/a100-x1.yaml")),
    ("a100-x8", include_str!("../../../experiments/hardware/a100-x8.yaml")),
    ("b200-x1", include_str!("../../../experiments/hardware/b200-x1.yaml")),
    ("b200-x8", include_str!("../../../experiments/hardware/b200-x8.yaml")),
    ("cpu", include_str!("../../../experiments/hardware/cpu.yaml")),
    ("cpu-smoke", include_str!("../../../experiments/hardware/cpu-smoke.yaml")),
    ("cuda", include_str!("../../../experiments/hardware/cuda.yaml")),
    ("h100-x1", include_str!("../../../experiments/hardware/h100-x1.yaml")),
    ("h100-x2", include_str!("../../../experiments/hardware/h100-x2.yaml")),
    ("h100-x4", include_str!("../../../experiments/hardware/h100-x4.yaml")),
    ("h100-x8", include_str!("../../../experiments/hardware/h100-x8.yaml")),
    ("h200-x1", include_str!("../../../experiments/hardware/h200-x1.yaml")),
    ("l40s-x1", include_str!("../../../experiments/hardware/l40s-x1.yaml")),
    ("metal", include_str!("../../../experiments/hardware/metal.yaml")),
    ("rtx4090-x1", include_str!("../../../experiments/hardware/rtx4090-x1.yaml")),
];
/// What a profile says that isn't hardware.
const NOT_HARDWARE: [&str; 4] = ["schema", "name", "description", "stand_in"];

/// The profile that the highest layer names, and where.
pub fn chosen(layers: &[Layer]) -> Option<(String, Option<Place>)> {
    let named = layers.iter().filter_map(|layer| Some((layer.kind, layer.root.find(&["hardware", "profile"])?)));
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|(kind, _)| *kind);
    let (_, node) = named.pop()?;
    Some((node.text()?.to_owned(), Some(node.place.clone())))
}

/// Puts another profile in place of what files say of hardware.
pub fn replace(layers: &mut [Layer], name: &str) {
    for layer in layers.iter_mut().filter(|layer| layer.kind < LayerKind::Environment) {
        if let Some(entries) = layer.root.entries_mut() {
            entries.retain(|entry| entry.key != "hardware");
        }
    }
    let source = Source::new("--profile", name);
    let place = Place::new(&source, 0..name.len());
    let text = |text: &str| Node::new(Kind::Text(text.to_owned()), place.clone());
    let hardware = mapping(vec![entry("profile", text(name))], &place);
    if let Some(spec) = layers.iter_mut().find(|layer| layer.kind == LayerKind::Spec)
        && let Some(entries) = spec.root.entries_mut()
    {
        entries.push(entry("hardware", hardware));
    }
}

/// The names of all profiles there are, in order.
pub fn names() -> Vec<String> {
    let built_in = BUILT_IN.iter().map(|(name, _)| (*name).to_owned());
    let files = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let files = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
    built_in.chain(files).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// The text of a profile.
///
/// # Errors
/// No profile of that name, or a file that can't be read.
pub fn find(name: &str, inside: &Inside) -> Result<Arc<Source>, Diagnostic> {
    if name.ends_with(".yaml") || name.contains('/') {
        let path = Path::new(name);
        inside.check(path, &path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))?;
        return read_source(path);
    }
    let path = Path::new(FOLDER).join(format!("{name}.yaml"));
    if path.is_file() {
        return read_source(&path);
    }
    if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        return Ok(Source::new(format!("built-in profile {name}"), *text));
    }
    let names = names();
    let help = suggest::help(name, names.iter().map(String::as_str));
    let error = Diagnostic::error("no-profile", format!("there is no hardware profile `{name}` in {FOLDER}"));
    Err(error.help(format!("{help}; or give one inline")))
}

/// The hardware part of a profile as a layer.
pub fn as_layer(profile: &Node, name: &str) -> Node {
    let place = &profile.place;
    let name_place = profile.get("name").map_or(place, |node| &node.place);
    let mut entries = vec![entry("profile", Node::new(Kind::Text(name.to_owned()), name_place.clone()))];
    let hardware = profile.entries().iter().filter(|entry| !NOT_HARDWARE.contains(&entry.key.as_str()));
    entries.extend(hardware.cloned());
    mapping(vec![entry("hardware", mapping(entries, place))], place)
}

/// What the profile lays over the spec, and a name that keeps the results apart from the spec's own.
pub fn stand_in_layer(replacement: Option<Node>, profile: &Node, name: &str, layers: &[Layer]) -> Node {
    let place = &profile.place;
    let mut entries: Vec<Entry> = replacement.iter().flat_map(Node::entries).cloned().collect();
    if let Some(at) = entries.iter().position(|entry| entry.key == "device_batch_size") {
        let batch = entries.swap_remove(at);
        entries.push(entry("hardware", mapping(vec![batch], place)));
    }
    let own =
        layers.iter().filter(|layer| layer.kind == LayerKind::Spec).find_map(|layer| layer.root.get("name")?.text());
    if let Some(own) = own {
        let suffix = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".yaml");
        let kind = Kind::Text(format!("{own}-{suffix}"));
        entries.push(entry("name", Node::new(kind, place.clone())));
    }
    mapping(entries, place)
}

fn entry(key: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), key_place: value.place.clone(), value }
}

fn mapping(entries: Vec<Entry>, place: &Place) -> Node {
    Node::new(Kind::Mapping(entries), place.clone())
}
