//! Specs through the program: what is wrong with them, and what is planned of them.

use serde_json::Value;

use super::program::{Project, root};

/// A broken spec of each kind: file, code, line, column, and a word of the way out.
const BROKEN: [(&str, &str, u64, u64, &str); 12] = [
    ("key-unknown-nested", "unknown-key", 7, 10, "depth"),
    ("type-text-for-number", "wrong-type", 7, 17, ""),
    ("value-source", "not-allowed", 5, 17, "parquet"),
    ("yaml-duplicate-key", "duplicate-key", 10, 1, "keep one"),
    ("yaml-tab", "tab", 8, 1, "spaces"),
    ("yaml-alias-bomb", "too-large", 5, 36, ""),
    ("two-budgets", "rivals", 8, 27, "keep one"),
    ("hardware-unknown", "no-profile", 4, 11, "inline"),
    ("matrix-exclude-nothing", "matrix", 12, 13, "axis"),
    ("batch-doesnt-divide", "impossible", 9, 32, "total_batch_size"),
    ("value-commit-short", "bad-value", 10, 21, "full commit"),
    ("cost-memory", "impossible", 8, 20, "device_batch_size"),
];

fn broken(project: &Project, name: &str) -> String {
    let file = format!("{name}.yaml");
    let text = std::fs::read_to_string(root().join("fixtures/specs/broken").join(&file)).unwrap();
    project.write(&file, &text);
    file
}

#[test]
fn broken_specs_are_refused_with_place_and_way_out_in_every_format() {
    let project = Project::new();
    for (name, code, line, column, help) in BROKEN {
        let file = broken(&project, name);
        let shown = project.run(&["validate", &file]).exits(2);
        assert!(shown.stdout().contains(&format!("invalid  {file}")), "{name}: {}", shown.stdout());
        assert!(shown.told().contains(code) && shown.told().contains("╭─["), "{name}: {}", shown.stderr());

        let printed = project.run(&["validate", &file, "--format", "json"]).exits(2).stdout();
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(report["ok"], false);
        let problem = &report["files"][0]["problems"][0];
        assert_eq!(problem["code"], code, "{name}: {printed}");
        assert!(problem["help"].as_str().unwrap_or_default().contains(help), "{name}: {printed}");
        assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(line), Some(column)), "{name}");

        let annotations = project.run(&["validate", &file, "--format", "github"]).exits(2).stdout();
        assert!(annotations.starts_with("::error file="), "{name}: {annotations}");
        assert_eq!(annotations.lines().count(), report["files"][0]["problems"].as_array().unwrap().len());

        for command in ["plan", "run"] {
            let refused = project.run(&[command, &file]).exits(2);
            assert!(refused.stdout().is_empty() && refused.told().contains(code), "{name}: {}", refused.stderr());
        }
    }
    assert!(project.files("results").is_empty() && project.files("reports").is_empty());
}

#[test]
fn warnings_are_not_called_problems() {
    let project = Project::new();
    let spec = std::fs::read_to_string(root().join("experiments/d20-matched.yaml")).unwrap();
    project.write("d20.yaml", &spec.replace("~/.cache/nanochat", "nowhere"));
    let shown = project.run(&["validate", "d20.yaml"]).exits(0);
    assert!(shown.stdout().starts_with("ok "), "{}", shown.stdout());
    let told = shown.stderr();
    let missing: Vec<&str> = told.lines().filter(|line| line.contains(": there is no ")).collect();
    assert_eq!(missing.len(), 3, "{told}");
    assert!(missing.iter().all(|line| line.starts_with("warning: d20.yaml: ")), "{told}");

    project.write("other.yaml", &spec.replace("~/.cache/nanochat", "nowhere").replace("d20-matched", "other"));
    let folded = project.run(&["validate", "d20.yaml", "other.yaml"]).exits(0).stderr();
    assert_eq!(folded.lines().filter(|line| line.contains("and 1 more: ")).count(), 3, "{folded}");
}

/// Ten thousand cells, each planned; filters narrow them; the resolved spec plans to the same run ids.
#[test]
fn a_large_grid_is_planned_filtered_and_resolved() {
    let project = Project::new();
    let values = |first: u64| (0..10).map(|n| format!("0.{:03}", first + n)).collect::<Vec<_>>().join(", ");
    let spec = format!(
        "schema: nanochat.experiment/v1\nname: grid\nhardware: cpu\ndata: {{ source: synthetic, bytes: 1000000 }}\n\
         tokenizer: {{ train: {{ vocab_size: 4096 }} }}\nbudget: {{ iterations: 20 }}\n\
         optimizer: {{ total_batch_size: 131072 }}\nmatrix:\n  axes:\n    model.depth: [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]\n    \
         optimizer.weight_decay: [{}]\n    optimizer.matrix_lr: [{}]\n    optimizer.embedding_lr: [{}]\n",
        values(100),
        values(10),
        values(200),
    );
    project.write("grid.yaml", &spec);
    let plan = |arguments: &[&str]| -> Vec<String> {
        let printed = project.run(&[&["plan"], arguments, &["--format", "json"]].concat()).exits(0).stdout();
        let set: Value = serde_json::from_str(&printed).unwrap();
        set["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = plan(&["grid.yaml"]);
    assert_eq!(all.len(), 10_000);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 10_000);
    let some = plan(&["grid.yaml", "--only", "depth=4", "--only", "matrix_lr=0.012", "--only", "matrix_lr=0.013"]);
    assert_eq!(some.len(), 200);
    let resolved = project.run(&["plan", "grid.yaml", "--resolved"]).exits(0).stdout();
    project.write("resolved.yaml", &resolved);
    assert_eq!(plan(&["resolved.yaml"]), all);
}
