//! Layers of a spec, merged key by key through figment; for each merged value, the layer and place that set it.

use figment::value::{Dict, Map, Value as FigmentValue};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value;

use super::{Diagnostic, Entry, Kind, Node, Place};

/// What a layer is; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// Built-in defaults.
    Defaults,
    /// A spec that the spec extends.
    Extends,
    /// The hardware profile.
    Profile,
    /// The spec.
    Spec,
    /// What a profile lays over the spec when it stands in for the spec's own.
    StandIn,
    /// An environment variable.
    Environment,
    /// A `--set` argument.
    Set,
}

impl LayerKind {
    /// How `--explain` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Defaults => "default",
            Self::Extends => "extends",
            Self::Profile => "hardware profile",
            Self::Spec => "spec",
            Self::StandIn => "stand-in",
            Self::Environment => "environment",
            Self::Set => "--set",
        }
    }
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it is.
    pub kind: LayerKind,
    /// What it says.
    pub root: Node,
}

/// Keys of which a section holds exactly one. A later layer's choice replaces an earlier one's.
pub const RIVALS: [(&[&str], &[&str]); 5] = [
    (&[], &["seed", "seeds"]),
    (&["budget"], &["iterations", "tokens", "flops", "param_data_ratio"]),
    (&["tokenizer"], &["path", "train"]),
    (&["init"], &["kind", "weights"]),
    (&["quality", "tolerance"], &["relative", "absolute"]),
];

/// Two rivals in one layer.
pub fn rivalry(root: &Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (section, members) in RIVALS {
        let Some(node) = root.find(section) else { continue };
        let present: Vec<&Entry> =
            node.entries().iter().filter(|entry| members.contains(&entry.key.as_str())).collect();
        if let [first, second, ..] = present.as_slice() {
            let names = super::suggest::list(present.iter().map(|entry| entry.key.as_str()));
            let within = if section.is_empty() { "a spec".to_owned() } else { format!("`{}`", section.join(".")) };
            let error =
                Diagnostic::error("rivals", format!("{within} takes one of {names}, not {}", count(present.len())));
            let error = error.at(Some(&second.key_place)).label("and this").other(&first.key_place, "this");
            found.push(error.help("keep one of them"));
        }
    }
    found
}

fn count(number: usize) -> String {
    if number == 2 { "both".to_owned() } else { format!("all {number}") }
}

/// Takes out of earlier layers what a later one replaces as a whole: rivals, and all of `data` when the source changes.
fn retire(layers: &mut [Layer]) {
    for later in 1..layers.len() {
        let (before, after) = layers.split_at_mut(later);
        let Some(layer) = after.first() else { continue };
        for (section, members) in RIVALS {
            let Some(chosen) = members.iter().find(|member| has(&layer.root, section, member)) else { continue };
            for earlier in before.iter_mut() {
                remove(&mut earlier.root, section, &|key| members.contains(&key) && key != *chosen);
                if section == ["tokenizer"] && *chosen == "train" {
                    remove(&mut earlier.root, section, &|key| key == "vocab_size");
                }
            }
        }
        let source = layer.root.find(&["data", "source"]).map(|node| node.kind.clone());
        for earlier in before.iter_mut().filter(|_| source.is_some()) {
            if earlier.root.find(&["data", "source"]).is_some_and(|node| Some(&node.kind) != source.as_ref()) {
                remove(&mut earlier.root, &["data"], &|_| true);
            }
        }
    }
}

fn has(root: &Node, section: &[&str], key: &str) -> bool {
    root.find(section).is_some_and(|node| node.get(key).is_some())
}

fn remove(root: &mut Node, section: &[&str], matches: &dyn Fn(&str) -> bool) {
    let mut node = root;
    for step in section {
        let Some(entries) = node.entries_mut() else { return };
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == *step) else { return };
        node = &mut entry.value;
    }
    if let Some(entries) = node.entries_mut() {
        entries.retain(|entry| !matches(&entry.key));
    }
}

/// A layer as figment wants it, tagged with its number.
struct Provided<'a> {
    number: usize,
    layer: &'a Layer,
}

impl Provider for Provided<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from(self.number.to_string(), self.layer.kind.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = match to_figment(&self.layer.root) {
            FigmentValue::Dict(_, dict) => dict,
            _ => Dict::new(),
        };
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

fn to_figment(node: &Node) -> FigmentValue {
    match &node.kind {
        Kind::Null => FigmentValue::Empty(figment::value::Tag::Default, figment::value::Empty::None),
        Kind::Bool(value) => FigmentValue::from(*value),
        Kind::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => FigmentValue::from(value),
            (None, Some(value)) => FigmentValue::from(value),
            (None, None) => FigmentValue::from(number.as_f64().unwrap_or_default()),
        },
        Kind::Huge(value) => FigmentValue::from(*value),
        Kind::Text(text) => FigmentValue::from(text.as_str()),
        Kind::List(items) => FigmentValue::from(items.iter().map(to_figment).collect::<Vec<_>>()),
        Kind::Mapping(entries) => {
            let dict: Dict = entries.iter().map(|entry| (entry.key.clone(), to_figment(&entry.value))).collect();
            FigmentValue::from(dict)
        }
    }
}

/// The layers merged into one spec.
#[derive(Debug, Clone)]
pub struct Merged {
    layers: Vec<Layer>,
    figment: Figment,
    values: FigmentValue,
}

impl Merged {
    /// Merges layers, the later ones winning.
    pub fn new(mut layers: Vec<Layer>) -> Self {
        layers.sort_by_key(|layer| layer.kind);
        retire(&mut layers);
        let provided = layers.iter().enumerate().map(|(number, layer)| Provided { number, layer });
        let figment = provided.fold(Figment::new(), |figment, provided| figment.merge(provided));
        let dict = figment.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default();
        Self { layers, figment, values: FigmentValue::from(dict) }
    }

    /// The merged spec as JSON.
    pub fn to_json(&self) -> Value {
        to_json(&self.values)
    }

    /// The layer that set the value at a path, and the value's node there.
    pub fn origin<S: AsRef<str>>(&self, path: &[S]) -> Option<(&Layer, &Node)> {
        let mut value = &self.values;
        for step in path {
            value = match value {
                FigmentValue::Dict(_, dict) => dict.get(step.as_ref())?,
                FigmentValue::Array(_, items) => items.get(step.as_ref().parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        let number: usize = self.figment.get_metadata(value.tag())?.name.parse().ok()?;
        let layer = self.layers.get(number)?;
        Some((layer, layer.root.find(path)?))
    }

    /// Where the value at a path was set; for a path that isn't there, the nearest place around it.
    pub fn place<S: AsRef<str>>(&self, path: &[S]) -> Option<&Place> {
        if let Some((_, node)) = self.origin(path) {
            return Some(&node.place);
        }
        // A section has no tag of its own: the last layer that has it is blamed. What nobody wrote, the spec lacks.
        for end in (1..=path.len()).rev() {
            let part = path.get(..end)?;
            let last = self.layers.iter().rev().find(|layer| layer.root.find(part).is_some());
            if let Some(layer) = last.filter(|layer| layer.kind != LayerKind::Defaults) {
                return Some(layer.root.key_place(part));
            }
        }
        let spec = self.layers.iter().rev().find(|layer| layer.kind == LayerKind::Spec)?;
        spec.root.entries().first().map(|entry| &entry.key_place)
    }

    /// Where a key of the mapping at a path was first written: layer, then place in it. Keys sort by it as they were written.
    pub fn written_at(&self, path: &[String], key: &str) -> (usize, usize) {
        let mut path = path.to_vec();
        path.push(key.to_owned());
        let first = self.layers.iter().enumerate().find(|(_, layer)| layer.root.find(&path).is_some());
        first.map_or((usize::MAX, 0), |(number, layer)| (number, layer.root.key_place(&path).span().start))
    }

    /// Every leaf with its path, value and origin, in order of path.
    pub fn leaves(&self) -> Vec<(Vec<String>, Value)> {
        let mut leaves = Vec::new();
        collect_leaves(&self.values, &mut Vec::new(), &mut leaves);
        leaves
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

fn collect_leaves(value: &FigmentValue, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Value)>) {
    match value {
        FigmentValue::Dict(_, dict) if !dict.is_empty() => {
            for (key, value) in dict {
                path.push(key.clone());
                collect_leaves(value, path, leaves);
                path.pop();
            }
        }
        value => leaves.push((path.clone(), to_json(value))),
    }
}

fn to_json(value: &FigmentValue) -> Value {
    match value {
        FigmentValue::String(_, text) => Value::String(text.clone()),
        FigmentValue::Char(_, c) => Value::String(c.to_string()),
        FigmentValue::Bool(_, value) => Value::Bool(*value),
        FigmentValue::Empty(..) => Value::Null,
        FigmentValue::Num(_, number) => {
            let whole = number.to_u128().and_then(|value| u64::try_from(value).ok());
            let negative = number.to_i128().and_then(|value| i64::try_from(value).ok());
            match (whole, negative) {
                (Some(value), _) => value.into(),
                (None, Some(value)) => value.into(),
                (None, None) => number.to_f64().map_or(Value::Null, Value::from),
            }
        }
        FigmentValue::Dict(_, dict) => dict.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
        FigmentValue::Array(_, items) => items.iter().map(to_json).collect(),
    }
}
