//! The schema of specs as editors and other validators get it: what [`crate::config::schema::SPEC`] says of each key by itself, and what
//! holds between keys: one budget, one way to name seeds, a tokenizer and a tolerance, axes by name with the values that their
//! keys take, claims by ruleset, arms with a control. This program finds all of that too, with better messages.

use serde_json::{Map, Value, json};

use crate::config::{profiles, schema};
use crate::matrix::VARIABLE;

/// Keys of which a section has at most one.
const RIVALS: [(&str, &[&str]); 4] = [
    ("/$defs/BudgetSpec", &["iterations", "tokens", "flops", "param_data_ratio"]),
    ("/$defs/TokenizerSpec", &["path", "train"]),
    ("/$defs/ToleranceSpec", &["relative", "absolute"]),
    ("", &["seed", "seeds"]),
];
/// Deepest path of a key.
const DEEPEST: usize = 4;

/// The schema.
pub fn spec() -> Value {
    let mut spec = schema::SPEC.clone();
    let keys = variable_keys(&spec);
    accept_empty_sections(&mut spec);
    for (pointer, keys) in RIVALS {
        at_most_one(&mut spec, pointer, keys);
    }
    axes(&mut spec, &keys);
    profile_names(&mut spec);
    one_of_a_file(&mut spec);
    spec
}

/// A section may stand empty: as a type of its own, which leaves messages about what is in it to the keys.
fn accept_empty_sections(spec: &mut Value) {
    let mut sections = Vec::new();
    let mut places: Vec<String> = vec![String::new()];
    let definitions = spec["$defs"].as_object().into_iter().flatten();
    places.extend(definitions.map(|(name, _)| format!("/$defs/{name}")));
    for place in places {
        let Some(Value::Object(properties)) = spec.pointer_mut(&format!("{place}/properties")) else { continue };
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            let section = match property.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
                Some([section, nothing]) if nothing["type"] == "null" => section.get("$ref").cloned(),
                _ => None,
            };
            let Some(section) = section else { continue };
            property.remove("anyOf");
            sections.extend(section.as_str().map(|name| name.trim_start_matches('#').to_owned()));
            property.insert("$ref".to_owned(), section);
        }
    }
    for pointer in sections {
        if let Some(section) = spec.pointer_mut(&pointer).filter(|section| section["type"] == "object") {
            section["type"] = json!(["object", "null"]);
        }
    }
}

/// Adds a condition that must hold beside those that are there.
fn also(spec: &mut Value, pointer: &str, condition: Value) {
    let Some(Value::Object(part)) = spec.pointer_mut(pointer) else { return };
    if let Value::Array(all) = part.entry("allOf").or_insert_with(|| json!([])) {
        all.push(condition);
    }
}

fn at_most_one(spec: &mut Value, pointer: &str, keys: &[&str]) {
    for (place, key) in keys.iter().enumerate() {
        let others = keys.get(place + 1..).unwrap_or_default();
        let pairs: Vec<Value> = others.iter().map(|other| json!({ "required": [key, other] })).collect();
        if !pairs.is_empty() {
            also(spec, pointer, json!({ "not": { "anyOf": pairs } }));
        }
    }
}

/// The keys that may vary, dotted, with the schema of their values.
fn variable_keys(spec: &Value) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for known in VARIABLE {
        let mut path: Vec<String> = known.split('.').map(str::to_owned).collect();
        collect(spec, &mut path, &mut keys);
    }
    keys
}

fn collect(spec: &Value, path: &mut Vec<String>, keys: &mut Vec<(String, Value)>) {
    let inner = schema::keys_at(spec, path);
    let own = path.split_last().and_then(|(key, parents)| schema::object_at(spec, parents)?["properties"].get(key));
    let values = own.filter(|_| inner.is_empty()).cloned().unwrap_or(Value::Bool(true));
    keys.push((path.join("."), values));
    if path.len() < DEEPEST {
        for key in inner {
            path.push(key);
            collect(spec, path, keys);
            path.pop();
        }
    }
}

/// Axes, zips, exclusions and inclusions by the names of keys.
fn axes(spec: &mut Value, keys: &[(String, Value)]) {
    let names: Vec<String> = keys.iter().map(|(key, _)| key.replace('.', "\\.")).collect();
    // After the name of an arm the key varies in that arm alone.
    let of_arm = format!("^[A-Za-z0-9][A-Za-z0-9._-]*\\.({})$", names.join("|"));
    let mapping = |values: &dyn Fn(Value) -> Value| {
        let named: Map<String, Value> = keys.iter().map(|(key, value)| (key.clone(), values(value.clone()))).collect();
        json!({
            "type": "object",
            "properties": named,
            "patternProperties": { &of_arm: values(Value::Bool(true)) },
            "additionalProperties": false,
        })
    };
    let list = |value: Value| json!({ "type": "array", "items": plain(value), "minItems": 1 });
    let distinct = |value: Value| json!({ "type": "array", "items": plain(value), "minItems": 1, "uniqueItems": true });
    let parts = [
        ("axes", mapping(&distinct)),
        ("zip/items", mapping(&list)),
        ("exclude/items", mapping(&plain)),
        ("include/items", mapping(&plain)),
    ];
    for (part, schema) in parts {
        let pointer = format!("/$defs/MatrixSpec/properties/{part}");
        let Some(Value::Object(property)) = spec.pointer_mut(&pointer) else { continue };
        property.extend(schema.as_object().cloned().unwrap_or_default());
    }
}

/// A value's schema without what belongs to its key.
fn plain(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        ["default", "examples", "title"].iter().for_each(|key| drop(object.remove(*key)));
    }
    value
}

/// The built-in profiles by name; a project may have others.
fn profile_names(spec: &mut Value) {
    let names: Vec<&str> = profiles::BUILT_IN.iter().map(|(name, _)| *name).collect();
    if let Some(Value::Array(forms)) = spec.pointer_mut("/properties/hardware/anyOf") {
        forms.insert(0, json!({ "enum": names, "description": "A built-in profile." }));
    }
}

/// What a spec must say that builds on no other: its claims, arms and control; and without a matrix, what its one cell lacks.
fn one_of_a_file(spec: &mut Value) {
    let alone = json!({ "not": { "required": ["extends"] } });
    let when = |condition: Value, demand: Value| json!({ "if": { "allOf": [alone, condition] }, "then": demand });
    let v2 = json!({ "required": ["ruleset"], "properties": { "ruleset": { "const": "v2" } } });
    let v1 = json!({ "properties": { "ruleset": { "const": "v1" } } });
    let no_claim = |section: &str| json!({ "properties": { section: { "not": { "required": ["claim"] } } } });
    let arms = json!({ "required": ["arms"] });
    let single = json!({ "not": { "required": ["matrix"] } });
    let one_budget = json!({ "anyOf": RIVALS[0].1.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() });
    let conditions = [
        when(v2.clone(), json!({ "required": ["quality"], "properties": { "quality": { "required": ["claim"] } } })),
        when(v1.clone(), no_claim("quality")),
        when(v1, no_claim("speed")),
        when(arms.clone(), v2),
        when(arms, json!({ "required": ["control"] })),
        when(json!({ "required": ["control"] }), json!({ "required": ["arms"] })),
        when(
            single,
            json!({ "required": ["data", "tokenizer", "budget", "model"], "properties": { "budget": one_budget } }),
        ),
    ];
    conditions.into_iter().for_each(|condition| also(spec, "", condition));
    let karpathy = json!({ "required": ["engine"], "properties": { "engine": { "const": "karpathy" } } });
    let native = json!({ "required": ["engine"], "properties": { "engine": { "const": "native" } } });
    let foreign = ["commit", "checkout", "flags"].map(|key| json!({ "required": [key] }));
    also(spec, "/$defs/ArmSpec", json!({ "if": karpathy, "then": { "required": ["commit"] } }));
    also(spec, "/$defs/ArmSpec", json!({ "if": native, "then": { "not": { "anyOf": foreign } } }));
}
