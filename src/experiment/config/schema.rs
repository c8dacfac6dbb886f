//! The JSON schemas of what users write, generated from the types and made helpful for editors: a title, an example, the
//! unit of every number (`x-unit`) and, where there is one, the default on every key.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::document::{ProfileDocument, SpecDocument};
use super::short_forms::NULLABLE;
use super::{Source, parse};

/// The built-in defaults, a spec themselves.
pub const DEFAULTS: &str = include_str!("defaults.yaml");

/// Units, examples and further defaults, by definition and key.
const NOTES: &str = include_str!("schema_notes.yaml");

/// Schema of an experiment spec.
pub static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(SpecDocument).to_value();
    require(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        // Keys of the user's own, to hold anchors.
        object.insert("patternProperties".to_owned(), json!({ "^x-": true }));
    }
    let defaults = parse(&Source::new("built-in defaults", DEFAULTS)).map(|node| node.to_json()).unwrap_or_default();
    finish(&mut schema, &defaults, "SpecDocument");
    schema
});

/// Schema of a hardware profile.
pub static PROFILE: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(ProfileDocument).to_value();
    require(&mut schema);
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("profile");
    }
    finish(&mut schema, &Value::Null, "ProfileDocument");
    schema
});

/// A file of its own says what it is and is called.
fn require(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.insert("required".to_owned(), json!(["schema", "name"]));
    }
}

fn finish(schema: &mut Value, defaults: &Value, name: &str) {
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    if let Some(own) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        own.values_mut().for_each(|definition| finish_object(definition, &definitions));
    }
    finish_object(schema, &definitions);
    set_defaults(schema, defaults);
    annotate(schema, name);
}

/// Adds the notes, and for the rest the examples that defaults and choices of words are.
fn annotate(schema: &mut Value, name: &str) {
    let notes = parse(&Source::new("schema notes", NOTES)).map(|node| node.to_json()).unwrap_or_default();
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    let own = std::iter::once((name.to_owned(), String::new()));
    let defined =
        definitions.as_object().into_iter().flatten().map(|(name, _)| (name.clone(), format!("/$defs/{name}")));
    for (name, pointer) in own.chain(defined) {
        let Some(Value::Object(properties)) = schema.pointer_mut(&format!("{pointer}/properties")) else { continue };
        for (key, property) in properties.iter_mut() {
            if let Some(property) = property.as_object_mut() {
                // A profile's file has the keys of a spec's `hardware`.
                let shared = if name == "ProfileDocument" { &notes["HardwareSpec"][key] } else { &Value::Null };
                let note = notes[&name].get(key).unwrap_or(shared);
                annotate_key(property, note, &definitions);
            }
        }
    }
}

fn annotate_key(property: &mut Map<String, Value>, note: &Value, definitions: &Value) {
    for (from, to) in [("unit", "x-unit"), ("default", "default"), ("examples", "examples")] {
        if let Some(value) = note.get(from) {
            property.insert(to.to_owned(), value.clone());
        }
    }
    let reference = property.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    let choices = reference.and_then(|name| definitions[name]["oneOf"].as_array());
    let words: Vec<Value> = choices.into_iter().flatten().filter_map(|choice| choice.get("const").cloned()).collect();
    let example = if words.is_empty() { property.get("default").cloned().into_iter().collect() } else { words };
    let is_useful = !example.is_empty() && example.iter().all(|value: &Value| value.as_str() != Some(""));
    if is_useful && !property.contains_key("examples") {
        property.insert("examples".to_owned(), Value::Array(example));
    }
}

/// Titles, and no `null` where a value is meant. No section demands a key, since any layer may hold it.
fn finish_object(schema: &mut Value, definitions: &Value) {
    if let Some(object) = schema.as_object_mut().filter(|object| !object.contains_key("$defs")) {
        object.remove("required");
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (key, property) in properties.iter_mut() {
        let Some(property) = property.as_object_mut() else { continue };
        property.remove("format");
        if !NULLABLE.iter().any(|path| path.last() == Some(&key.as_str())) {
            restrict_null(property, definitions);
        }
        property.entry("title").or_insert_with(|| Value::String(key.replace('_', " ")));
    }
}

/// A section may stand empty, a value may not.
fn restrict_null(property: &mut Map<String, Value>, definitions: &Value) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            property.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::Array(choices)) = property.get("anyOf") {
        let others: Vec<Value> = choices.iter().filter(|choice| choice["type"] != "null").cloned().collect();
        let [Value::Object(only)] = others.as_slice() else { return };
        property.remove("anyOf");
        property.extend(only.clone());
    }
    let target = property.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    if target.is_some_and(|name| definitions[name]["type"] == "object") {
        let section = property.remove("$ref");
        property.insert("anyOf".to_owned(), json!([{ "$ref": section }, { "type": "null" }]));
    }
}

/// Writes each default beside its key, following references.
fn set_defaults(schema: &mut Value, defaults: &Value) {
    let mut pending = vec![(String::new(), defaults.clone())];
    while let Some((pointer, defaults)) = pending.pop() {
        for (key, default) in defaults.as_object().into_iter().flatten() {
            let property = format!("{pointer}/properties/{key}");
            if default.is_object() {
                pending.extend(section(schema, &property).map(|pointer| (pointer, default.clone())));
            } else if let Some(Value::Object(property)) = schema.pointer_mut(&property) {
                property.insert("default".to_owned(), default.clone());
            }
        }
    }
}

/// Where a section's own schema is.
fn section(schema: &Value, property: &str) -> Option<String> {
    let property = schema.pointer(property)?;
    let choices = property.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let reference = std::iter::once(property).chain(choices).find_map(|choice| choice.get("$ref")?.as_str());
    Some(reference?.trim_start_matches('#').to_owned())
}

/// The object schema at a path of keys, references and choices followed: the sub-schema whose properties are allowed there.
pub fn object_at<'s>(schema: &'s Value, path: &[String]) -> Option<&'s Value> {
    let mut at = resolve_object(schema, schema)?;
    for step in path {
        let next = (at.get("properties").and_then(|properties| properties.get(step)))
            .or_else(|| at.get("additionalProperties").filter(|value| value.is_object()))
            .or_else(|| at.get("items"))?;
        at = resolve_object(schema, next)?;
    }
    Some(at)
}

/// Follows references, and among choices takes the mapping or list.
fn resolve_object<'s>(root: &'s Value, mut at: &'s Value) -> Option<&'s Value> {
    for _ in 0..16 {
        if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
            at = root.pointer(reference.trim_start_matches('#'))?;
        } else if let Some(choices) = at.get("anyOf").and_then(Value::as_array) {
            at = choices.iter().find(|choice| resolve_object(root, choice).is_some_and(is_container))?;
        } else {
            return Some(at);
        }
    }
    None
}

fn is_container(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("items").is_some() || schema["type"] == "object"
}

/// The keys allowed at a path.
pub fn keys_at(schema: &Value, path: &[String]) -> Vec<String> {
    let properties = object_at(schema, path).and_then(|object| object.get("properties")?.as_object());
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of both schemas that isn't a section, with the definition that it belongs to.
    fn leaves() -> Vec<(String, Value)> {
        let mut leaves = Vec::new();
        for (name, schema) in [("SpecDocument", &*SPEC), ("ProfileDocument", &*PROFILE)] {
            let definitions = schema["$defs"].as_object().unwrap();
            for (name, part) in definitions.iter().map(|(name, part)| (name.as_str(), part)).chain([(name, schema)]) {
                for (key, property) in part["properties"].as_object().into_iter().flatten() {
                    let choices = property["anyOf"].as_array().into_iter().flatten();
                    let mut all = std::iter::once(property).chain(choices);
                    let inner = all.find_map(|choice| Some(choice.get("$ref")?.as_str()?.trim_start_matches('#')));
                    let is_section = inner.is_some_and(|at| schema.pointer(at).unwrap()["type"] == "object");
                    assert!(property["description"].is_string() && property["title"].is_string(), "{name}.{key}");
                    if !is_section || property.get("examples").is_some() {
                        leaves.push((format!("{name}.{key}"), property.clone()));
                    }
                }
            }
        }
        leaves
    }

    #[test]
    fn every_key_has_an_example_that_is_valid_and_every_number_its_unit() {
        let leaves = leaves();
        assert!(leaves.len() > 100, "{}", leaves.len());
        for (name, property) in leaves {
            assert!(property["examples"].as_array().is_some_and(|examples| !examples.is_empty()), "{name}");
            let is_number = |value: &Value| value.is_number() || value[0].is_number();
            if property["examples"].as_array().unwrap().iter().any(is_number) {
                assert!(property["x-unit"].is_string(), "{name} has no unit");
            }
            for (root, schema) in [("SpecDocument", &*SPEC), ("ProfileDocument", &*PROFILE)] {
                let (definition, key) = name.split_once('.').unwrap();
                let part = if definition == root { Some(schema) } else { schema["$defs"].get(definition) };
                let Some(own) = part.and_then(|part| part["properties"].get(key)) else { continue };
                let mut own = own.clone();
                own["$defs"] = schema["$defs"].clone();
                let validator = jsonschema::validator_for(&own).unwrap();
                for example in own["examples"].as_array().unwrap().iter().chain(own.get("default")) {
                    assert!(validator.is_valid(example), "{name}: {example}");
                }
            }
        }
    }

    /// A note on a key that isn't there explains nothing.
    #[test]
    fn every_note_is_on_a_key() {
        let notes = parse(&Source::new("notes", NOTES)).unwrap().to_json();
        for (definition, keys) in notes.as_object().unwrap() {
            for key in keys.as_object().unwrap().keys() {
                let found =
                    [("SpecDocument", &*SPEC), ("ProfileDocument", &*PROFILE)].into_iter().any(|(root, schema)| {
                        let part = if definition == root { schema } else { &schema["$defs"][definition] };
                        part["properties"].get(key).is_some()
                    });
                assert!(found, "{definition}.{key}");
            }
        }
    }
}
