//! `--set a.b=value` and `NANOCHAT_A__B=value` as layers: the value is any YAML, the key a path.
//!
//! Of the environment, variables with a double underscore are ours, and those that name a top-level key (`NANOCHAT_SEED`).
//! Others with the same prefix, such as the baseline's `NANOCHAT_BASE_DIR` and `NANOCHAT_DTYPE`, are left alone.

use super::yaml::parse_part;
use super::{Diagnostic, Entry, Kind, Layer, LayerKind, Node, Place, Source, schema};

/// Prefix of environment variables.
pub const PREFIX: &str = "NANOCHAT_";

/// A `--set` argument as a layer.
///
/// # Errors
/// Missing `=`, an empty step in the path, a value that isn't YAML.
pub fn from_argument(argument: &str) -> Result<Layer, Vec<Diagnostic>> {
    let source = Source::new(format!("--set {argument}"), argument);
    let Some((path, _)) = argument.split_once('=') else {
        let place = Place::new(&source, 0..argument.len());
        let error = Diagnostic::error("bad-set", format!("`--set {argument}` has no `=`"));
        return Err(vec![error.at(Some(&place)).help("write --set key=value, such as --set model.depth=8")]);
    };
    let steps = path_steps(path);
    if let Some((at, step)) = steps.iter().find(|(_, step)| step.trim().is_empty()) {
        let place = Place::new(&source, *at..at + step.len().max(1));
        let error = Diagnostic::error("bad-set", format!("`{path}` has an empty step"));
        return Err(vec![error.at(Some(&place)).help("keys are dotted paths such as optimizer.matrix_lr")]);
    }
    build(LayerKind::Set, &source, &steps, path.len() + 1)
}

/// Steps of a dotted path with their offsets. What follows `matrix.axes` is one key, dots and all.
fn path_steps(path: &str) -> Vec<(usize, &str)> {
    let mut steps = Vec::new();
    let mut at = 0;
    for step in path.split('.') {
        if let [(_, "matrix"), (_, "axes")] = steps.as_slice() {
            steps.push((at, path.get(at..).unwrap_or_default()));
            return steps;
        }
        steps.push((at, step));
        at += step.len() + 1;
    }
    steps
}

/// The variables that are ours, as layers in order of name.
///
/// # Errors
/// A value that isn't YAML.
pub fn from_environment(variables: &[(String, String)]) -> Result<Vec<Layer>, Vec<Diagnostic>> {
    let sections = schema::keys_at(&schema::SPEC, &[]);
    let mut ours: Vec<(&String, &String, String)> = (variables.iter())
        .filter_map(|(name, value)| Some((name, value, name.strip_prefix(PREFIX)?.to_lowercase())))
        .filter(|(_, _, key)| key.contains("__") || sections.contains(key))
        .collect();
    ours.sort();
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    for (name, value, key) in ours {
        let source = Source::new(format!("environment variable {name}"), format!("{name}={value}"));
        let mut at = PREFIX.len();
        let steps: Vec<(usize, &str)> = (key.split("__"))
            .map(|step| {
                let start = at;
                at += step.len() + 2;
                (start, step)
            })
            .collect();
        match build(LayerKind::Environment, &source, &steps, name.len() + 1) {
            Ok(layer) => layers.push(layer),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(layers) } else { Err(problems) }
}

/// Nests the value, which begins at `value_at`, in a mapping for each step.
fn build(
    kind: LayerKind,
    source: &std::sync::Arc<Source>,
    steps: &[(usize, &str)],
    value_at: usize,
) -> Result<Layer, Vec<Diagnostic>> {
    let mut root = parse_part(source, value_at)?;
    for (at, step) in steps.iter().rev() {
        let key_place = Place::new(source, *at..at + step.len());
        let place = root.place.clone();
        let entry = Entry { key: step.trim().to_owned(), key_place, value: root };
        root = Node::new(Kind::Mapping(vec![entry]), place);
    }
    Ok(Layer { kind, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_take_any_yaml() {
        for (argument, expected) in [
            ("model.depth=8", json!({"model": {"depth": 8}})),
            ("seeds=[1, 2]", json!({"seeds": [1, 2]})),
            ("description=a=b", json!({"description": "a=b"})),
            ("eval.core=null", json!({"eval": {"core": null}})),
            ("eval.core=~", json!({"eval": {"core": null}})),
            ("eval.core=", json!({"eval": {"core": null}})),
            ("budget={iterations: 5}", json!({"budget": {"iterations": 5}})),
            ("matrix.axes.model.depth=[4]", json!({"matrix": {"axes": {"model.depth": [4]}}})),
            ("data.path=~/x", json!({"data": {"path": "~/x"}})),
            ("eval.core=", json!({"eval": {"core": null}})),
        ] {
            assert_eq!(from_argument(argument).unwrap().root.to_json(), expected, "{argument}");
        }
        for argument in ["model.depth", "=3", "model..depth=3", "a=[1", "a={b: 1, b: 2}"] {
            assert!(from_argument(argument).is_err(), "{argument}");
        }
    }

    #[test]
    fn a_value_knows_its_place_in_the_argument() {
        let layer = from_argument("model.depth=oops").unwrap();
        let node = layer.root.find(&["model", "depth"]).unwrap();
        assert_eq!((node.place.span(), node.place.text()), (12..16, "oops"));
        assert_eq!(layer.root.key_place(&["model", "depth"]).span(), 6..11);
    }

    #[test]
    fn the_baselines_variables_are_left_alone() {
        let pairs = [
            ("NANOCHAT_BASE_DIR", "/x"),
            ("NANOCHAT_DTYPE", "float32"),
            ("NANOCHAT_MODEL__DEPTH", "8"),
            ("NANOCHAT_SEED", "7"),
            ("HOME", "/"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let layers = from_environment(&pairs).unwrap();
        let values: Vec<_> = layers.iter().map(|layer| layer.root.to_json()).collect();
        assert_eq!(values, [json!({"model": {"depth": 8}}), json!({"seed": 7})]);
    }
}
