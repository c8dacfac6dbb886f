//! Where each value of an experiment comes from, the resolved spec, and filters over its cells.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Cell, Experiment};
use crate::config::{self as spec, Diagnostic, LayerKind, Source, SpecErrors, suggest};

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// Dotted key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The layer that set it.
    pub layer: String,
    /// Where in that layer.
    pub place: String,
}

impl Experiment {
    /// The cells that `--only` arguments select: values of one axis add up, axes narrow each other.
    ///
    /// # Errors
    /// No `=`, a key that doesn't vary, a value that no cell has, values that no cell has together.
    pub fn select(&self, only: &[String]) -> Result<Vec<&Cell>, SpecErrors> {
        let mut wanted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for argument in only {
            let (key, value) = parse_filter(self, argument)?;
            wanted.entry(key).or_default().push(value);
        }
        let fits = |cell: &&Cell| {
            wanted.iter().all(|(key, values)| cell.axes.get(key).is_some_and(|value| values.contains(value)))
        };
        let cells: Vec<&Cell> = self.cells.iter().filter(fits).collect();
        if cells.is_empty() {
            let none = Diagnostic::error("bad-filter", "no cell has all of these values");
            return Err(SpecErrors::one("--only", none.help("`nanochat plan SPEC` lists the cells")));
        }
        Ok(cells)
    }

    /// Every value with its layer and place, in order of key.
    pub fn explain(&self) -> Vec<Explained> {
        let explained = |(path, value): (Vec<String>, Value)| {
            let origin = self.layers.origin(&path);
            let layer = origin.map_or("", |(layer, _)| layer.kind.name()).to_owned();
            let place = origin.map(|(_, node)| node.place.to_string()).unwrap_or_default();
            Explained { key: path.join("."), value, layer, place }
        };
        self.layers.leaves().into_iter().map(explained).collect()
    }

    /// The spec with everything that it builds on written out, as YAML. It plans to the same hashes.
    pub fn resolved_yaml(&self) -> String {
        let mut document = self.layers.to_json();
        if let Some(object) = document.as_object_mut() {
            object.remove("extends");
            if let Some(hardware) = object.get_mut("hardware").and_then(Value::as_object_mut) {
                hardware.remove("profile");
            }
        }
        serde_yaml::to_string(&self.as_written(&document, &mut Vec::new())).unwrap_or_default()
    }

    /// A merged value with its keys in the order written: run ids name the keys of the matrix in that order.
    fn as_written(&self, value: &Value, path: &mut Vec<String>) -> serde_yaml::Value {
        match value {
            Value::Object(object) => {
                let mut entries: Vec<(&String, &Value)> = object.iter().collect();
                entries.sort_by_cached_key(|(key, _)| self.layers.written_at(path, key));
                let entry = |(key, value): (&String, &Value)| (key.as_str().into(), self.below(key, value, path));
                serde_yaml::Value::Mapping(entries.into_iter().map(entry).collect())
            }
            Value::Array(items) => {
                let item = |(number, item): (usize, &Value)| self.below(&number.to_string(), item, path);
                items.iter().enumerate().map(item).collect::<Vec<_>>().into()
            }
            scalar => serde_yaml::to_value(scalar).unwrap_or_default(),
        }
    }

    fn below(&self, step: &str, value: &Value, path: &mut Vec<String>) -> serde_yaml::Value {
        path.push(step.to_owned());
        let value = self.as_written(value, path);
        path.pop();
        value
    }

    /// Whether any file but the built-in defaults says a key.
    pub fn states(&self, key: &str) -> bool {
        let steps: Vec<&str> = key.split('.').collect();
        self.layers.origin(&steps).is_some_and(|(layer, _)| layer.kind != LayerKind::Defaults)
    }
}

/// An `--only axis=value` argument as key and value.
///
/// # Errors
/// No `=`, a key that doesn't vary, a value that no cell has.
fn parse_filter(experiment: &Experiment, argument: &str) -> Result<(String, Value), SpecErrors> {
    let source = Source::new(format!("--only {argument}"), argument);
    let refuse = |message: String, help: String| {
        let place = spec::Place::new(&source, 0..argument.len());
        SpecErrors::one("--only", Diagnostic::error("bad-filter", message).at(Some(&place)).help(help))
    };
    let Some((key, text)) = argument.split_once('=') else {
        return Err(refuse(format!("`--only {argument}` has no `=`"), "write --only axis=value".to_owned()));
    };
    let keys: std::collections::BTreeSet<&str> =
        experiment.cells.iter().flat_map(|cell| cell.axes.keys().map(String::as_str)).collect();
    let near: Vec<&str> =
        keys.iter().copied().filter(|full| *full == key || full.rsplit('.').next() == Some(key)).collect();
    let [key] = near.as_slice() else {
        return Err(refuse(
            format!("`{key}` does not vary in this experiment"),
            suggest::help(key, keys.iter().copied()),
        ));
    };
    let node = spec::parse(&Source::new("--only", text)).map_err(|problems| SpecErrors::new("--only", problems))?;
    let value = node.to_json();
    let values: std::collections::BTreeSet<String> =
        experiment.cells.iter().filter_map(|cell| cell.axes.get(*key)).map(Value::to_string).collect();
    if !values.contains(&value.to_string()) {
        let help = format!("values of `{key}`: {}", values.into_iter().collect::<Vec<_>>().join(", "));
        return Err(refuse(format!("no cell has {key} = {value}"), help));
    }
    Ok(((*key).to_owned(), value))
}
