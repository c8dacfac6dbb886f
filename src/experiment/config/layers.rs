//! Layers of a spec, merged key by key; for each merged value, the layer and place that set it.

use figment::Figment;
use figment::providers::Serialized;
use serde_json::Value;

use super::merge::{RIVALS, find, remove, retire};
use super::{Diagnostic, Entry, Node, Place};

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

/// The layers merged into one spec.
#[derive(Debug, Clone)]
pub struct Merged {
    layers: Vec<Layer>,
    /// What each layer says, but for what a later one replaces as a whole.
    stated: Vec<Value>,
    values: Value,
}

impl Merged {
    /// Merges layers, the later ones winning.
    pub fn new(mut layers: Vec<Layer>) -> Self {
        layers.sort_by_key(|layer| layer.kind);
        let mut stated: Vec<Value> = layers.iter().map(|layer| layer.root.to_json()).collect();
        for number in 1..stated.len() {
            let (before, after) = stated.split_at_mut(number);
            let Some(later) = after.first() else { continue };
            before.iter_mut().for_each(|earlier| retire(earlier, later));
            let replaced = layers.get(number).map(|layer| layer.root.replacements()).unwrap_or_default();
            // Defaults stay: nobody wrote them, and what is required stands there.
            let written = before.iter_mut().zip(&layers).filter(|(_, layer)| layer.kind != LayerKind::Defaults);
            written.for_each(|(earlier, _)| replaced.iter().for_each(|path| remove(earlier, path)));
        }
        // What is no mapping was reported where it was read, and says nothing here.
        let mappings = stated.iter().filter(|layer| layer.is_object());
        let figment = mappings.fold(Figment::new(), |figment, layer| figment.merge(Serialized::defaults(layer)));
        let values = figment.extract().unwrap_or_else(|error| unreachable!("JSON objects merge into JSON: {error}"));
        Self { layers, stated, values }
    }

    /// The merged spec as JSON.
    pub fn to_json(&self) -> Value {
        self.values.clone()
    }

    /// The layers that state something at a path, lowest first, by number.
    fn stating<S: AsRef<str>>(&self, path: &[S]) -> impl DoubleEndedIterator<Item = (usize, &Layer)> {
        let states = |(number, layer)| self.stated.get(number).and_then(|own| find(own, path)).map(|_| (number, layer));
        self.layers.iter().enumerate().filter_map(states)
    }

    /// The layer that set the value at a path, and the value's node there.
    pub fn origin<S: AsRef<str>>(&self, path: &[S]) -> Option<(&Layer, &Node)> {
        find(&self.values, path)?;
        let (_, layer) = self.stating(path).next_back()?;
        Some((layer, layer.root.find(path)?))
    }

    /// Where the value at a path was set; for a path that isn't there, the nearest place around it.
    pub fn place<S: AsRef<str>>(&self, path: &[S]) -> Option<&Place> {
        if let Some((_, node)) = self.origin(path) {
            return Some(&node.place);
        }
        // The last layer that has a section around it is blamed. What nobody wrote is missing from the spec.
        for end in (1..=path.len()).rev() {
            let part = path.get(..end)?;
            let last = self.stating(part).next_back();
            if let Some((_, layer)) = last.filter(|(_, layer)| layer.kind != LayerKind::Defaults) {
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
        self.stating(&path)
            .next()
            .map_or((usize::MAX, 0), |(number, layer)| (number, layer.root.key_place(&path).span().start))
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

fn collect_leaves(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Value)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                path.push(key.clone());
                collect_leaves(value, path, leaves);
                path.pop();
            }
        }
        value => leaves.push((path.clone(), value.clone())),
    }
}
