//! Tables at 80 and 200 columns, and piped.

use super::program::{Project, root};

const WIDTHS: [Option<&str>; 3] = [Some("80"), Some("200"), None];

const GRID: &str = "\
schema: nanochat.experiment/v1
name: grid
hardware: { profile: cpu, peak_tflops: 0.1, efficiency: 0.5 }
data: { source: synthetic, bytes: 1000000 }
tokenizer: { train: { vocab_size: 1024 } }
model: { depth: 4, aspect_ratio: 32, head_dim: 32, sequence_len: 256, window_pattern: L }
budget: { iterations: 200 }
optimizer: { total_batch_size: 2048 }
eval: { every: 50, tokens: 65536 }
matrix: { axes: { optimizer.matrix_lr: [0.2, 0.3] } }
";

/// What a command prints at each width, under a heading.
fn shown(project: &Project, arguments: &[&str]) -> String {
    let mut text = String::new();
    for width in WIDTHS {
        let mut command = project.command(arguments);
        match width {
            Some(width) => command.env("COLUMNS", width),
            None => command.env_remove("COLUMNS"),
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        if let Some(width) = width {
            let table = printed.lines().filter(|line| line.starts_with(' '));
            let longest = table.map(|line| line.trim_end().chars().count()).max().unwrap_or_default();
            assert!(longest <= width.parse().unwrap(), "{width}: {longest}\n{printed}");
        }
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        text.push_str(&format!("== {}\n{}\n", width.unwrap_or("piped"), lines.join("\n")));
    }
    text
}

#[test]
fn plans_fit_the_width() {
    let project = Project::new();
    project.write("grid.yaml", GRID);
    insta::assert_snapshot!("plan", shown(&project, &["plan", "grid.yaml"]));
}

#[test]
fn lists_fit_the_width() {
    let fixtures = root().join("fixtures/scorecard/project");
    let project = Project::new();
    let place = fixtures.display().to_string();
    insta::assert_snapshot!("list", shown(&project, &["list", "--project", &place]));
    insta::assert_snapshot!("list_runs", shown(&project, &["list", "judged", "--project", &place]));
}

/// What is the machine's or the build's in a text, replaced: numbers, and with them how wide columns are.
fn without_numbers(text: &str) -> String {
    let word = |word: &str| match word.chars().any(|c| c.is_ascii_digit()) && !word.contains("lr") {
        true => "#".to_owned(),
        false => word.to_owned(),
    };
    let line = |line: &str| match line.starts_with("==") {
        true => line.to_owned(),
        false => line.split(' ').filter(|part| !part.is_empty()).map(word).collect::<Vec<_>>().join(" "),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What a run prints at its end: the answer, the runs, the cells, the verdicts.
#[test]
fn answers_fit_the_width() {
    let project = Project::new();
    let spec = GRID.replace("iterations: 200", "iterations: 6").replace("depth: 4", "depth: 2");
    let spec = spec.replace("every: 50, tokens: 65536", "every: 3, tokens: 2048");
    // Rates so far apart that the answer is the same on every machine.
    let spec = spec.replace("optimizer.matrix_lr: [0.2, 0.3]", "optimizer.unembedding_lr: [0.0001, 0.01]")
        + "seeds: [42, 43]\n\
           ruleset: v2\n\
           baseline: { commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd, cell: { optimizer.unembedding_lr: 0.0001 } }\n\
           quality: { metric: val_bpb, claim: better }\n";
    project.write("grid.yaml", &spec);
    let arguments = ["run", "grid.yaml", "--allow-hardware-mismatch"];
    project.run(&arguments).exits(0);
    insta::assert_snapshot!("run", without_numbers(&shown(&project, &arguments)));
}

/// The recorded experiment in `before`, and in `after` the same one whose runs have other figures.
fn two_sides() -> Project {
    let project = Project::new();
    let fixtures = root().join("fixtures/scorecard/project/results/judged");
    for side in ["before", "after"] {
        for entry in std::fs::read_dir(&fixtures).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            for file in std::fs::read_dir(entry.path()).unwrap().flatten() {
                let name = format!("{side}/results/judged/{}/", entry.file_name().to_string_lossy());
                std::fs::create_dir_all(project.path().join(&name)).unwrap();
                let target = project.path().join(name).join(file.file_name());
                match std::fs::read_to_string(file.path()).ok().filter(|_| side == "after") {
                    Some(text) => {
                        // Other figures are those of other weights.
                        let text = text.replace("\"final_val_bpb\": ", "\"final_val_bpb\": 1");
                        std::fs::write(target, text.replace(" \"weights_sha256\": \"", " \"weights_sha256\": \"f"))
                    }
                    None => std::fs::copy(file.path(), target).map(|_| ()),
                }
                .unwrap();
            }
        }
        let record = std::fs::read_to_string(fixtures.join("experiment.json")).unwrap();
        project.write(&format!("{side}/results/judged/experiment.json"), &record);
    }
    project
}

#[test]
fn comparisons_fit_the_width() {
    insta::assert_snapshot!("compare", shown(&two_sides(), &["compare", "before", "after"]));
}

/// On a terminal the verdicts of a comparison have colours, in a pipe they have none.
#[cfg(unix)]
#[test]
fn comparisons_have_colours_on_a_terminal_alone() {
    let project = two_sides();
    let piped = |project: &Project| project.command(&["compare", "before", "after"]).env_remove("NO_COLOR").output();
    let piped = String::from_utf8_lossy(&piped(&project).unwrap().stdout).into_owned();
    assert!(piped.contains(" fail ") && !piped.contains('\u{1b}'), "{piped}");
    // `script` gives a command a terminal.
    let line = format!("'{}' compare before after", project.command(&[]).get_program().to_string_lossy());
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(project.path()).env_remove("NO_COLOR").env("TERM", "xterm");
    match script.output() {
        Ok(ran) => {
            let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(shown.contains("\u{1b}[31mfail\u{1b}[0m"), "{shown}");
        }
        Err(error) => println!("the half on a terminal is left out, since `script` can't be started: {error}"),
    }
}

/// What `doctor` prints is this machine's: its width alone is the same everywhere, and that a pipe gets no colours.
#[test]
fn doctor_fits_the_width() {
    let project = Project::new();
    for width in WIDTHS {
        let mut command = project.command(&["doctor", "--no-measure"]);
        match width {
            Some(width) => command.env("COLUMNS", width),
            None => command.env_remove("COLUMNS"),
        };
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let most = width.map_or(usize::MAX, |width| width.parse().unwrap());
        let long: Vec<&str> = printed.lines().filter(|line| line.trim_end().chars().count() > most).collect();
        assert!(long.is_empty() && printed.contains("processor") && !printed.contains('\u{1b}'), "{long:#?}");
    }
}

#[test]
fn names_that_are_nearly_right_are_proposed() {
    let project = Project::new();
    let place = root().join("fixtures/scorecard/project").display().to_string();
    for command in [&["report", "juged"][..], &["list", "juged"], &["metrics", "juged", "--to", "csv"]] {
        let refused = project.run(&[command, &["--project", &place]].concat()).exits(2);
        assert!(refused.told().contains("did you mean `judged`?"), "{command:?}: {}", refused.stderr());
    }
}
