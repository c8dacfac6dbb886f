//! A piece of a spec laid over another, with the same rules as between layers: key by key, a rival replacing its rivals.

use serde_json::Value;

use crate::config::RIVALS;

/// Lays `patch` over `document`.
pub fn apply(document: &mut Value, patch: &Value) {
    for (section, members) in RIVALS {
        let chosen = at(patch, section)
            .and_then(Value::as_object)
            .and_then(|patch| members.iter().find(|key| patch.contains_key(**key)));
        let Some(chosen) = chosen else { continue };
        if let Some(object) = at_mut(document, section).and_then(Value::as_object_mut) {
            object.retain(|key, _| key == chosen || !members.contains(&key.as_str()));
        }
    }
    let source = at(patch, &["data", "source"]);
    if source.is_some()
        && source != at(document, &["data", "source"])
        && let Some(object) = document.as_object_mut()
    {
        object.remove("data");
    }
    merge(document, patch);
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| value.get(step))
}

fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| value.get_mut(step))
}

fn merge(document: &mut Value, patch: &Value) {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(document.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (document, patch) => *document = patch.clone(),
    }
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
        let base = json!({"budget": {"iterations": 5, "wall_clock": 9}, "data": {"source": "text", "path": "x"}, "model": {"depth": 4}});
        for (patch, expected) in [
            (json!({"budget": {"flops": 1.5}}), json!({"flops": 1.5, "wall_clock": 9})),
            (json!({"budget": {"iterations": 6}}), json!({"iterations": 6, "wall_clock": 9})),
        ] {
            let mut document = base.clone();
            apply(&mut document, &patch);
            assert_eq!(document["budget"], expected);
        }
        let mut document = base;
        apply(&mut document, &json!({"data": {"source": "synthetic", "bytes": 5000}}));
        assert_eq!(document["data"], json!({"source": "synthetic", "bytes": 5000}));
        assert_eq!(get(&document, "model.depth"), Some(&json!(4)));
    }
}
