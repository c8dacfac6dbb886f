//! Every code block of README and CONTRIBUTING: commands run, or are on the list of those that a test can't run, each with
//! the reason; specs validate.

use super::program::{Project, root};

/// Beginnings of commands that no test runs, and why.
const NOT_RUN: [(&str, &str); 18] = [
    ("cargo install", "builds the program again, for minutes"),
    ("cargo build", "builds the program again, for minutes"),
    ("cargo test", "this is it"),
    ("cargo fmt", "`.ci/run` does"),
    ("cargo clippy", "`.ci/run` does"),
    ("cargo run --release -- run experiments/quickstart.yaml", "trains for minutes; `.ci/run` does"),
    ("cargo run --release -- run experiments/books.yaml", "needs a folder of shards"),
    ("bash .ci/run", "runs these tests"),
    ("pip install", "network"),
    ("maturin build", "builds the program again, for minutes"),
    ("cuda/build", "builds for CUDA, for minutes"),
    ("alias ", "GPU"),
    ("nanochat data download", "network, gigabytes"),
    ("nanochat tokenizer train --data climbmix", "needs the downloaded data"),
    ("nanochat run experiments/d12-matched.yaml", "GPU"),
    ("nanochat arm", "needs a checkout of karpathy/nanochat and PyTorch; `arms` tests it with a stand-in"),
    ("nanochat watch EXPERIMENT", "goes on until it is stopped; `serve` and `parts` test what it shows"),
    ("nanochat run SPEC", "needs a checkout of karpathy/nanochat and PyTorch; `arms` tests it with a stand-in"),
];

/// What keeps a run of the documents within seconds.
const SHORT: [&str; 6] = ["--set", "budget.iterations=12", "--set", "eval.every=6", "--set", "eval.tokens=4096"];

struct Block {
    place: String,
    kind: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(kind), None) => {
                    let place = format!("{document}:{}", number + 1);
                    open = Some(Block { place, kind: kind.trim().to_owned(), lines: Vec::new() });
                }
                (None, Some(block)) => block.lines.push(line.to_owned()),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{document}: a code block has no end");
    }
    blocks
}

/// The commands of a block of shell, without comments.
fn commands(block: &Block) -> Vec<String> {
    let lines = block.lines.iter().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let parts = lines.flat_map(|line| line.split(" && ")).map(str::trim);
    parts.filter(|command| !command.is_empty() && !command.starts_with('#')).map(str::to_owned).collect()
}

/// Words of a command, quotes removed.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn git(project: &Project, arguments: &[&str]) {
    let identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let ran = std::process::Command::new("git").current_dir(project.path()).args(identity).args(arguments).output();
    let ran = ran.expect("git starts");
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// One project carries out the documents from top to bottom, as a reader would.
#[test]
fn commands_of_the_documents_run_or_have_a_reason_not_to() {
    let project = Project::new();
    git(&project, &["init", "-q"]);
    git(&project, &["commit", "-q", "--allow-empty", "-m", "Begin"]);
    let mut used = std::collections::BTreeSet::new();
    let mut ran = 0;
    for block in blocks() {
        match block.kind.as_str() {
            "sh" => {}
            "yaml" | "text" => continue,
            other => panic!("{}: a block is `sh`, `yaml` or `text`, not `{other}`", block.place),
        }
        for command in commands(&block) {
            if let Some((beginning, _)) = NOT_RUN.iter().find(|(beginning, _)| command.starts_with(beginning)) {
                used.insert(*beginning);
                continue;
            }
            let words = words(&command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.split_first() {
                Some((&"git", arguments)) => git(&project, arguments),
                Some((&"nanochat", arguments)) => {
                    let short: &[&str] = if arguments[0] == "run" { &SHORT } else { &[] };
                    let result = project.run(&[arguments, short].concat());
                    assert_eq!(
                        result.code(),
                        0,
                        "{}: `{command}`:\n{}{}",
                        block.place,
                        result.stdout(),
                        result.stderr()
                    );
                }
                _ => panic!("{}: no test runs `{command}`, and no reason says why", block.place),
            }
            ran += 1;
        }
    }
    assert!(ran >= 5, "only {ran} commands were run");
    let unused: Vec<&str> = NOT_RUN.iter().map(|(beginning, _)| *beginning).filter(|one| !used.contains(one)).collect();
    assert!(unused.is_empty(), "reasons for commands that no document has: {unused:?}");
}

/// What the documents show as a spec is one, or a part of one.
#[test]
fn specs_of_the_documents_are_sound() {
    let project = Project::new();
    // Kubernetes and GitHub have YAML of their own.
    let is_spec =
        |block: &Block| block.lines.iter().all(|line| !line.starts_with("apiVersion:") && !line.starts_with("jobs:"));
    let specs: Vec<Block> = blocks().into_iter().filter(|block| block.kind == "yaml" && is_spec(block)).collect();
    assert!(specs.len() >= 2);
    for (number, block) in specs.iter().enumerate() {
        let mut text = block.lines.join("\n") + "\n";
        if !text.contains("schema: nanochat.experiment/v1") {
            // A part of a spec: what it leaves out comes from elsewhere.
            text.push_str(
                "schema: nanochat.experiment/v1\nname: part\nhardware: cpu\ndata: { source: parquet, path: data }\n\
                 tokenizer: { train: { vocab_size: 4096 } }\nmodel: { depth: 4 }\nbudget: { iterations: 60 }\n",
            );
        }
        let file = format!("documented-{number}.yaml");
        project.write(&file, &text);
        project.run(&["validate", &file]).exits(0);
    }
}

/// Every row of the table of speeds has the figures of the scorecard that it links.
#[test]
fn speeds_of_the_readme_are_recorded() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut checked = 0;
    for row in text.lines().filter(|line| line.starts_with("| d") && line.contains("/scorecard.json)")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let path = columns[5].split(['(', ')']).nth(1).expect("a link");
        let card: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(root().join(path)).unwrap()).unwrap();
        let precision = if columns[1].ends_with("bf16") { "bf16" } else { "f32" };
        let cells = card["cells"].as_array().unwrap();
        let label = |cell: &&serde_json::Value| {
            cell["label"].as_str().is_some_and(|label| label.ends_with(&format!("={precision}")))
        };
        let cell = cells.iter().find(label).unwrap_or(&cells[0]);
        let of_precision = |variant: &&serde_json::Value| {
            variant["variant"].as_str().is_some_and(|name| name.starts_with(&format!("{precision}-")))
        };
        let variant = cell["speed_variants"].as_array().unwrap().iter().find(of_precision).expect("a variant");
        let figure = |name: &str| variant["judgement"][name].as_f64().expect("a figure");
        let number = |column: &str| column.replace(',', "").parse::<f64>().expect("a number");
        assert_eq!(number(columns[2]), figure("candidate").round(), "{row}");
        assert_eq!(number(columns[3]), figure("baseline").round(), "{row}");
        assert!((number(columns[4]) - figure("ratio")).abs() <= 0.000_5, "{row}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}
