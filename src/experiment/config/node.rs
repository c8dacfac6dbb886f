//! A document as a tree in which every key and value knows its place.

use serde_json::{Map, Number, Value};

use super::Place;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
    /// A mapping that is not merged with that of an earlier layer, but takes its place.
    pub replaces: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number that 64 bits hold.
    Number(Number),
    /// An integer beyond 64 bits.
    Huge(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written, keys unique.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A node that is merged with earlier ones.
    pub fn new(kind: Kind, place: Place) -> Self {
        Self { kind, place, replaces: false }
    }

    /// Paths of the mappings that take the place of earlier ones.
    pub fn replacements(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for entry in self.entries() {
            if entry.value.replaces {
                found.push(vec![entry.key.clone()]);
            }
            let below = entry.value.replacements().into_iter();
            found.extend(below.map(|path| [vec![entry.key.clone()], path].concat()));
        }
        found
    }

    /// A mapping's entries; nothing for other nodes.
    pub fn entries(&self) -> &[Entry] {
        if let Kind::Mapping(entries) = &self.kind { entries } else { &[] }
    }

    /// The same, to change.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if let Kind::Mapping(entries) = &mut self.kind { Some(entries) } else { None }
    }

    /// A mapping's entry.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// A mapping's value.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, when it is text.
    pub fn text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// A child by key or list position.
    pub fn child(&self, step: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(_) => self.get(step),
            Kind::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The node at a path.
    pub fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| node.child(step.as_ref()))
    }

    /// The node at a path, or the nearest one around it.
    pub fn nearest<S: AsRef<str>>(&self, path: &[S]) -> &Node {
        let mut node = self;
        for step in path {
            match node.child(step.as_ref()) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    /// Place of the key at a path, or of the value where there is no key.
    pub fn key_place<S: AsRef<str>>(&self, path: &[S]) -> &Place {
        let Some((last, parents)) = path.split_last() else { return &self.place };
        match self.find(parents).and_then(|parent| parent.entry(last.as_ref())) {
            Some(entry) => &entry.key_place,
            None => &self.nearest(path).place,
        }
    }

    /// As JSON, places gone. Integers beyond 64 bits become doubles.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Huge(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Mapping(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// How messages name its kind, with the value where it is short.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Number(value) => format!("the number {value}"),
            Kind::Huge(value) => format!("the number {value:e}"),
            Kind::Text(text) if text.chars().count() <= 40 => format!("the text {text:?}"),
            Kind::Text(_) => "a long text".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }
}
