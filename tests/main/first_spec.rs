//! `init`: a first spec that validates, is never overwritten, and that `run` brings to a verdict.

use serde_json::Value;

use super::program::{Project, root};

const ABLATION: [&str; 3] = ["init", "--compare", "optimizer.matrix_lr=0.2,0.3"];

fn runs(project: &Project, spec: &str) -> Vec<Value> {
    let printed = project.run(&["plan", spec, "--format", "json"]).exits(0).stdout();
    let mut set: Value = serde_json::from_str(&printed).unwrap();
    let Value::Array(runs) = set["runs"].take() else { panic!("{printed}") };
    runs
}

/// Some thousand documents of made-up words in two files.
fn text_folder(project: &Project) {
    let word = |number: u64| {
        let mut rest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        std::iter::repeat_with(|| {
            let syllable = ["ba", "ce", "di", "fo", "gu", "lan", "mer", "nis", "tor", "pul"][(rest % 10) as usize];
            rest /= 10;
            syllable
        })
        .take(2 + (number % 3) as usize)
        .collect::<String>()
    };
    let document = |number: u64| {
        let words: Vec<String> = (0..12).map(|place| word(number * 7 + place * number % 400)).collect();
        format!("{}.\n\n", words.join(" "))
    };
    for (file, count) in [("a.txt", 4000), ("b.txt", 1500)] {
        project.write(&format!("texts/{file}"), &(0..count).map(document).collect::<String>());
    }
}

#[test]
fn a_first_spec_on_a_folder_of_text_ends_in_a_verdict() {
    let project = Project::new();
    text_folder(&project);
    let written = project.run(&[&ABLATION[..], &["--data", "texts", "--time", "40s"]].concat()).exits(0);
    assert!(written.stdout().contains("nanochat run experiments/matrix-lr.yaml"), "{}", written.stdout());
    project.run(&["validate", "experiments/matrix-lr.yaml"]).exits(0);
    let spec = std::fs::read_to_string(project.path().join("experiments/matrix-lr.yaml")).unwrap();
    assert!(spec.starts_with("# yaml-language-server: $schema=../schemas/experiment.schema.json\n"), "{spec}");
    assert!(spec.contains("source: text, path: texts"), "{spec}");
    let schema = std::fs::read_to_string(project.path().join("schemas/experiment.schema.json")).unwrap();
    let committed = root().join("schemas/experiment.schema.json");
    assert_eq!(schema, std::fs::read_to_string(committed).unwrap());
    let ignored = std::fs::read_to_string(project.path().join(".gitignore")).unwrap();
    assert!(ignored.contains("/results/*/*/checkpoints/"), "{ignored}");
    let planned = runs(&project, "experiments/matrix-lr.yaml");
    assert_eq!(planned.len(), 8, "two cells, three seeds, a repeat of each cell's first");

    // The arithmetic of the time is tested elsewhere; here a few steps do.
    let short = ["run", "experiments/matrix-lr.yaml", "--set", "budget.iterations=20", "--set", "eval.every=10"];
    project.run(&short).exits(0);
    let scorecard = std::fs::read_to_string(project.path().join("results/matrix-lr/scorecard.json")).unwrap();
    let scorecard: Value = serde_json::from_str(&scorecard).unwrap();
    let verdict = scorecard["quality"]["verdict"].as_str().unwrap();
    assert!(["pass", "fail", "inconclusive"].contains(&verdict), "{scorecard:#}");
    assert_eq!(scorecard["reproducibility"]["verdict"], "pass", "{scorecard:#}");
}

#[test]
fn every_template_makes_a_valid_spec() {
    let project = Project::new();
    let quick = ["--data", "synthetic", "--time", "5m"];
    let commit = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";
    let control = format!("control={commit}");
    let cases: [(&str, &[&str], usize); 3] = [
        ("sweep", &["--compare", "optimizer.matrix_lr=0.2,0.3", "--compare", "optimizer.warmdown_ratio=0.4,0.65"], 16),
        ("scaling", &[], 12),
        ("arms", &["--compare", "this=native", "--compare", &control], 0),
    ];
    for (template, compared, expected) in cases {
        let file = format!("experiments/{template}-of-mine.yaml");
        let arguments = [&["init", &file, "--template", template], compared, &quick].concat();
        if template == "arms" {
            let refused = project.run(&arguments).exits(2);
            assert!(refused.told().contains("reads folders of parquet shards"), "{}", refused.stderr());
            continue;
        }
        project.run(&arguments).exits(0);
        project.run(&["validate", &file]).exits(0);
        assert_eq!(runs(&project, &file).len(), expected, "{template}");
    }
}

/// Two commits of a checkout: the spec names both, and is planned; `arms` carries such specs out.
#[test]
fn arms_become_a_spec_of_two_commits() {
    let project = Project::new();
    project.run(&["data", "synthesize", "--bytes", "3000000", "--as", "parquet", "--out", "shards"]).exits(0);
    let (control, candidate) = ("92d63d4e8bb4df75c3b71618f31ddde2378b2bcd", "f53b864415d5d5554684cb5b2fc6f948d60aafff");
    let (first, second) = (format!("control={control}"), format!("candidate={candidate}"));
    let compared = ["init", "--template", "arms", "--compare", &first, "--compare", &second];
    let written = project.run(&[&compared[..], &["--data", "shards", "--time", "10m"]].concat()).exits(0);
    let next = written.stdout();
    assert!(next.contains("--checkout control=FOLDER --checkout candidate=FOLDER"), "{next}");
    let spec =
        next.lines().find_map(|line| line.strip_prefix("wrote ")?.split_once(": ")).expect("a spec").0.to_owned();
    project.run(&["validate", &spec]).exits(0);
    let planned = runs(&project, &spec);
    let commits: std::collections::BTreeSet<&str> = planned
        .iter()
        .filter_map(|run| run["arm"]["engine"]["commit"].as_str().or(run["arm"]["commit"].as_str()))
        .collect();
    assert_eq!(commits, [control, candidate].into(), "{:#}", planned[0]);
}

#[test]
fn nothing_is_overwritten_and_what_cannot_be_is_said() {
    let project = Project::new();
    let data = ["--data", "synthetic", "--time", "1m"];
    let mine = project.write("experiments/matrix-lr.yaml", "mine\n");
    let refused = project.run(&[&ABLATION[..], &data].concat()).exits(2);
    assert!(refused.told().contains("is there already"), "{}", refused.stderr());
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine\n");

    for (arguments, expected) in [
        (
            &["init", "a.yaml", "--compare", "optimizer.matrix_lr=0.2,0.3", "--data", "synthetic", "--time", "10s"][..],
            "don't fit into 10 s",
        ),
        (
            &["init", "a.yaml", "--compare", "optimizer.matrix_lr=0.2", "--data", "synthetic", "--time", "1m"],
            "nothing to compare",
        ),
        (
            &["init", "a.yaml", "--compare", "optimizer.matrx_lr=1,2", "--data", "synthetic", "--time", "5m"],
            "did you mean `matrix_lr`",
        ),
        (
            &["init", "a.yaml", "--compare", "optimizer.matrix_lr=0.2,0.3", "--data", "nowhere", "--time", "1m"],
            "nowhere",
        ),
        (
            &["init", "a b.yaml", "--compare", "optimizer.matrix_lr=0.2,0.3", "--data", "synthetic", "--time", "1m"],
            "can't be called `a b`",
        ),
        (&["init", "a.yaml", "--data", "synthetic", "--time", "1m"], "--compare"),
        (&["init", "a.yaml", "--compare", "", "--data", "synthetic", "--time", "1m"], "nothing is compared"),
        (
            &[
                "init",
                "a.yaml",
                "--template",
                "arms",
                "--compare",
                "mine=native",
                "--data",
                "synthetic",
                "--time",
                "1m",
            ],
            "can't compare `mine=native`: arms need at least two names",
        ),
        (
            &["init", "a.yaml", "--compare", "optimizer.matrix_lr=0.2,0.3", "--data", "synthetic", "--time", "soon"],
            "is no time",
        ),
        (
            &[
                "init",
                "a.yaml",
                "--compare",
                "optimizer.matrix_lr=0.2,0.3",
                "--data",
                "synthetic",
                "--time",
                "1m",
                "--difference",
                "0.00001",
            ],
            "no 32 seeds",
        ),
    ] {
        let refused = project.run(arguments).exits(2);
        assert!(refused.told().contains(expected), "{arguments:?}: {}", refused.stderr());
    }
    assert!(!project.path().join("a.yaml").exists());
}
