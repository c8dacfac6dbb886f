//! The baseline's data and evaluation tasks, from a server of the test's own to a trained model.

use std::io::Cursor;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::program::{Project, Ran};
use super::server::{Answer, Request, Server};

/// The CORE tasks by label, file, kind, shots, and delimiter where it isn't a blank: the layout of the baseline's bundle.
const TASKS: [(&str, &str, &str, usize, &str); 22] = [
    ("hellaswag_zeroshot", "language_understanding/hellaswag", "multiple_choice", 0, ""),
    ("jeopardy", "world_knowledge/jeopardy_all", "language_modeling", 3, "\\nAnswer: "),
    ("bigbench_qa_wikidata", "world_knowledge/bigbench_qa_wikidata", "language_modeling", 3, ""),
    ("arc_easy", "world_knowledge/arc_easy", "multiple_choice", 3, "\\nAnswer: "),
    ("arc_challenge", "world_knowledge/arc_challenge", "multiple_choice", 3, "\\nAnswer: "),
    ("copa", "commonsense_reasoning/copa", "multiple_choice", 0, ""),
    ("commonsense_qa", "commonsense_reasoning/commonsense_qa", "multiple_choice", 3, ""),
    ("piqa", "commonsense_reasoning/piqa", "multiple_choice", 3, "\\nAnswer: "),
    ("openbook_qa", "commonsense_reasoning/openbook_qa", "multiple_choice", 0, ""),
    ("lambada_openai", "language_understanding/lambada_openai", "language_modeling", 0, ""),
    ("hellaswag", "language_understanding/hellaswag", "multiple_choice", 3, ""),
    ("winograd", "language_understanding/winograd_wsc", "schema", 0, ""),
    ("winogrande", "language_understanding/winogrande", "schema", 0, ""),
    ("bigbench_dyck_languages", "symbolic_problem_solving/bigbench_dyck_languages", "language_modeling", 3, ""),
    ("agi_eval_lsat_ar", "symbolic_problem_solving/agi_eval_lsat_ar", "multiple_choice", 3, ""),
    ("bigbench_cs_algorithms", "symbolic_problem_solving/bigbench_cs_algorithms", "language_modeling", 3, ""),
    ("bigbench_operators", "symbolic_problem_solving/bigbench_operators", "language_modeling", 3, ""),
    ("bigbench_repeat_copy_logic", "symbolic_problem_solving/bigbench_repeat_copy_logic", "language_modeling", 3, ""),
    ("squad", "reading_comprehension/squad", "language_modeling", 3, ""),
    ("coqa", "reading_comprehension/coqa", "language_modeling", 0, ""),
    ("boolq", "reading_comprehension/boolq", "multiple_choice", 3, "\\nAnswer: "),
    (
        "bigbench_language_identification",
        "language_understanding/bigbench_language_identification",
        "multiple_choice",
        3,
        "",
    ),
];

/// A small bundle with every task of the real one; `malformed` puts a broken line into the first of them.
fn bundle(malformed: bool) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut file = |name: &str, text: &str| {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(format!("eval_bundle/{name}"), options).expect("an entry");
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("a text");
    };
    let mut yaml = "icl_tasks:\n".to_string();
    let mut table =
        "Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline,Centered Metric?,Description\n"
            .to_string();
    let mut written = std::collections::BTreeSet::new();
    for (label, place, kind, shots, delimiter) in TASKS {
        yaml += &format!("-\n  label: {label}\n  dataset_uri: {place}.jsonl\n  num_fewshot: [{shots}]\n");
        yaml += &format!("  icl_task_type: {kind}\n");
        if !delimiter.is_empty() {
            yaml += &format!("  continuation_delimiter: \"{delimiter}\"\n");
        }
        let guess = if kind == "language_modeling" { 0 } else { 50 };
        table += &format!("{label},some category,{kind},{shots},6,{guess},,\"words, with a comma\"\n");
        if written.insert(place) {
            let lines: String = (0..6).map(|number| example(kind, number)).collect();
            let broken = if malformed && label == TASKS[0].0 { "{\"query\": \"cut off" } else { "" };
            file(&format!("eval_data/{place}.jsonl"), &format!("{lines}{broken}\n"));
        }
    }
    file("core.yaml", &yaml);
    file("eval_meta_data.csv", &table);
    writer.finish().expect("an archive").into_inner()
}

fn example(kind: &str, number: usize) -> String {
    let gold = number % 2;
    match kind {
        "multiple_choice" => format!(
            "{{\"query\": \"Mira had {number} apples. She\", \"choices\": [\"ate one\", \"sold one\"], \"gold\": {gold}}}\n"
        ),
        "schema" => format!(
            "{{\"context_options\": [\"The cat {number}\", \"The dog {number}\"], \"continuation\": \"was old.\", \"gold\": {gold}}}\n"
        ),
        _ => format!("{{\"context\": \"Count: {number}\", \"continuation\": \"{}\"}}\n", number + 1),
    }
}

const SPEC: &str = "\
schema: nanochat.experiment/v1
name: small
seed: 3
hardware: { device: cpu, device_batch_size: 2, dtype: f32, threads: 1 }
data: { source: climbmix, shards: 2 }
tokenizer: { path: ~/.cache/nanochat/tokenizer, vocab_size: 400 }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 64, window_pattern: L }
budget: { iterations: 3 }
optimizer: { total_batch_size: 128 }
eval: { every: 0, tokens: 256, core: { max_per_task: 5 } }
";

/// A project whose home folder is its own, and the shards that a server has.
struct Place {
    project: Project,
    shards: Vec<Vec<u8>>,
}

impl Place {
    fn new() -> Self {
        let project = Project::new();
        project.write("small.yaml", SPEC);
        let shards = ["data", "synthesize", "--bytes", "6000000", "--as", "parquet", "--out", "published"];
        project.run(&shards).exits(0);
        let shards = project.files("published").into_iter().map(|file| std::fs::read(project.path().join(file)));
        let shards: Vec<Vec<u8>> = shards.collect::<Result<_, _>>().expect("shards");
        assert!(shards.len() >= 3, "{} shards", shards.len());
        Self { project, shards }
    }

    /// The published shard of a path; the last one is validation.
    fn shard<'a>(shards: &'a [Vec<u8>], path: &str) -> Option<&'a [u8]> {
        let number = path.strip_prefix("/datasets/karpathy/climbmix-400b-shuffle/resolve/main/shard_")?;
        let number: usize = number.strip_suffix(".parquet")?.parse().ok()?;
        if number == 6542 { shards.last() } else { shards.get(number) }.map(Vec::as_slice)
    }

    /// A server as the hub is, and the bundle.
    fn server(&self, malformed: bool) -> Server {
        let (shards, bundle) = (self.shards.clone(), bundle(malformed));
        Server::start(move |request| match Self::shard(&shards, &request.path) {
            _ if request.path == "/eval_bundle.zip" => Answer::file(&bundle, request),
            Some(shard) => Answer::file(shard, request),
            None => Answer::status(404),
        })
    }

    fn command(&self, arguments: &[&str], server: &Server) -> Command {
        let mut command = self.project.command(arguments);
        command.env("HOME", self.project.path().join("home")).env("HF_ENDPOINT", server.address());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str], server: &Server) -> Ran {
        Ran(self.command(arguments, server).output().expect("the program starts"))
    }

    fn home(&self, path: &str) -> std::path::PathBuf {
        self.project.path().join("home/.cache/nanochat").join(path)
    }
}

const DOWNLOAD: [&str; 5] = ["data", "download", "climbmix", "--shards", "2"];

#[test]
fn from_nothing_to_a_trained_and_evaluated_model() {
    let place = Place::new();
    let server = place.server(false);
    let refused = place.run(&["run", "small.yaml"], &server).exits(2).told();
    let tokenizer = "nanochat tokenizer train --data climbmix --vocab-size 400 --out ~/.cache/nanochat/tokenizer";
    for command in ["nanochat data download climbmix --shards 2`", tokenizer, "nanochat data download eval-bundle`"] {
        assert!(refused.contains(command), "{command}: {refused}");
    }
    place.run(&DOWNLOAD, &server).exits(0);
    let bundle = format!("{}/eval_bundle.zip", server.address());
    place.run(&["data", "download", "eval-bundle", "--from", &bundle], &server).exits(0);
    let folder = place.home("tokenizer");
    let out = folder.to_str().expect("a path");
    let train = ["tokenizer", "train", "--data", "climbmix", "--vocab-size", "400", "--out", out];
    place.run(&train, &server).exits(0);
    let planned = place.run(&["plan", "small.yaml"], &server).exits(0);
    assert!(planned.stdout().contains("1 of CORE") && planned.stdout().contains("of data, "), "{}", planned.stdout());
    assert!(planned.stderr().is_empty(), "{}", planned.stderr());
    place.run(&["run", "small.yaml"], &server).exits(0);
    let run = place.project.files("results").into_iter().find(|file| file.ends_with("summary.json")).expect("a run");
    let summary = std::fs::read_to_string(place.project.path().join(run)).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!((&summary["status"], &summary["steps"]), (&"finished".into(), &3.into()));
    assert!(summary["core_metric"].is_number(), "{summary:#}");
    // A second time nothing is asked for.
    let before = server.requests().len();
    let again = place.run(&DOWNLOAD, &server).exits(0);
    assert!(again.stdout().contains("0 files new") && again.stdout().contains("3 kept"), "{}", again.stdout());
    assert_eq!(server.requests().len(), before);
}

#[test]
fn one_malformed_example_stops_the_evaluation_or_is_skipped_and_counted() {
    let place = Place::new();
    let server = place.server(true);
    let bundle = format!("{}/eval_bundle.zip", server.address());
    place.run(&DOWNLOAD, &server).exits(0);
    place.run(&["data", "download", "eval-bundle", "--from", &bundle], &server).exits(0);
    let own = ["--set", "tokenizer={train: {vocab_size: 400}}"];
    let stopped = place.run(&[&["run", "small.yaml"], &own[..]].concat(), &server).exits(1).told();
    assert!(stopped.contains("hellaswag.jsonl") && stopped.contains("line 7"), "{stopped}");
    let skip = ["--set", "eval.core.on_error=skip"];
    let ran = place.run(&[&["run", "small.yaml"], &own[..], &skip].concat(), &server).exits(0);
    // Two tasks read that file.
    assert!(ran.told().contains("2 examples of CORE were skipped"), "{}", ran.told());
    let files = place.project.files("results");
    let run = files.iter().find(|file| file.ends_with("summary.json")).expect("a run");
    let summary = std::fs::read_to_string(place.project.path().join(run)).expect("a summary");
    assert!(summary.contains("2 examples of CORE were skipped"), "{summary}");
    let checkpoint = run.strip_suffix("/summary.json").expect("a folder");
    let bundle = place.home("eval_bundle");
    let eval = ["eval", "--checkpoint", checkpoint, "--bundle", bundle.to_str().expect("a path")];
    place.run(&eval, &server).exits(2);
    let evaluated = place.run(&[&eval[..], &["--on-error", "skip", "--format", "json"]].concat(), &server).exits(0);
    let document: serde_json::Value = serde_json::from_str(&evaluated.stdout()).expect("JSON");
    let tasks = document["core"]["tasks"].as_array().expect("tasks");
    assert_eq!((tasks.len(), document["core"]["skipped"].as_array().map(Vec::len)), (22, Some(2)));
}

/// Waits until a file has so many bytes.
fn wait_for(path: &std::path::Path, bytes: u64) {
    let begun = Instant::now();
    while std::fs::metadata(path).map_or(0, |found| found.len()) < bytes {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} doesn't grow", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn interrupt(child: &Child) {
    let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(told.success());
}

#[test]
fn an_interrupted_download_goes_on() {
    let place = Place::new();
    let shards = place.shards.clone();
    let server = Server::start(move |request| {
        let answer = Answer::file(Place::shard(&shards, &request.path).unwrap_or_default(), request);
        match request.earlier {
            0 => answer.pause(10_000, Duration::from_secs(30)),
            1 => answer.cut(5_000),
            _ => answer,
        }
    });
    let mut child = place.command(&DOWNLOAD, &server).stderr(Stdio::piped()).spawn().expect("the program starts");
    let part = place.home("base_data_climbmix/shard_00000.parquet.part");
    wait_for(&part, 10_000);
    interrupt(&child);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    place.run(&DOWNLOAD, &server).exits(0);
    let first = |request: &&Request| request.path.ends_with("shard_00000.parquet");
    let starts: Vec<_> = server.requests().iter().filter(first).map(Request::start).collect();
    assert_eq!(starts, [None, Some(10_000), Some(15_000)]);
    assert!(std::fs::read(part.with_extension("")).expect("a shard") == place.shards[0]);
}

#[test]
fn a_disk_that_is_too_small_is_an_error_with_a_way_out() {
    let place = Place::new();
    let server = Server::start(|_| Answer::body(b"PAR1").header("Content-Length", "900000000000000000"));
    let refused = place.run(&DOWNLOAD, &server).exits(1).told();
    assert!(refused.contains("the disk has") && refused.contains("--out"), "{refused}");
    // More shards than any disk holds are refused before the first request.
    let before = server.requests().len();
    let all = ["data", "download", "climbmix", "--shards", "6542"];
    if nanochat::hardware::free_bytes(place.project.path()).is_some_and(|free| free < 600_000_000_000) {
        place.run(&all, &server).exits(1);
        assert_eq!(server.requests().len(), before);
    }
}

#[test]
fn the_token_and_passwords_are_not_printed() {
    let place = Place::new();
    let server = Server::start(|_| Answer::status(401));
    let mut command = place.command(&DOWNLOAD, &server);
    let ran = Ran(command.env("HF_TOKEN", "hf_s3cret").output().expect("the program starts")).exits(1);
    assert!(ran.told().contains("set HF_TOKEN") && !ran.told().contains("s3cret"), "{}", ran.told());
    assert_eq!(server.requests()[0].headers.get("authorization").map(String::as_str), Some("Bearer hf_s3cret"));
    let mut command = place.command(&DOWNLOAD, &server);
    let ran = Ran(command.env("HF_ENDPOINT", "https://me:s3cret@mirror.example").output().expect("a start")).exits(2);
    assert!(!ran.told().contains("s3cret"), "{}", ran.told());
}

#[test]
fn a_proxy_is_asked_in_the_servers_place() {
    let place = Place::new();
    let server = place.server(false);
    let proxy = Server::start(|_| Answer::status(403));
    let mut command = place.command(&DOWNLOAD, &server);
    command.env("HTTP_PROXY", proxy.address()).env("NO_PROXY", "");
    let ran = Ran(command.env("HF_ENDPOINT", "http://hub.example").output().expect("the program starts"));
    assert_eq!(ran.code(), 1);
    assert!(!proxy.requests().is_empty() && server.requests().is_empty());
    let mut command = place.command(&DOWNLOAD, &server);
    command.env("HTTP_PROXY", proxy.address()).env("NO_PROXY", "127.0.0.1");
    Ran(command.output().expect("the program starts")).exits(0);
}
