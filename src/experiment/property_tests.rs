//! Whatever bytes a spec is made of, there is a plan or an error, which can be shown.

use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Experiment, LoadOptions, load_bytes};
use crate::config::SpecErrors;
use crate::expand;

/// Specs of the project and broken ones, to start mutations from.
fn seeds() -> Vec<String> {
    super::tests::enter_project();
    let folders = ["experiments", "experiments/hardware", "fixtures/specs/broken", "fixtures/specs/found"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let mut paths: Vec<_> =
        files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()).collect();
    paths.sort();
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter(|text| text.len() < 1 << 14).collect()
}

/// Loads, and does with the outcome what the program would: shows every problem, or plans every run.
fn take(bytes: &[u8]) -> Result<Experiment, SpecErrors> {
    let loaded = load_bytes(Path::new("fixtures/specs/broken/any.yaml"), bytes, &LoadOptions::default());
    match &loaded {
        Err(errors) => {
            assert!(!errors.diagnostics.is_empty());
            let mut text = String::new();
            let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(110);
            handler.render_report(&mut text, errors).unwrap();
            assert!(text.len() < 1 << 20, "{} bytes of message for {} of spec", text.len(), bytes.len());
            for place in errors.diagnostics.iter().filter_map(|found| found.place.as_ref()) {
                let (line, column) = place.line_column();
                assert!(line >= 1 && column >= 1);
            }
        }
        Ok(experiment) => {
            // Planning a large matrix is a matter of time alone.
            if experiment.cells.len() <= 64 {
                let plans = expand(experiment).unwrap();
                assert!(!plans.is_empty());
                let resolved = experiment.resolved_yaml();
                let again = load_bytes(&experiment.path, resolved.as_bytes(), &LoadOptions::default());
                let again = expand(&again.unwrap_or_else(|errors| panic!("{errors}\n{resolved}"))).unwrap();
                let hashes = |plans: &[nanochat_plan::RunPlan]| -> Vec<String> {
                    plans.iter().map(|plan| plan.plan_hash.clone()).collect()
                };
                assert_eq!(hashes(&again), hashes(&plans), "{resolved}");
            }
            assert!(!experiment.explain().is_empty());
        }
    }
    loaded
}

/// Pieces that YAML gives a meaning, and words that specs do.
const PIECES: [&str; 48] = [
    "&a ",
    "*a",
    "<<: *a\n",
    "<<: [*a, *a]\n",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "? ",
    "| \n",
    ">-\n",
    "'",
    "\"",
    "#",
    "!!str ",
    "!t ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "~",
    "null",
    ".inf",
    "-0",
    "0x1f",
    "1e400",
    "1_000",
    "\u{feff}",
    "\u{85}",
    "é",
    "\u{1f600}",
    "\0",
    "model",
    "depth",
    "matrix:\n  axes: ",
    "seeds: [1, 2]\n",
    "zip: [",
    "exclude: [",
    "include: [",
    "extends: any.yaml\n",
    "hardware: cpu-smoke\n",
    "18446744073709551615",
    "-1",
    "budget: {tokens: 1e30}\n",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, &'static str),
    Delete(Index, usize),
    Repeat(Index, usize, usize),
    Byte(Index, u8),
    Swap(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), select(PIECES.to_vec())).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (place(), 1..40usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        1 => (place(), 1..60usize, 2..40usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        2 => (place(), place()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let length = bytes.len() + 1;
    match edit {
        Edit::Insert(at, piece) => {
            let at = at.index(length);
            bytes.splice(at..at, piece.bytes());
        }
        Edit::Delete(at, count) => {
            let at = at.index(length);
            bytes.drain(at..(at + count).min(bytes.len()));
        }
        Edit::Repeat(at, count, times) => {
            let at = at.index(length);
            let part = bytes[at..(at + count).min(bytes.len())].repeat(*times);
            bytes.splice(at..at, part);
        }
        Edit::Byte(at, byte) => {
            if let Some(place) = bytes.get_mut(at.index(length)) {
                *place = *byte;
            }
        }
        Edit::Swap(a, b) => {
            let mut lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            *bytes = lines.join(&b'\n');
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = take(&bytes);
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(select(PIECES.to_vec()), 0..60)) {
        let _ = take(pieces.concat().as_bytes());
    }

    /// A few edits keep most of a spec whole, so that what follows the parser is reached too.
    #[test]
    fn mutations_of_real_specs(seed in any::<Index>(), edits in prop::collection::vec(edit(), 1..6)) {
        let seeds = seeds();
        let mut bytes = seed.get(&seeds).clone().into_bytes();
        edits.iter().for_each(|edit| apply(&mut bytes, edit));
        let _ = take(&bytes);
    }

    /// Values of every size at every key.
    #[test]
    fn mutations_of_numbers(seed in any::<Index>(), which in any::<Index>(), value in number()) {
        let sound: Vec<String> = seeds().into_iter().filter(|seed| take(seed.as_bytes()).is_ok()).collect();
        let text = seed.get(&sound);
        let numbers: Vec<(usize, &str)> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
        let (at, _) = which.get(&numbers);
        let length = text[*at..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - at);
        let _ = take(format!("{}{value}{}", &text[..*at], &text[at + length..]).as_bytes());
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| format!("{value:e}")),
        (0..64u32).prop_map(|bits| (1u64 << bits).to_string()),
        any::<u128>().prop_map(|value| value.to_string()),
        (0..2_000i32).prop_map(|value| value.to_string()),
    ]
}

/// Anchors within anchors, each of which the next repeats, in all the ways there are to write them.
#[test]
fn alias_bombs() {
    let levels = 2..40;
    for (open, close, item) in [("[", "]", "*a"), ("{ k: ", "}", "*a"), ("[[", "]]", "*a"), ("[x, ", "]", "*a")] {
        for levels in levels.clone().step_by(6) {
            let mut text = "schema: nanochat.experiment/v1\na0: &a0 [lol, lol, lol, lol]\n".to_owned();
            for level in 1..levels {
                let items = vec![item.replace('a', &format!("a{}", level - 1)); 9];
                let items = if open.starts_with('{') { items[0].clone() } else { items.join(", ") };
                text.push_str(&format!("a{level}: &a{level} {open}{items}{close}\n"));
            }
            assert!(take(text.as_bytes()).is_err());
        }
    }
    let merges = |times: usize| {
        let mut text = "m0: &m0 { a: 1, b: 2 }\n".to_owned();
        (1..times).for_each(|level| {
            text.push_str(&format!("m{level}: &m{level} {{ <<: [*m{0}, *m{0}], k{level}: 1 }}\n", level - 1))
        });
        text
    };
    for times in [3, 30, 300, 3_000] {
        assert!(take(merges(times).as_bytes()).is_err());
    }
}

/// A long text repeated by aliases: few values, but much memory.
#[test]
fn aliases_of_long_texts() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(35_000));
    let errors = take(text.as_bytes()).unwrap_err();
    assert!(errors.to_string().contains("aliases"), "{errors}");
}

/// As much of one thing as a file may hold.
#[test]
fn masses() {
    let spec = "schema: nanochat.experiment/v1\nname: case\n";
    let pieces = [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "a: {",
        "- - ",
        "&a ",
        "*a ",
        "!a ",
        "'",
        "\"",
        "\"\\u0041",
        "#",
        "\n",
        "\t",
        " ",
        ",",
        "|\n",
        "x",
        "é",
        "x: 1\n",
        "- 1\n",
        "a: &a\n",
        "<<: {a: 1}\n",
        "---\n",
        "%",
        "1,",
        "\u{feff}",
        "{a: [",
        "\r",
    ];
    for piece in pieces {
        let text = piece.repeat((1 << 17) / piece.len());
        for head in [
            "",
            spec,
            "schema: nanochat.experiment/v1\nseeds: [",
            "matrix: {axes: {model.depth: [",
            "matrix: {exclude: [",
        ] {
            let _ = take(format!("{head}{text}").as_bytes());
        }
    }
    for unit in ["{model.depth: 2}, ", "{model.depth: 99999}, ", "{a: 1}, "] {
        for list in ["exclude", "include", "zip"] {
            let many = unit.repeat(200_000 / unit.len());
            let _ = take(format!("{spec}matrix: {{axes: {{model.depth: [2, 4]}}, {list}: [{many}]}}\n").as_bytes());
        }
    }
}

/// The largest matrix with as many exclusions and inclusions as a file may hold.
#[test]
fn a_large_matrix_with_long_lists() {
    let numbers =
        |count: usize, scale: f64| (1..=count).map(|n| format!("{}", n as f64 * scale)).collect::<Vec<_>>().join(", ");
    let pairs = |list: &mut dyn Iterator<Item = (usize, usize)>| {
        list.map(|(a, b)| {
            format!("{{optimizer.matrix_lr: {}, optimizer.scalar_lr: {}}}", a as f64 * 0.001, b as f64 * 0.01)
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    let excluded = pairs(&mut (1..=1_000).map(|n| (n % 200 + 1, n / 200 + 1)));
    let included = pairs(&mut (1..=1_000).map(|n| (n % 200 + 1, n / 200 + 200)));
    let text = format!(
        "schema: nanochat.experiment/v1\nname: case\nhardware: cpu\ndata: {{ source: synthetic, bytes: 100000 }}\n\
         tokenizer: {{ train: {{ vocab_size: 512 }} }}\nmodel: {{ depth: 2 }}\nbudget: {{ iterations: 5 }}\n\
         optimizer: {{ total_batch_size: 16384 }}\nmatrix:\n  axes: {{ optimizer.matrix_lr: [{}], optimizer.scalar_lr: [{}] }}\n  \
         exclude: [{excluded}]\n  include: [{included}]\n",
        numbers(200, 0.001),
        numbers(100, 0.01),
    );
    let experiment = take(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(experiment.cells.len(), 200 * 100);
}

/// Anchors and merge keys mean what YAML says they do.
#[test]
fn anchors_and_merge_keys_plan() {
    let text = "schema: nanochat.experiment/v1
name: case
hardware: cpu
data: { source: synthetic, bytes: 100000 }
tokenizer: { train: { vocab_size: 512 } }
model: &small { depth: 2, head_dim: 64 }
budget: { iterations: &steps 5 }
optimizer: { total_batch_size: 16384, warmup_steps: *steps }
matrix:
  include:
    - { model: *small }
    - { model: { <<: *small, depth: 4 } }
";
    let experiment = take(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let plans = expand(&experiment).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.optimizer.warmup_steps).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(plans.iter().map(|plan| plan.model.n_layer).collect::<Vec<_>>(), [2, 4]);
}
