//! The matrix: product of the axes, zip, exclude, include. A cell is a set of dotted keys and values.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value};

use crate::config::merge::{self, find};
use crate::config::{
    Diagnostic, Entry, Kind, LayerKind, MAX_PROBLEMS, Merged, Node, Place, check, expand_short_forms, rivalry, suggest,
};

/// Most cells of one experiment.
pub const MAX_CELLS: usize = 100_000;
/// Sections whose keys may vary, and single keys that may.
pub const VARIABLE: [&str; 9] = [
    "model",
    "optimizer",
    "budget",
    "data",
    "tokenizer",
    "init",
    "eval",
    "hardware.dtype",
    "hardware.device_batch_size",
];

/// One key set to one value, and where that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Dotted key; after the name of an arm, where it is set for that arm alone.
    pub key: String,
    /// The key in the spec, without an arm.
    bare: String,
    /// The arm that it is set for; none: all of them.
    arm: Option<String>,
    /// Its value.
    pub value: Value,
    /// Path of the value in the spec.
    pub path: Vec<String>,
    /// What is laid over the spec for it.
    patch: Value,
}

/// One cell: its settings in the order of the axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CellSettings(pub Vec<Setting>);

impl CellSettings {
    /// Keys and values.
    pub fn axes(&self) -> BTreeMap<String, Value> {
        self.0.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    }

    /// Where a key's value stands; of a section, any part of it.
    pub fn path_of(&self, key: &str) -> Option<&[String]> {
        let within = |inner: &str, outer: &str| {
            inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
        };
        let related = |setting: &&Setting| within(key, &setting.bare) || within(&setting.bare, key);
        self.0.iter().find(related).map(|setting| setting.path.as_slice())
    }

    /// The cell as an arm carries it out: without what is set for another arm.
    pub fn of_arm(&self, arm: &str) -> Self {
        let own = |setting: &&Setting| setting.arm.as_deref().is_none_or(|named| named == arm);
        Self(self.0.iter().filter(own).cloned().collect())
    }

    /// Lays the cell over the spec.
    pub fn apply(&self, document: &mut Value) {
        self.0.iter().for_each(|setting| merge::overlay(document, &setting.patch));
    }
}

/// Expands the matrix of a merged spec; a spec without one has one cell of no settings.
///
/// # Errors
/// Every mistake in the matrix.
pub fn expand(merged: &Merged, base: &Value) -> Result<Vec<CellSettings>, Vec<Diagnostic>> {
    let mut matrix = Matrix { merged, base, whole: merged.to_json(), problems: Vec::new() };
    let cells = matrix.expand();
    if matrix.problems.is_empty() { Ok(cells) } else { Err(matrix.problems) }
}

struct Matrix<'a> {
    merged: &'a Merged,
    base: &'a Value,
    whole: Value,
    problems: Vec<Diagnostic>,
}

/// The settings that one step along a dimension makes.
type Dimension = Vec<Vec<Setting>>;

fn path(steps: &[&str]) -> Vec<String> {
    steps.iter().map(|step| (*step).to_owned()).collect()
}

impl Matrix<'_> {
    fn expand(&mut self) -> Vec<CellSettings> {
        let mut dimensions = self.axes();
        dimensions.extend(self.zips());
        self.unique_keys(&dimensions);
        self.overlays(&dimensions);
        let count = dimensions.iter().try_fold(1usize, |count, dimension| count.checked_mul(dimension.len()));
        if count.is_none_or(|count| count > MAX_CELLS) {
            let product =
                dimensions.iter().map(|dimension| dimension.len().to_string()).collect::<Vec<_>>().join(" × ");
            let message = format!("the matrix has {product} cells; at most {MAX_CELLS} are planned");
            self.problem(&path(&["matrix"]), message, None);
        }
        if !self.problems.is_empty() {
            return Vec::new();
        }
        let keys: Vec<String> = dimensions
            .iter()
            .filter_map(|dimension| dimension.first())
            .flatten()
            .map(|setting| setting.key.clone())
            .collect();
        let mut cells = product(&dimensions);
        self.exclude(&keys, &mut cells);
        self.include(&keys, &mut cells);
        if cells.is_empty() && self.problems.is_empty() {
            self.key_problem(&path(&["matrix", "exclude"]), "no cell is left: everything is excluded", None);
        }
        cells
    }

    /// Tells of a problem at a value.
    fn problem(&mut self, path: &[String], message: impl Into<String>, help: Option<&str>) {
        let place = self.merged.place(path).cloned();
        self.problem_at(place, message, help);
    }

    /// Tells of a problem at a key.
    fn key_problem(&mut self, path: &[String], message: impl Into<String>, help: Option<&str>) {
        let layer = self.merged.layers().iter().rev().find(|layer| layer.root.find(path).is_some());
        let place = layer.map(|layer| layer.root.key_place(path).clone());
        self.problem_at(place, message, help);
    }

    fn problem_at(&mut self, place: Option<Place>, message: impl Into<String>, help: Option<&str>) {
        let diagnostic = Diagnostic::error("matrix", message).at(place.as_ref());
        self.problems.push(diagnostic.help_if_any(help.map(str::to_owned)));
    }

    /// The entries of a mapping in the order written.
    fn entries(&self, at: &[String]) -> Vec<(String, Value)> {
        let Some(Value::Object(object)) = find(&self.whole, at) else { return Vec::new() };
        let mut entries: Vec<(String, Value)> = object.clone().into_iter().collect();
        entries.sort_by_key(|(key, _)| self.merged.written_at(at, key));
        entries
    }

    fn list_length(&self, at: &[String]) -> usize {
        match self.merged.origin(at).map(|(_, node)| &node.kind) {
            Some(Kind::List(items)) => items.len(),
            _ => 0,
        }
    }

    fn axes(&mut self) -> Vec<Dimension> {
        let at = path(&["matrix", "axes"]);
        let mut dimensions = Vec::new();
        for (key, values) in self.entries(&at) {
            let settings = self.column(&at, &key, values);
            dimensions.push(settings.into_iter().map(|setting| vec![setting]).collect());
        }
        dimensions
    }

    /// The settings of a key and its list of values.
    fn column(&mut self, at: &[String], key: &str, values: Value) -> Vec<Setting> {
        let mut here = at.to_vec();
        here.push(key.to_owned());
        let values = values.as_array().cloned().unwrap_or_default();
        if values.is_empty() {
            let help = "list at least one, or delete the line";
            self.problem(&here, format!("`{key}` has no values"), Some(help));
        }
        if !self.may_vary(&here, key) {
            return Vec::new();
        }
        let is_axis = at.last().is_some_and(|last| last == "axes");
        let mut seen = HashSet::new();
        let mut settings: Vec<Setting> = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            if self.problems.len() >= MAX_PROBLEMS {
                break;
            }
            let mut here = here.clone();
            here.push(number.to_string());
            if !seen.insert(value.to_string()) && is_axis {
                self.problem(&here, format!("`{key}` has the value {value} twice"), None);
                continue;
            }
            settings.extend(self.setting(here, key, value));
        }
        settings
    }

    /// A key set to a value, the value checked as it would be in the spec.
    fn setting(&mut self, path: Vec<String>, key: &str, value: Value) -> Option<Setting> {
        let (layer, node) = self.merged.origin(&path)?;
        let mut root = node.clone();
        let is_item = path.last().is_some_and(|step| step != key);
        let key_path = path.get(..path.len() - usize::from(is_item)).unwrap_or(&path);
        let key_place = layer.root.key_place(key_path).clone();
        let (arm, bare) = self.scope(key);
        let (arm, bare) = (arm.map(str::to_owned), bare.to_owned());
        for step in bare.rsplit('.') {
            let entry = Entry { key: step.to_owned(), key_place: key_place.clone(), value: root };
            root = Node::new(Kind::Mapping(vec![entry]), key_place.clone());
        }
        let mut problems = check::SPEC.check(&root, false);
        problems.extend(expand_short_forms(&mut root));
        problems.extend(rivalry(&root));
        let sound = problems.is_empty();
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        sound.then(|| Setting { key: key.to_owned(), bare, arm, value, path, patch: root.to_json() })
    }

    /// The arm that a key begins with, if it does, and the rest.
    fn scope<'k>(&self, key: &'k str) -> (Option<&'k str>, &'k str) {
        let named = |(arm, _): &(&str, &str)| self.whole.get("arms").and_then(|arms| arms.get(arm)).is_some();
        match key.split_once('.').filter(named) {
            Some((arm, rest)) => (Some(arm), rest),
            None => (None, key),
        }
    }

    fn may_vary(&mut self, path: &[String], key: &str) -> bool {
        let (_, key) = self.scope(key);
        let allowed = VARIABLE
            .iter()
            .any(|known| key == *known || key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')));
        if !allowed {
            let help = match key {
                "seed" | "seeds" => "list them under `seeds`".to_owned(),
                _ => format!("what may vary: {}", suggest::list(VARIABLE)),
            };
            self.key_problem(path, format!("`{key}` can't vary within an experiment"), Some(&help));
        }
        allowed
    }

    fn zips(&mut self) -> Vec<Dimension> {
        let at = path(&["matrix", "zip"]);
        (0..self.list_length(&at)).filter_map(|number| self.zip(&at, number)).collect()
    }

    fn zip(&mut self, at: &[String], number: usize) -> Option<Dimension> {
        let mut here = at.to_vec();
        here.push(number.to_string());
        let columns: Vec<(String, Vec<Setting>)> = (self.entries(&here).into_iter())
            .map(|(key, values)| {
                let column = self.column(&here, &key, values);
                (key, column)
            })
            .collect();
        let lengths: Vec<String> =
            columns.iter().map(|(key, column)| format!("`{key}` has {}", column.len())).collect();
        let (_, first) = columns.first()?;
        let length = first.len();
        if columns.iter().any(|(_, column)| column.len() != length) {
            if self.problems.is_empty() {
                let message = format!("the lists of a zip are walked in step, but {}", lengths.join(" and "));
                self.problem(&here, message, Some("give them equally many values"));
            }
            return None;
        }
        let row = |row: usize| columns.iter().filter_map(|(_, column)| column.get(row).cloned()).collect();
        Some((0..length).map(row).collect())
    }

    /// No key in two dimensions.
    fn unique_keys(&mut self, dimensions: &[Dimension]) {
        let mut seen: HashSet<&str> = HashSet::new();
        for setting in dimensions.iter().filter_map(|dimension| dimension.first()).flatten() {
            if !seen.insert(&setting.key) && self.problems.len() < MAX_PROBLEMS {
                let key_path = setting.path.get(..setting.path.len() - 1).unwrap_or_default();
                self.key_problem(key_path, format!("`{}` varies twice", setting.key), None);
            }
        }
    }

    /// What is set from outside must not be a key that varies: the matrix would win without a word.
    fn overlays(&mut self, dimensions: &[Dimension]) {
        let outside = |kind: LayerKind| matches!(kind, LayerKind::Environment | LayerKind::Set);
        let layers = self.merged.layers().to_vec();
        for setting in dimensions.iter().filter_map(|dimension| dimension.first()).flatten() {
            let steps: Vec<&str> = setting.key.split('.').collect();
            for layer in layers.iter().filter(|layer| outside(layer.kind)) {
                if layer.root.find(&steps).is_some() {
                    let place = layer.root.key_place(&steps);
                    let message = format!("`{}` varies in the matrix, so setting it has no effect", setting.key);
                    let help = format!("to run one value, set the axis: --set 'matrix.axes.{}=[…]'", setting.key);
                    self.problems.push(Diagnostic::error("matrix", message).at(Some(place)).help(help));
                }
            }
        }
    }

    /// Takes cells out. Cells are the product here, so that each has the settings of `keys` in their order.
    fn exclude(&mut self, keys: &[String], cells: &mut Vec<CellSettings>) {
        let at = path(&["matrix", "exclude"]);
        for number in 0..self.list_length(&at) {
            if self.problems.len() >= MAX_PROBLEMS {
                return;
            }
            let mut here = at.clone();
            here.push(number.to_string());
            let entries = self.entries(&here);
            for (key, _) in entries.iter().filter(|(key, _)| !keys.contains(key)) {
                let mut here = here.clone();
                here.push(key.clone());
                let help = suggest::help(key, keys.iter().map(String::as_str));
                let message = format!("`{key}` doesn't vary, so nothing can be excluded by it");
                self.key_problem(&here, message, Some(&help));
            }
            let wanted: Vec<(Option<usize>, &Value)> =
                entries.iter().map(|(key, value)| (keys.iter().position(|known| known == key), value)).collect();
            let matches = |cell: &CellSettings| {
                let fits = |place: usize, value: &Value| cell.0.get(place).is_some_and(|own| own.value == *value);
                wanted.iter().all(|(place, value)| place.is_some_and(|place| fits(place, value)))
            };
            let before = cells.len();
            cells.retain(|cell| entries.is_empty() || !matches(cell));
            if cells.len() == before && self.problems.is_empty() {
                let help = "values must be written as on the axis; an earlier entry may have taken the cell already";
                self.problem(&here, "this excludes no cell", Some(help));
            }
        }
    }

    fn include(&mut self, keys: &[String], cells: &mut Vec<CellSettings>) {
        let at = path(&["matrix", "include"]);
        let included: Vec<(Vec<String>, CellSettings)> = (0..self.list_length(&at))
            .map(|number| {
                let mut here = at.clone();
                here.push(number.to_string());
                let cell = self.included(&here);
                (here, cell)
            })
            .collect();
        if included.is_empty() {
            return;
        }
        let own = included.iter().flat_map(|(_, cell)| cell.0.iter().map(|setting| setting.key.as_str()));
        let all: BTreeSet<&str> = keys.iter().map(String::as_str).chain(own).collect();
        let mut there: HashSet<String> = cells.iter().map(|cell| signature(cell, &all, self.base)).collect();
        let included = included.iter().map(|(here, cell)| (here, cell, signature(cell, &all, self.base)));
        for (here, cell, signature) in included.collect::<Vec<_>>() {
            if self.problems.len() >= MAX_PROBLEMS {
                return;
            }
            if cell.0.is_empty() {
                self.problem(here, "this includes nothing", None);
            } else if !there.insert(signature) {
                self.problem(here, "this cell is there already", Some("delete the entry"));
            } else {
                cells.push(cell.clone());
            }
        }
    }

    /// The settings of one entry of `include`.
    fn included(&mut self, here: &[String]) -> CellSettings {
        let mut settings = Vec::new();
        for (key, value) in self.entries(here) {
            let mut here = here.to_vec();
            here.push(key.clone());
            if self.may_vary(&here, &key) {
                settings.extend(self.setting(here, &key, value));
            }
        }
        CellSettings(settings)
    }
}

/// What a cell sets, key by key, what it leaves out taken from the spec: equal for cells that set the same.
fn signature(cell: &CellSettings, keys: &BTreeSet<&str>, base: &Value) -> String {
    let value = |key: &str| {
        let own = cell.0.iter().find(|setting| setting.key == key).map(|setting| &setting.value);
        own.or_else(|| merge::get(base, key)).map(Value::to_string).unwrap_or_default()
    };
    keys.iter().map(|key| value(key)).collect::<Vec<_>>().join("\n")
}

fn product(dimensions: &[Dimension]) -> Vec<CellSettings> {
    let mut cells = vec![CellSettings::default()];
    for dimension in dimensions {
        let extend =
            |cell: &CellSettings, step: &Vec<Setting>| CellSettings(cell.0.iter().chain(step).cloned().collect());
        cells = cells.iter().flat_map(|cell| dimension.iter().map(move |step| extend(cell, step))).collect();
    }
    cells
}

/// Axis values of a cell, those that it leaves to the spec filled in, so that all cells name the same keys.
pub fn complete_axes(cell: &CellSettings, cells: &[CellSettings], document: &Value) -> BTreeMap<String, Value> {
    let mut axes = cell.axes();
    let keys = cells.first().into_iter().flat_map(|first| &first.0).map(|setting| &setting.key);
    for key in keys {
        if let Some(value) = merge::get(document, key).filter(|_| !axes.contains_key(key)) {
            axes.insert(key.clone(), value.clone());
        }
    }
    axes
}

/// The part of a stand-in that is laid over every cell, after the matrix.
pub fn stand_in_patch(merged: &Merged) -> Option<Value> {
    let layer = merged.layers().iter().find(|layer| layer.kind == LayerKind::StandIn)?;
    let mut patch = layer.root.to_json();
    if let Some(object) = patch.as_object_mut() {
        object.retain(|key, _| !matches!(key.as_str(), "name" | "seeds"));
    }
    Some(patch)
}

/// Whether a patch sets a key.
pub fn sets(patch: &Value, key: &str) -> bool {
    let rival = merge::RIVALS.iter().any(|(section, members)| {
        let Some((parent, leaf)) = key.rsplit_once('.') else { return false };
        parent == section.join(".")
            && members.contains(&leaf)
            && members.iter().any(|member| merge::get(patch, &format!("{parent}.{member}")).is_some())
    });
    rival || merge::get(patch, key).is_some()
}

/// An empty mapping.
pub fn nothing() -> Value {
    Value::Object(Map::new())
}
