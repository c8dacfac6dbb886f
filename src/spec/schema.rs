//! The JSON schemas of what users write, generated from the types and made helpful for editors: a title and, where there
//! is one, the default on every key.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::document::{ProfileDocument, SpecDocument};
use super::{Source, parse};

/// The built-in defaults, a spec themselves.
pub const DEFAULTS: &str = include_str!("defaults.yaml");

/// Schema of an experiment spec.
pub static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(SpecDocument).to_value();
    require(&mut schema);
    let defaults = parse(&Source::new("built-in defaults", DEFAULTS)).map(|node| node.to_json()).unwrap_or_default();
    finish(&mut schema, &defaults);
    schema
});

/// Schema of a hardware profile.
pub static PROFILE: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(ProfileDocument).to_value();
    require(&mut schema);
    finish(&mut schema, &json!({ "device_count": 1, "threads": 0 }));
    schema
});

/// A file of its own says what it is and is called.
fn require(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.insert("required".to_owned(), json!(["schema", "name"]));
    }
}

fn finish(schema: &mut Value, defaults: &Value) {
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    if let Some(own) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        own.values_mut().for_each(|definition| finish_object(definition, &definitions));
    }
    finish_object(schema, &definitions);
    set_defaults(schema, defaults);
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
        if property.remove("x-nullable").is_none() {
            forbid_null(property, definitions);
        }
        property.entry("title").or_insert_with(|| Value::String(key.replace('_', " ")));
    }
}

/// An optional section may stand empty, an optional value may not.
fn forbid_null(property: &mut Map<String, Value>, definitions: &Value) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            property.insert("type".to_owned(), single);
        }
    }
    let Some(Value::Array(choices)) = property.get("anyOf") else { return };
    let others: Vec<Value> = choices.iter().filter(|choice| choice["type"] != "null").cloned().collect();
    let [Value::Object(only)] = others.as_slice() else { return };
    let target = only.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    let is_section = target.is_some_and(|name| definitions[name]["type"] == "object");
    if !is_section {
        property.remove("anyOf");
        property.extend(only.clone());
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
