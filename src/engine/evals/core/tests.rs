//! CORE's prompts, positions, refusals, and the agreement of its two ways of computing.

use std::fs;
use std::path::Path;

use candle_core::Device;
use nanochat_plan::OnCoreError;
use proptest::prelude::*;

use super::examples::{Posed, pose};
use super::prompts::render;
use super::score::{Judged, is_right};
use super::*;
use crate::evals::EvalError;
use crate::model::Gpt;
use crate::model::testing::{random_model, shape};
use crate::tokenizer::Tokenizer;

/// One token a byte, and the special ones.
fn byte_tokenizer() -> Tokenizer {
    Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect()).unwrap()
}

fn small_model(tokenizer: &Tokenizer) -> Gpt {
    random_model(&shape(16, tokenizer.vocab_size(), 3, (4, 2), 32, "SSL"), 7)
}

fn task(kind: TaskKind, shots: usize, delimiter: &str, items: Vec<Item>) -> Task {
    Task { label: "t".into(), kind, shots, delimiter: delimiter.into(), random_baseline: 25.0, items }
}

fn choice(query: &str, choices: &[&str], gold: usize) -> Item {
    Item::MultipleChoice { query: query.into(), choices: choices.iter().map(|text| text.to_string()).collect(), gold }
}

fn schema(contexts: &[&str], continuation: &str, gold: usize) -> Item {
    let context_options = contexts.iter().map(|text| text.to_string()).collect();
    Item::Schema { context_options, continuation: continuation.into(), gold }
}

fn language(context: &str, continuation: &str) -> Item {
    Item::LanguageModeling { context: context.into(), continuation: continuation.into() }
}

/// What the baseline's templates give, blank for blank.
#[test]
fn prompts_are_rendered_as_the_templates_render_them() {
    let (question, shown) = (choice(" Q? ", &["a", " b"], 1), choice("E?", &["x", "y"], 1));
    let mc = task(TaskKind::MultipleChoice, 1, "\nA: ", vec![]);
    assert_eq!(render(&mc, &question, &[&shown]), ["E?\nA: y\n\n Q? \nA: a", "E?\nA: y\n\n Q? \nA:  b"]);
    assert_eq!(render(&mc, &question, &[]), [" Q? \nA: a", " Q? \nA:  b"]);

    let (question, shown) = (schema(&["he", " she"], "ran.", 0), schema(&["it", "we"], "sat.", 1));
    let task_ = task(TaskKind::Schema, 1, " ", vec![]);
    assert_eq!(render(&task_, &question, &[&shown]), ["we sat.\n\nhe ran.", "we sat.\n\n she ran."]);

    let (question, shown) = (language(" \u{1c}one two\u{a0}\n", "three"), language(" a ", "b "));
    let lm = task(TaskKind::LanguageModeling, 1, " ", vec![]);
    assert_eq!(render(&lm, &question, &[&shown]), ["a b \n\none two", "a b \n\none two three"]);
    let lm = task(TaskKind::LanguageModeling, 0, "", vec![]);
    assert_eq!(render(&lm, &language("x ", " y"), &[]), ["x", "x y"]);
}

fn posed(task: &Task) -> Posed {
    pose(task, 0, &byte_tokenizer(), usize::MAX).unwrap()
}

/// Lengths and first judged positions; with one token a byte they can be counted by hand, <|bos|> in front.
#[test]
fn what_is_judged_begins_where_options_part_or_meet() {
    let places = |task: &Task| -> Vec<(usize, usize)> {
        posed(task).sequences.iter().map(|sequence| (sequence.tokens.len(), sequence.start)).collect()
    };
    let mc = |choices: &[&str]| task(TaskKind::MultipleChoice, 0, " ", vec![choice("Q", choices, 0)]);
    assert_eq!(places(&mc(&["ab", "acd"])), [(5, 4), (6, 4)]);
    assert_eq!(places(&mc(&["ab", "abc"])), [(5, 5), (6, 5)], "one option is the beginning of the other");
    let schemas = |contexts: &[&str]| task(TaskKind::Schema, 0, " ", vec![schema(contexts, "end", 0)]);
    assert_eq!(places(&schemas(&["ab", "c"])), [(7, 3), (6, 2)]);
    assert_eq!(places(&schemas(&["xab", "ab"])), [(8, 2), (7, 1)], "they meet within the contexts");
    let lm = task(TaskKind::LanguageModeling, 0, " ", vec![language("ab", "cd")]);
    assert_eq!(places(&lm), [(6, 3)], "the blank belongs to the continuation");
}

#[test]
fn a_continuation_that_tokens_cannot_part_is_refused_by_name() {
    let lm = task(TaskKind::LanguageModeling, 0, "", vec![language("ab", "")]);
    let error = pose(&lm, 0, &byte_tokenizer(), usize::MAX).unwrap_err().to_string();
    assert!(error.starts_with("task `t`, example 0 in evaluation order: in tokens, the prompt"), "{error}");
}

/// Known failure 3 of the baseline: a prompt past the rotary table trips an assertion. Here the table grows; only past
/// a stated limit is the prompt cut, on the left, and the cut counted.
#[test]
fn known_failure_3_long_prompts_are_computed_in_full_up_to_the_limit_and_cut_beyond() {
    let tokenizer = byte_tokenizer();
    let model = small_model(&tokenizer);
    let query = "far more than ten times the context of sixteen tokens ".repeat(8);
    let mc = task(TaskKind::MultipleChoice, 0, " ", vec![choice(&query, &["yes", "no"], 0)]);
    let whole = posed(&mc);
    assert!(whole.sequences[0].tokens.len() > 400 && whole.cropped == 0);
    let bundle = Bundle { tasks: vec![mc.clone()], skipped: Vec::new() };
    let run = |max_prompt_tokens| {
        let options = CoreOptions { max_prompt_tokens, ..CoreOptions::default() };
        evaluate(&model, &tokenizer, &bundle, &options, &mut |_| {}, &|| false)
    };
    assert_eq!(run(1 << 20).unwrap().tasks[0].cropped_tokens, 0);
    let cut = pose(&mc, 0, &tokenizer, 50).unwrap();
    for (cut, whole) in cut.sequences.iter().zip(&whole.sequences) {
        assert_eq!(cut.tokens, whole.tokens[whole.tokens.len() - 50..]);
        assert_eq!(cut.tokens[cut.start..], whole.tokens[whole.start..], "what is judged stays");
    }
    let lengths: usize = whole.sequences.iter().map(|sequence| sequence.tokens.len() - 50).sum();
    assert_eq!((run(50).unwrap().tasks[0].cropped_tokens, cut.cropped), (lengths, lengths));
    assert!(matches!(run(3), Err(EvalError::Example { .. })), "no room for the answer and a token before it");
}

fn write_bundle(folder: &Path, yaml: &str, csv: &str, lines: &str) {
    fs::create_dir_all(folder.join("eval_data")).unwrap();
    fs::write(folder.join("core.yaml"), yaml).unwrap();
    fs::write(folder.join("eval_meta_data.csv"), csv).unwrap();
    fs::write(folder.join("eval_data/a.jsonl"), lines).unwrap();
}

const YAML: &str =
    "icl_tasks:\n-\n  label: birds\n  dataset_uri: a.jsonl\n  num_fewshot: [2]\n  icl_task_type: multiple_choice\n";
const CSV: &str = "Eval Task,Random baseline\nbirds,25\n";
const LINE: &str = "{\"query\": \"q\", \"choices\": [\"a\", 7], \"gold\": 1, \"more\": null}\n";

/// Known failure 6 of the baseline: a task with fewer examples than few-shots crashes the evaluation.
#[test]
fn known_failure_6_a_task_with_too_few_examples_is_named_before_any_is_run() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), YAML, CSV, &LINE.repeat(2));
    let error = Bundle::open(folder.path(), None, OnCoreError::Stop).unwrap_err().to_string();
    assert_eq!(error, "task `birds` wants 2 examples before each question, and has 2 examples in all");
    write_bundle(folder.path(), YAML, CSV, &LINE.repeat(5));
    assert_eq!(Bundle::open(folder.path(), None, OnCoreError::Stop).unwrap().tasks[0].items.len(), 5);
    assert!(matches!(
        Bundle::open(folder.path(), Some(2), OnCoreError::Stop),
        Err(EvalError::TooFewExamples { examples: 2, .. })
    ));
    let three = Bundle::open(folder.path(), Some(3), OnCoreError::Stop).unwrap();
    assert_eq!((three.tasks[0].items.len(), three.tasks[0].delimiter.as_str()), (3, " "));
}

/// A malformed line and an answer that is too long: errors, or left out, reported and counted.
#[test]
fn examples_that_cannot_be_evaluated_stop_the_evaluation_or_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = YAML.replace("multiple_choice", "language_modeling");
    let line = |continuation: &str| format!("{{\"context\": \"a b\", \"continuation\": \"{continuation}\"}}\n");
    let long = line(&"x".repeat(100));
    let lines =
        [line("c"), "{\"context\": 1".into(), "\n".into(), line("d"), long.clone(), line("e"), line("f")].concat();
    write_bundle(folder.path(), &yaml, CSV, &lines);
    let stopped = Bundle::open(folder.path(), None, OnCoreError::Stop).unwrap_err().to_string();
    assert!(stopped.contains("a.jsonl") && stopped.contains("line 2: "), "{stopped}");

    let mut bundle = Bundle::open(folder.path(), None, OnCoreError::Skip).unwrap();
    assert_eq!((bundle.tasks[0].items.len(), bundle.skipped.len()), (5, 1));
    let tokenizer = byte_tokenizer();
    let model = random_model(&shape(16, 265, 2, (2, 2), 64, "L"), 7);
    // An answer that leaves no context.
    let options = CoreOptions { max_prompt_tokens: 60, ..CoreOptions::default() };
    let refused = evaluate(&model, &tokenizer, &bundle, &options, &mut |_| {}, &|| false).unwrap_err();
    assert!(matches!(refused, EvalError::Example { .. }), "{refused}");

    let digest = bundle.sha256();
    bundle.skip_unposable(&tokenizer, options.max_prompt_tokens).unwrap();
    assert_eq!(bundle.sha256(), digest, "what is left out doesn't change what was asked");
    let words = bundle.skipped_in_words().unwrap();
    assert!(words.starts_with("2 examples of CORE were skipped") && words.contains("a.jsonl, line 2: "), "{words}");
    for method in [Method::PerExample, Method::Shared] {
        let options = CoreOptions { method, ..options.clone() };
        let result = evaluate(&model, &tokenizer, &bundle, &options, &mut |_| {}, &|| false).unwrap();
        assert_eq!(result.tasks[0].correct.len(), 4);
        assert!(result.core_metric.is_finite());
    }
    write_bundle(folder.path(), &yaml, CSV, &long.repeat(4));
    let mut empty = Bundle::open(folder.path(), None, OnCoreError::Skip).unwrap();
    let refused = empty.skip_unposable(&tokenizer, options.max_prompt_tokens);
    assert!(matches!(refused, Err(EvalError::TooFewExamples { examples: 0, .. })));
}

#[test]
fn broken_bundles_are_refused_with_file_and_line() {
    type Case<'a> = (&'a str, &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 14] = [
        ("icl_tasks: [", CSV, LINE, "core.yaml"),
        ("icl_tasks: []", CSV, LINE, "`icl_tasks` is empty"),
        ("tasks: []", CSV, LINE, "icl_tasks"),
        (&YAML.replace("multiple_choice", "dance"), CSV, LINE, "dance"),
        (&YAML.replace("[2]", "[]"), CSV, LINE, "`num_fewshot` is empty"),
        (&YAML.replace("a.jsonl", "../core.yaml"), CSV, LINE, "leaves the bundle"),
        (&YAML.replace("a.jsonl", "/etc/passwd"), CSV, LINE, "leaves the bundle"),
        (&YAML.replace("a.jsonl", "b.jsonl"), CSV, LINE, "b.jsonl"),
        (YAML, "Eval Task\nbirds\n", LINE, "no column `Random baseline`"),
        (YAML, "Eval Task,Random baseline\nbirds,many\n", LINE, "row 2: `many`"),
        (YAML, "Eval Task,Random baseline\nfish,25\n", LINE, "no row `birds`"),
        (YAML, CSV, &format!("{LINE}\n{{\"query\": 1"), "line 3: "),
        (YAML, CSV, &LINE.replace("\"gold\": 1", "\"gold\": 2"), "line 1: `gold` is no index of the 2 options"),
        (YAML, CSV, &LINE.replace("[\"a\", 7]", "[]"), "line 1: `choices` is no list with entries"),
    ];
    for (yaml, csv, lines, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        write_bundle(folder.path(), yaml, csv, lines);
        let error = Bundle::open(folder.path(), None, OnCoreError::Stop).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let missing = tempfile::tempdir().unwrap();
    assert!(Bundle::open(missing.path(), None, OnCoreError::Stop).unwrap_err().to_string().contains("core.yaml"));
}

/// Python's `min` over a list that begins with a NaN keeps the NaN; elsewhere a NaN never wins.
#[test]
fn the_cheapest_option_is_python_s() {
    let judged = |losses: &[f64]| -> Vec<Judged> {
        losses.iter().map(|&mean_loss| Judged { mean_loss, all_likeliest: true }).collect()
    };
    let posed = |gold| Posed { index: 0, sequences: vec![], gold: Some(gold), cropped: 0 };
    let cases: [(&[f64], usize); 5] =
        [(&[2.0, 1.0, 1.0], 1), (&[1.0, 1.0], 0), (&[f64::NAN, 1.0], 0), (&[3.0, f64::NAN, 2.0], 2), (&[5.0], 0)];
    for (losses, expected) in cases {
        assert!(is_right(&posed(expected), &judged(losses)), "{losses:?}");
        assert!(!is_right(&posed(expected + 1), &judged(losses)), "{losses:?}");
    }
    let wrong = Judged { mean_loss: 1.0, all_likeliest: false };
    let open = Posed { gold: None, ..posed(0) };
    assert!(is_right(&open, &judged(&[1.0])) && !is_right(&open, &[wrong]));
}

/// Options that are equal, down to the last token, have nothing to be judged by; the baseline takes the first.
#[test]
fn equal_options_do_not_break_an_evaluation() {
    let tokenizer = byte_tokenizer();
    let model = small_model(&tokenizer);
    let tasks = vec![
        task(TaskKind::MultipleChoice, 0, " ", vec![choice("q", &["same", "same"], 0), choice("q", &["b", "b"], 1)]),
        task(TaskKind::Schema, 0, " ", vec![schema(&["one", "one"], "end", 0), schema(&["x"], "end", 0)]),
    ];
    for method in [Method::PerExample, Method::Shared] {
        let options = CoreOptions { method, ..CoreOptions::default() };
        let result = evaluate(
            &model,
            &tokenizer,
            &Bundle { tasks: tasks.clone(), skipped: Vec::new() },
            &options,
            &mut |_| {},
            &|| false,
        )
        .unwrap();
        assert_eq!(result.tasks[0].correct, [true, false], "{method:?}");
        assert_eq!(result.tasks[1].correct, [true, true], "{method:?}");
    }
}

fn words(longest: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-c]{1,3}", 1..longest).prop_map(|words| words.join(" "))
}

fn an_item(kind: TaskKind) -> BoxedStrategy<Item> {
    let options = proptest::collection::vec(words(5), 1..4);
    match kind {
        TaskKind::MultipleChoice => (words(12), options, any::<prop::sample::Index>())
            .prop_map(|(query, choices, gold)| Item::MultipleChoice { gold: gold.index(choices.len()), query, choices })
            .boxed(),
        TaskKind::Schema => (options, words(6), any::<prop::sample::Index>())
            .prop_map(|(context_options, continuation, gold)| Item::Schema {
                gold: gold.index(context_options.len()),
                context_options,
                continuation,
            })
            .boxed(),
        TaskKind::LanguageModeling => (words(8), words(2))
            .prop_map(|(context, continuation)| Item::LanguageModeling { context, continuation })
            .boxed(),
    }
}

fn a_task() -> impl Strategy<Value = Task> {
    let kinds = [TaskKind::MultipleChoice, TaskKind::Schema, TaskKind::LanguageModeling];
    (prop::sample::select(kinds.to_vec()), 0usize..3)
        .prop_flat_map(|(kind, shots)| (Just(kind), Just(shots), proptest::collection::vec(an_item(kind), 4..9)))
        .prop_map(|(kind, shots, items)| task(kind, shots, " ", items))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Sharing prefixes and batches changes no answer, whatever the tasks and however little fits a batch.
    #[test]
    fn both_methods_give_the_same_answers(
        tasks in proptest::collection::vec(a_task(), 1..4),
        batch_tokens in prop::sample::select(vec![1usize, 100, 4096]),
    ) {
        let tokenizer = byte_tokenizer();
        let model = small_model(&tokenizer);
        let bundle = Bundle { tasks, skipped: Vec::new() };
        let answers = |method| {
            let options = CoreOptions { method, batch_tokens, ..CoreOptions::default() };
            evaluate(&model, &tokenizer, &bundle, &options, &mut |_| {}, &|| false).unwrap()
        };
        prop_assert_eq!(answers(Method::Shared), answers(Method::PerExample));
    }
}

/// The order of results and what is counted, on a task small enough to follow.
#[test]
fn results_are_centred_on_guessing_and_averaged() {
    let tokenizer = byte_tokenizer();
    let model = small_model(&tokenizer);
    let items = vec![choice("q", &["only"], 0), choice("r", &["single"], 0)];
    let bundle = Bundle { tasks: vec![task(TaskKind::MultipleChoice, 0, " ", items)], skipped: Vec::new() };
    let mut told = Vec::new();
    let options = CoreOptions::default();
    let result =
        evaluate(&model, &tokenizer, &bundle, &options, &mut |task| told.push(task.label.clone()), &|| false).unwrap();
    let expected =
        TaskResult { label: "t".into(), accuracy: 1.0, centered: 1.0, correct: vec![true; 2], cropped_tokens: 0 };
    assert_eq!(result, CoreResult { tasks: vec![expected], core_metric: 1.0 });
    assert_eq!(told, ["t"]);
}

/// Tasks like CORE's own in their proportions: hundreds of tokens of examples before a short question with four options,
/// options of some length without examples, a schema and a continuation.
fn realistic_bundle(tokenizer: &Tokenizer) -> Bundle {
    let mut state = 7u64;
    let mut text = |characters: usize| -> String {
        let mut text = String::new();
        while text.len() < characters {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let length = 2 + (state >> 40) % 7;
            text.extend((0..length).map(|at| char::from(b'a' + ((state >> (8 * at)) % 26) as u8)));
            text.push(' ');
        }
        text.trim_end().to_string()
    };
    let mut items = |make: &mut dyn FnMut(&mut dyn FnMut(usize) -> String, usize) -> Item| -> Vec<Item> {
        (0..16).map(|number| make(&mut text, number)).collect()
    };
    let options = |text: &mut dyn FnMut(usize) -> String, length: usize| -> Vec<String> {
        (0..4).map(|_| text(length)).collect()
    };
    let choices = |query: usize, length: usize| {
        move |text: &mut dyn FnMut(usize) -> String, number: usize| Item::MultipleChoice {
            query: text(query),
            choices: options(text, length),
            gold: number % 4,
        }
    };
    let tasks = vec![
        task(TaskKind::MultipleChoice, 10, "\nAnswer: ", items(&mut choices(60, 6))),
        task(TaskKind::MultipleChoice, 0, " ", items(&mut choices(80, 60))),
        task(
            TaskKind::Schema,
            5,
            " ",
            items(&mut |text, number| schema(&[&text(60), &text(60)], &text(20), number % 2)),
        ),
        task(TaskKind::LanguageModeling, 5, " ", items(&mut |text, _| language(&text(120), &text(8)))),
    ];
    let tokens: usize =
        tasks.iter().map(|task| pose(task, 0, tokenizer, usize::MAX).unwrap().sequences[0].tokens.len()).sum();
    println!("  {} tokens in the first options of four questions", tokens);
    Bundle { tasks, skipped: Vec::new() }
}

/// Examples a second by each method; run alone, on a quiet machine:
/// `cargo test --release --lib evals::core::tests::rates -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn rates() {
    let tokenizer = byte_tokenizer();
    let model = random_model(&shape(1024, tokenizer.vocab_size(), 4, (4, 4), 256, "SSSL"), 1);
    measure("realistic proportions, d4", model, &tokenizer, &realistic_bundle(&tokenizer));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    if !folder.is_dir() {
        println!("skipped: there is no folder {}", folder.display());
        return;
    }
    let trained = crate::trained::Trained::open(&folder.join("checkpoint"), None, None, &Device::Cpu).unwrap();
    let bundle = Bundle::open(&folder.join("eval_bundle"), None, OnCoreError::Stop).unwrap();
    measure("reference bundle", trained.model, &trained.tokenizer, &bundle);
}

fn measure(name: &str, mut model: Gpt, tokenizer: &Tokenizer, bundle: &Bundle) {
    use crate::model::Backend::{Kernels, Reference};
    let examples: usize = bundle.tasks.iter().map(|task| task.items.len()).sum();
    let start = std::time::Instant::now();
    for task in &bundle.tasks {
        (0..task.items.len()).for_each(|index| drop(pose(task, index, tokenizer, usize::MAX)));
    }
    println!("{name}: posing takes {:.4} s on one thread", start.elapsed().as_secs_f64());
    let mut rates: Vec<(f64, String)> = Vec::new();
    for (engine, method) in [(Reference, Method::PerExample), (Kernels, Method::PerExample), (Kernels, Method::Shared)]
    {
        model.set_backend(engine);
        let mut best = 0.0f64;
        for _ in 0..if engine == Reference { 1 } else { 5 } {
            let options = CoreOptions { method, ..CoreOptions::default() };
            let mut parts = Vec::new();
            let start = std::time::Instant::now();
            let mut last = start;
            evaluate(
                &model,
                tokenizer,
                bundle,
                &options,
                &mut |_| {
                    parts.push(format!("{:.4}", last.elapsed().as_secs_f64()));
                    last = std::time::Instant::now();
                },
                &|| false,
            )
            .unwrap();
            let rate = examples as f64 / start.elapsed().as_secs_f64();
            if rate > best {
                best = rate;
                println!("  {engine:?} {method:?}: {rate:.1} examples a second; seconds a task {}", parts.join(" "));
            }
        }
        rates.push((best, format!("{engine:?} {method:?}")));
    }
    let (fastest, _) = rates[2].clone();
    for (rate, label) in &rates[..2] {
        println!("{name}: {:.2} times {label}", fastest / rate);
    }
}
