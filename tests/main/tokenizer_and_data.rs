//! `nanochat tokenizer` and `nanochat data`, from the outside.

use super::program::Project;

#[test]
fn a_tokenizer_is_trained_tried_out_and_converted() {
    let project = Project::new();
    let trained = project.run(&["tokenizer", "train", "--bytes", "200000", "--vocab-size", "400", "--out", "tok"]);
    assert_eq!(trained.code(), 0, "{}", trained.stderr());
    assert_eq!(project.files("tok"), ["tok/tokenizer.json"]);
    let text = "In the end Mira had nine apples. 你好 🙂";
    let encoded = project.run(&["tokenizer", "encode", "tok", text]);
    let ids = encoded.stdout();
    let decode = [&["tokenizer", "decode", "tok"][..], &ids.split_whitespace().collect::<Vec<_>>()].concat();
    assert_eq!(project.run(&decode).stdout(), text);
    for file in ["tok.pkl", "other/x.tiktoken", "again/tokenizer.json"] {
        let from = if file.starts_with("again") { "other" } else { "tok" };
        assert_eq!(project.run(&["tokenizer", "convert", from, file]).code(), 0);
        assert_eq!(project.run(&["tokenizer", "encode", file, text]).stdout(), ids);
    }
    let inspected = project.run(&["tokenizer", "inspect", "tok", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&inspected.stdout()).expect("JSON");
    assert_eq!(document["vocab_size"], 400);
    assert_eq!(document["special_tokens"]["<|bos|>"], 391);
    assert!(trained.stdout().contains(document["sha256"].as_str().expect("a hash")));
}

#[test]
fn written_shards_are_the_same_data() {
    let project = Project::new();
    let hash = |data: &[&str]| {
        let ran = project.run(&[&["data", "hash"], data].concat());
        assert_eq!(ran.code(), 0, "{}", ran.stderr());
        ran.stdout()
    };
    let synthetic = hash(&["--bytes", "300000", "--seed", "7"]);
    for kind in ["parquet", "jsonl"] {
        let written =
            project.run(&["data", "synthesize", "--bytes", "300000", "--seed", "7", "--as", kind, "--out", kind]);
        assert_eq!(written.code(), 0, "{}", written.stderr());
        assert_eq!(hash(&["--data", kind]), synthetic);
    }
    let inspected = project.run(&["data", "inspect", "--data", "parquet", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&inspected.stdout()).expect("JSON");
    assert_eq!(document["sha256"], synthetic.trim());
    assert_eq!(document["splits"]["validation"]["size"]["shards"], 1);
}

#[test]
fn wrong_arguments_are_errors_with_a_way_out() {
    let project = Project::new();
    project.write("empty/readme.md", "nothing");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["data", "inspect", "--data", "nowhere"], 2, "nowhere: no such folder or file"),
        (&["data", "hash", "--data", "empty"], 2, "can't tell the kind of data"),
        (&["tokenizer", "encode", "empty", "x"], 2, "no tokenizer here"),
        (&["tokenizer", "train", "--bytes", "9", "--vocab-size", "264", "--out", "t"], 1, "264 is too small"),
        (&["tokenizer", "train", "--bytes", "9", "--vocab-size", "99999", "--out", "t"], 1, "more text or a smaller"),
        (&["tokenizer", "convert", "empty", "x"], 2, "no tokenizer here"),
    ];
    for (arguments, code, message) in cases {
        let ran = project.run(arguments);
        assert_eq!(ran.code(), code, "{arguments:?}: {}", ran.stderr());
        assert!(ran.told().contains(message), "{:?} lacks {message:?}", ran.told());
        assert!(project.files("t").is_empty(), "nothing is left behind");
    }
}
