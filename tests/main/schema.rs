//! The schema of specs by itself, with a validator that isn't this program's: which broken specs it refuses.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::program::root;

/// Broken specs that the schema refuses, one a line; the others are wrong in ways that only this program sees.
const LIST: &str = "fixtures/specs/refused_by_schema.txt";

fn specs(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    found.sort();
    found
}

/// A file as YAML has it; none where it isn't YAML, or stands for more than fits.
fn value(path: &PathBuf) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("yaml-alias-bomb")) {
        return None;
    }
    serde_yaml::from_str(&text).ok()
}

fn validator() -> jsonschema::Validator {
    let text = std::fs::read_to_string(root().join("schemas/experiment.schema.json")).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_schema_refuses_the_broken_specs_of_the_list_and_no_sound_one() {
    let schema = validator();
    let refused = |path: &PathBuf| value(path).is_some_and(|value| !schema.is_valid(&value));
    let found: BTreeSet<String> = specs("fixtures/specs/broken")
        .iter()
        .filter(|path| refused(path))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let list = std::fs::read_to_string(root().join(LIST)).unwrap();
    let listed: BTreeSet<String> = list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let lines: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, listed, "{LIST} should say:\n{}", lines.join("\n"));
    for path in specs("experiments") {
        let value = value(&path).unwrap();
        let problems: Vec<String> =
            schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
}

/// Editors complete axes by the names of the schema's properties, and profiles and claims by its words.
#[test]
fn editors_find_axes_profiles_and_claims() {
    let text = std::fs::read_to_string(root().join("schemas/experiment.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let axes = schema["$defs"]["MatrixSpec"]["properties"]["axes"]["properties"].as_object().unwrap();
    for key in
        ["optimizer.matrix_lr", "model.depth", "budget.flops", "hardware.dtype", "eval.core.max_per_task", "init"]
    {
        assert!(axes.contains_key(key), "{key}");
    }
    assert!(!axes.contains_key("seed") && !axes.contains_key("name"));
    let profiles = schema["properties"]["hardware"]["anyOf"][0]["enum"].as_array().unwrap();
    assert!(profiles.iter().any(|name| name == "h100-x8"), "{profiles:?}");
    assert!(
        !text.contains("\"anyOf\": [\n        {\n          \"$ref\""),
        "a section is a choice of itself and nothing"
    );
}

/// What the language server of common editors proposes where an axis begins.
#[test]
#[ignore = "needs Python and yaml-language-server from npm (NANOCHAT_TEST_YAML_SERVER names it)"]
fn a_language_server_completes_axes() {
    let server = std::env::var("NANOCHAT_TEST_YAML_SERVER").expect("the server's program");
    let project = super::program::Project::new();
    let schema = std::fs::read_to_string(root().join("schemas/experiment.schema.json")).unwrap();
    project.write("schemas/experiment.schema.json", &schema);
    let spec = "# yaml-language-server: $schema=../schemas/experiment.schema.json\nschema: nanochat.experiment/v1\n\
                name: mine\nmatrix:\n  axes:\n    opt\n";
    let spec = project.write("experiments/mine.yaml", spec);
    let mut command = std::process::Command::new("python3");
    let asked = command.arg(root().join("fixtures/editors/complete.py")).arg(server).arg(spec).args(["5", "7"]);
    let proposed = String::from_utf8(asked.output().unwrap().stdout).unwrap();
    assert!(proposed.lines().any(|line| line == "optimizer.matrix_lr"), "{proposed}");
}
