//! How one piece of a spec is laid over another, a layer over the layers before it or a cell over the spec: key by key, a
//! rival replacing its rivals, another data source replacing all of `data`.

use serde_json::Value;

/// Keys of which a section holds exactly one. A later choice replaces an earlier one.
pub const RIVALS: [(&[&str], &[&str]); 4] = [
    (&[], &["seed", "seeds"]),
    (&["budget"], &["iterations", "tokens", "flops", "param_data_ratio"]),
    (&["tokenizer"], &["path", "train"]),
    (&["quality", "tolerance"], &["relative", "absolute"]),
];

/// Lays `later` over `document`.
pub fn overlay(document: &mut Value, later: &Value) {
    retire(document, later);
    merge(document, later);
}

/// Removes from `earlier` what `later` replaces as a whole.
pub fn retire(earlier: &mut Value, later: &Value) {
    for (section, members) in RIVALS {
        let has = |member: &&&str| find(later, section).is_some_and(|stated| stated.get(**member).is_some());
        let Some(chosen) = members.iter().find(has) else { continue };
        let Some(Value::Object(stated)) = find_mut(earlier, section) else { continue };
        stated.retain(|key, _| key == chosen || !members.contains(&key.as_str()));
        if *chosen == "train" {
            stated.remove("vocab_size");
        }
    }
    let source = find(later, &["data", "source"]);
    let other = find(earlier, &["data", "source"]).is_some_and(|own| source.is_some_and(|source| source != own));
    if let Some(object) = earlier.as_object_mut().filter(|_| other) {
        object.insert("data".to_owned(), Value::Object(serde_json::Map::new()));
    }
}

/// Removes the value at a path of keys, if there is one.
pub fn remove(document: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(document, |value, step| value.get_mut(step));
    if let Some(Value::Object(parent)) = parent {
        parent.remove(last);
    }
}

/// Writes `later` over `document` key by key.
pub fn merge(document: &mut Value, later: &Value) {
    match (document, later) {
        (Value::Object(document), Value::Object(later)) => {
            for (key, value) in later {
                merge(document.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (document, later) => *document = later.clone(),
    }
}

/// The value at a path of keys and list positions.
pub fn find<'a, S: AsRef<str>>(value: &'a Value, path: &[S]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.as_ref().parse::<usize>().ok()?),
        value => value.get(step.as_ref()),
    })
}

fn find_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| value.get_mut(step))
}

/// The value at a dotted key.
pub fn get<'a>(document: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(document, |value, step| value.get(step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rivals_and_sources_are_replaced_the_rest_is_merged() {
        let base = json!({
            "budget": {"iterations": 5, "wall_clock": 9},
            "data": {"source": "text", "path": "x"},
            "tokenizer": {"path": "y", "vocab_size": 512},
            "init": "random",
            "model": {"depth": 4},
        });
        for (key, later, expected) in [
            ("budget", json!({"flops": 1.5}), json!({"flops": 1.5, "wall_clock": 9})),
            ("budget", json!({"iterations": 6}), json!({"iterations": 6, "wall_clock": 9})),
            ("data", json!({"source": "synthetic", "bytes": 5000}), json!({"source": "synthetic", "bytes": 5000})),
            ("data", json!({"source": "text", "path": "z"}), json!({"source": "text", "path": "z"})),
            ("data", json!({"path": "z"}), json!({"source": "text", "path": "z"})),
            ("tokenizer", json!({"train": {"vocab_size": 300}}), json!({"train": {"vocab_size": 300}})),
            ("tokenizer", json!({"path": "z"}), json!({"path": "z", "vocab_size": 512})),
            ("init", json!({"weights": "w"}), json!({"weights": "w"})),
        ] {
            let mut document = base.clone();
            overlay(&mut document, &json!({ key: later }));
            assert_eq!(document[key], expected, "{key}: {later}");
            assert_eq!(get(&document, "model.depth"), Some(&json!(4)));
        }
    }
}
