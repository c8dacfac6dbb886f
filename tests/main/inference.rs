//! `nanochat generate` and `nanochat chat`, from the outside, on the baseline's checkpoint among the fixtures.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::program::{Project, Ran, root};

fn fixture(name: &str) -> String {
    root().join("fixtures").join(name).to_string_lossy().into_owned()
}

/// The program on the fixture's model.
fn command(project: &Project, arguments: &[&str]) -> Command {
    let checkpoint = fixture("parity/checkpoint");
    let [name, rest @ ..] = arguments else { panic!("a command") };
    project.command(&[&[*name, "--checkpoint", &checkpoint], rest].concat())
}

/// Runs it with some standard input.
fn run(project: &Project, arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = command(project, arguments);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    // A program that refuses its arguments may not read what it is given.
    let _ = child.stdin.take().expect("its input").write_all(input);
    Ran(child.wait_with_output().expect("its output"))
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout(), ran.stderr()))
}

#[test]
fn generation_is_told_as_a_document_and_is_the_baselines() {
    let project = Project::new();
    let cases: Value =
        serde_json::from_slice(&std::fs::read(fixture("parity/greedy_generation.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let (prompt, ids) = (case["prompt"].as_str().unwrap(), case["ids"].as_array().unwrap());
        let before = case["prompt_ids"].as_array().unwrap().len();
        let count = (ids.len() - before).to_string();
        let arguments = ["generate", "--prompt-file", "-", "--max-tokens", &count, "--format", "json"];
        let ran = run(&project, &arguments, prompt.as_bytes()).exits(0);
        let document = json(&ran);
        assert_eq!(document["prompt_ids"].as_array().unwrap()[..], ids[..before]);
        let sample = &document["samples"][0];
        assert_eq!(sample["ids"].as_array().unwrap()[..], ids[before..]);
        assert_eq!((&document["step"], &sample["ended_by"]), (&16.into(), &"length".into()));
        let likely = sample["log_probabilities"].as_array().unwrap();
        assert!(likely.len() == ids.len() - before && likely.iter().all(|one| one.as_f64().unwrap() < 0.0));
        project.write("generated.json", &ran.stdout());
        project.run(&["validate", "generated.json"]).exits(0);
        // The same as text, which streams.
        let streamed = run(&project, &["generate", "--prompt", prompt, "--max-tokens", &count], b"").exits(0);
        assert_eq!(streamed.stdout(), format!("{prompt}{}\n", sample["text"].as_str().unwrap()));
    }
}

#[test]
fn samples_are_drawn_by_seed_and_end_at_stop_tokens() {
    let project = Project::new();
    let drawn = |more: &[&str]| {
        let arguments = ["generate", "--prompt", "The", "--temperature", "1", "--format", "json"];
        json(&run(&project, &[&arguments[..], more].concat(), b"").exits(0))
    };
    let three = drawn(&["--samples", "3"]);
    assert_eq!(three["samples"][0], drawn(&[])["samples"][0]);
    assert_ne!(three["samples"][0]["ids"], three["samples"][1]["ids"]);
    assert_ne!(three["samples"][0]["ids"], drawn(&["--seed", "7"])["samples"][0]["ids"]);
    let ids = three["samples"][0]["ids"].as_array().unwrap();
    let stop = ids[5].as_u64().unwrap();
    let first = ids.iter().position(|id| id.as_u64() == Some(stop)).unwrap();
    let stopped = drawn(&["--stop", &format!("#{stop}"), "--stop", "<|user_end|>"]);
    let sample = &stopped["samples"][0];
    assert_eq!((sample["ids"].as_array().unwrap(), &sample["stop_id"]), (&ids[..first].to_vec(), &stop.into()));
    assert_eq!(sample["ended_by"], "stop_token");
    assert_eq!(stopped["stop_ids"].as_array().unwrap().len(), 4);
    let rounded = drawn(&["--dtype", "bf16"]);
    assert_ne!(rounded["samples"][0]["log_probabilities"], three["samples"][0]["log_probabilities"]);
    let text = run(&project, &["generate", "--samples", "2", "--max-tokens", "3"], b"").exits(0).stdout();
    assert!(text.starts_with("--- 1\n") && text.contains("\n--- 2\n"), "{text}");
}

/// Prompts that try to do harm: each gives correct output, or an error that says what is wrong and what helps.
#[test]
fn hostile_prompts_are_text_or_clear_errors() {
    let project = Project::new();
    let names = nanochat::tokenizer::SPECIAL_TOKENS;
    let bos = 310 - names.len() as u64;
    let ids_of = |prompt: &str| -> Vec<u64> {
        let ran =
            run(&project, &["generate", "--prompt", prompt, "--max-tokens", "1", "--format", "json"], b"").exits(0);
        json(&ran)["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    for name in names.iter().copied().chain([names.concat().as_str()]) {
        let ids = ids_of(name);
        assert!(ids[0] == bos && ids[1..].iter().all(|id| *id < bos), "{name} is text like any other: {ids:?}");
    }
    assert_eq!(ids_of(""), [bos]);
    assert!(ids_of("\u{1}\u{202e}\u{fffd}🦀").len() > 4);
    std::fs::write(project.path().join("latin.txt"), b"gr\xfc\xdfe").unwrap();
    std::fs::write(project.path().join("empty.txt"), b"").unwrap();
    let refused: [(&[&str], &[u8], &str); 8] = [
        (&["--prompt-file", "latin.txt"], b"", "latin.txt is not UTF-8: byte 2"),
        (&["--prompt-file", "-"], b"\xff", "standard input is not UTF-8: byte 0"),
        (&["--prompt-file", "none.txt"], b"", "can't read none.txt"),
        (&["--prompt", "a", "--prompt-file", "-"], b"", "cannot be used with"),
        (&["--stop", "no such token"], b"", "is not one token of this model"),
        (&["--stop", "#310"], b"", "is not one token of this model"),
        (&["--tokenizer", &fixture("tokenizer/tokenizer_1024.tiktoken")], b"", "has 1024 tokens, the model 310"),
        (&["--step", "17"], b"", "17"),
    ];
    for (arguments, input, message) in refused {
        let ran = run(&project, &[&["generate"], arguments].concat(), input).exits(2);
        assert!(ran.told().contains(message), "{arguments:?}: {}", ran.stderr());
        assert!(ran.stdout().is_empty());
    }
    let warm = run(&project, &["generate", "--temperature=-1"], b"").exits(1);
    assert!(warm.told().contains("a temperature is 0 or a positive number"), "{}", warm.stderr());
    let many = ["generate", "--samples", "4000000000000", "--max-tokens", "100000"];
    let many = run(&project, &many, b"").exits(1);
    assert!(many.told().contains("key/value cache of 4000000000000 rows"), "{}", many.stderr());
    run(&project, &["generate", "--prompt-file", "empty.txt", "--max-tokens", "2"], b"").exits(0);
    project.run(&["generate", "--checkpoint", "experiments"]).exits(2);
}

#[test]
fn a_megabyte_of_prompt_is_continued() {
    let project = Project::new();
    let text = "<|bos|> what is it, 12345? ".repeat(40_000);
    let arguments = ["generate", "--prompt-file", "-", "--max-tokens", "2", "--format", "json"];
    let ran = run(&project, &arguments, text.as_bytes()).exits(0);
    let document = json(&ran);
    assert!(document["prompt_ids"].as_array().unwrap().len() > 300_000);
    assert_eq!(document["samples"][0]["ids"].as_array().unwrap().len(), 2);
}

/// One line a message; `clear` forgets, so that the same words get the same reply; what is left of a turn is deterministic.
#[test]
fn a_conversation_is_had_line_by_line() {
    let project = Project::new();
    let greedy = ["chat", "--temperature", "0", "--max-tokens", "12"];
    let replies = |arguments: &[&str], input: &[u8]| run(&project, arguments, input).exits(0).stdout();
    let alone = replies(&greedy, b"What is a river?\n");
    assert!(alone.ends_with('\n') && alone.len() > 1);
    let twice = replies(&greedy, b"What is a river?\n\n  \nclear\nWhat is a river?\r\nquit\nnever asked\n");
    assert_eq!(twice, alone.repeat(2));
    let on = replies(&greedy, b"What is a river?\nAnd a <|assistant_end|> hill?");
    assert!(on.starts_with(&alone) && on.len() > alone.len());
    let told = replies(&[&greedy[..], &["--system", "Be brief."]].concat(), b"What is a river?\n");
    assert!(told.ends_with('\n'));
    assert_eq!(replies(&greedy, b""), "");
    let broken = run(&project, &greedy, b"What?\n\xff\xfe\n").exits(2);
    assert!(broken.told().contains("line 2 of standard input is not UTF-8"), "{}", broken.stderr());
    let long = "word ".repeat(100_000) + "\nand then?\n";
    assert!(!run(&project, &greedy, long.as_bytes()).exits(0).stdout().is_empty());
}

/// An interrupt ends the reply and not the program, which takes the next line.
#[cfg(unix)]
#[test]
fn an_interrupt_stops_a_reply_and_not_the_program() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let patience = std::time::Duration::from_secs(60);
    let project = Project::new();
    // By its likeliest tokens this model never comes to an end.
    let mut command = command(&project, &["chat", "--temperature", "0", "--max-tokens", "1000000000"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut some = [0u8; 4096];
        while output.read(&mut some).is_ok_and(|count| count > 0) && sender.send(()).is_ok() {}
    });
    for words in ["Tell me everything.\n", "And the rest?\n"] {
        while seen.try_recv().is_ok() {}
        input.write_all(words.as_bytes()).unwrap();
        seen.recv_timeout(patience).expect("a reply on its way");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(told.next().unwrap().unwrap(), "(stopped)");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn two_tokenizers_are_compared_on_a_text() {
    let project = Project::new();
    let (small, other) = (fixture("parity/tokenizer_310.tiktoken"), fixture("tokenizer/tokenizer_1024.tiktoken"));
    project.write("text.txt", "Rivers\nrun down the hills.");
    project.run(&["tokenizer", "convert", &small, "small.pkl"]).exits(0);
    let same = project.run(&["tokenizer", "check", &small, "small.pkl", "--text", "text.txt"]).exits(0);
    assert!(
        same.stdout().contains("give both the same") && same.stdout().contains("all 301 equal"),
        "{}",
        same.stdout()
    );
    let arguments = ["tokenizer", "check", &small, &other, "--text", "text.txt"];
    let differs = project.run(&arguments).exits(1);
    assert!(differs.stdout().contains("tokens equal, then at byte"), "{}", differs.stdout());
    let document = json(&project.run(&[&arguments[..], &["--format", "json"]].concat()).exits(1));
    assert_eq!(document["equal"], false);
    let at = &document["first_difference"];
    assert!(at["byte"].as_u64().unwrap() < 26 && at["line"].as_u64().unwrap() <= 2, "{document:#}");
    assert_eq!(at["next"].as_array().unwrap().len(), 2);
    project.run(&["tokenizer", "check", &small, &other]).exits(1);
    let ranks = fixture("tokenizer/tokenizer_1024.tiktoken");
    let inspect = ["tokenizer", "inspect", &small, "--text", "text.txt", "--gpt2", &ranks, "--gpt4", &ranks];
    let inspected = json(&project.run(&[&inspect[..], &["--format", "json"]].concat()).exits(0));
    assert_eq!(inspected["published"].as_array().unwrap().len(), 2);
    assert!(inspected["text"]["tokens"].as_u64() > inspected["published"][0]["tokens"].as_u64());
    let text = project.run(&inspect).exits(0).stdout();
    assert!(text.contains("GPT-2 (1015 ranks)") && text.contains("GPT-4 (1015 ranks)"), "{text}");
}
