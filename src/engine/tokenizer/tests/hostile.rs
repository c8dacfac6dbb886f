//! Files that are cut off, garbled, or lie: always an error that names file and place, never a panic.

use super::super::TokenizerError;
use super::*;

/// Loads bytes under a name, and gives the error with the folder's path taken out.
fn error(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    let error = Tokenizer::load(&file).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn rank_files_are_checked_line_by_line() {
    let whole = std::fs::read_to_string(fixture("tokenizer_1024.tiktoken")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number] = line;
        error("x.tiktoken", lines.join("\n").as_bytes())
    };
    let cases = [
        (with(9, "!!! 9"), "DIR/x.tiktoken: line 10: the token is no base64"),
        (with(9, "CQ== nine"), "DIR/x.tiktoken: line 10: \"nine\" is no rank"),
        (with(9, "CQ=="), "DIR/x.tiktoken: line 10: expected a token in base64"),
        (with(9, "CQ== 9 9"), "DIR/x.tiktoken: line 10: expected a token in base64"),
        (with(9, "CQ== 8"), "DIR/x.tiktoken: line 10: rank 8 is given twice"),
        (with(9, "CQ== -1"), "DIR/x.tiktoken: line 10: rank -1 is negative"),
        (with(9, "CQ== 4000000000"), "DIR/x.tiktoken: line 10: rank 4000000000 leaves a gap"),
        (with(9, "CQ== 99999999999999999999"), "DIR/x.tiktoken: line 10: \"99999999999999999999\" is no rank"),
        (with(9, ""), "DIR/x.tiktoken: line 1015: rank 1014 leaves a gap"),
        (with(9, "CA== 9"), "DIR/x.tiktoken: whole file: invalid ranks: ranks 8 and 9 have the same bytes"),
        (with(9, "CQkJCQ== 9"), "DIR/x.tiktoken: whole file: invalid ranks: byte 0x09 has no rank of its own"),
        (error("x.tiktoken", b""), "DIR/x.tiktoken: whole file: invalid ranks: byte 0x00 has no rank"),
        (error("x.tiktoken", b"CQ== 0\n\xff\n"), "DIR/x.tiktoken: byte 7: not UTF-8"),
        (error("x.bin", b""), "DIR/x.bin: no tokenizer here"),
    ];
    for (found, expected) in cases {
        assert!(found.starts_with(expected), "{found:?} instead of {expected:?}");
    }
}

#[test]
fn a_pickle_cut_anywhere_is_an_error() {
    let whole = std::fs::read(fixture("tokenizer_1024.pkl")).unwrap();
    let path = std::path::Path::new("x.pkl");
    for end in 0..whole.len() {
        let cut = super::super::pickle::read(path, &whole[..end]).unwrap_err();
        assert!(matches!(cut, TokenizerError::Format(_)));
    }
}

#[test]
fn a_pickle_with_any_byte_changed_never_panics() {
    let whole = std::fs::read(fixture("tokenizer_1024.pkl")).unwrap();
    let path = std::path::Path::new("x.pkl");
    for at in (0..260).chain((260..whole.len() - 260).step_by(7)).chain(whole.len() - 260..whole.len()) {
        for byte in [0x00, 0xFF, b'.', b'(', b'u', whole[at] ^ 1] {
            let mut changed = whole.clone();
            changed[at] = byte;
            // A changed token may still be a vocabulary; what matters is that nothing worse than an error comes of it.
            let _ = super::super::pickle::read(path, &changed).and_then(Tokenizer::from_ranks);
        }
    }
}

#[test]
fn pickles_that_ask_for_more_than_a_tokenizer_are_refused() {
    let asks_for_system = b"\x80\x04cos\nsystem\nX\x02\x00\x00\x00id\x85R.";
    let by_stack = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
    let named = b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93)\x81\x8c\x04gpt2b.";
    let bare = b"\x80\x04ctiktoken.core\nEncoding\n.";
    let empty = b"\x80\x04ctiktoken.core\nEncoding\n)\x81}b.";
    let cases: [(&[u8], &str); 9] = [
        (asks_for_system, "byte 2, opcode 0x63: it names `os.system`; only `tiktoken.core.Encoding` may be named"),
        (by_stack, "byte 18, opcode 0x93: it names `builtins.eval`"),
        (b"\x80\x04R.", "byte 2, opcode 0x52: the stack is empty"),
        (b"\x80\x09.", "byte 0, opcode 0x80: pickle protocol 9 is not known"),
        (b"\x80\x04B\xff\xff\xff\xff", "byte 2, opcode 0x42: the pickle ends early: 4294967295 more bytes"),
        (b"\x80\x04}.", "byte 2, opcode 0x7d: it holds no tokenizer object"),
        (bare, "byte 2, opcode 0x63: it holds no tokenizer object"),
        (empty, "byte 28, opcode 0x7d: `pat_str` is None"),
        // The name of a published encoding, whose ranks are elsewhere.
        (named, "byte 30, opcode 0x8c: it only names the published encoding `gpt2`"),
    ];
    for (bytes, expected) in cases {
        let found = error("x.pkl", bytes);
        let expected = format!("cannot read the pickle in `DIR/x.pkl`: {expected}");
        assert!(found.starts_with(&expected), "{found:?} instead of {expected:?}");
    }
}

/// One text of a megabyte under ten thousand ranks: it counts each time that it is used.
#[test]
fn a_pickle_that_repeats_one_long_token_is_refused() {
    use nanochat_formats::pickle::{PickleWriter, opcode::*};
    let mut pickle = PickleWriter::new(4);
    pickle.global("tiktoken.core", "Encoding");
    pickle.put(&[EMPTY_TUPLE, NEWOBJ, EMPTY_DICT, MARK]);
    for text in ["pat_str", super::super::SPLIT_PATTERN, "mergeable_ranks"] {
        pickle.text(text);
    }
    pickle.put(&[EMPTY_DICT, MARK]);
    pickle.bytes(&vec![b'a'; 1 << 20]);
    pickle.put(&[BINPUT, 5]);
    pickle.int(0);
    for rank in 1..10_000 {
        pickle.put(&[BINGET, 5]);
        pickle.int(rank);
    }
    pickle.put(&[SETITEMS, SETITEMS, BUILD]);
    let found = error("x.pkl", &pickle.finish());
    assert!(found.contains("`mergeable_ranks` repeats its tokens"), "{found}");
}

#[test]
fn a_tokenizer_json_that_gives_other_ids_is_refused() {
    let sound: serde_json::Value = serde_json::from_str(&reference().to_json().unwrap()).unwrap();
    let spoils: [(fn(&mut serde_json::Value), &str); 9] = [
        (|json| json["normalizer"] = serde_json::json!({"type": "NFC"}), "normalizer: expected null"),
        (|json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "x".into(), "pre_tokenizer: expected"),
        (|json| json["model"]["type"] = "WordPiece".into(), "model.type: expected \"BPE\", found \"WordPiece\""),
        (|json| json["model"]["dropout"] = 0.1.into(), "model: expected null, found 0.1"),
        (|json| json["model"]["vocab"]["Ġt"] = 5.into(), "model.vocab: rank 5 is given twice"),
        (|json| json["model"]["vocab"]["x y"] = 1015.into(), "model.vocab: \"x y\" is not written in the byte-level"),
        (|json| json["model"]["merges"][3] = serde_json::json!(["a", "b"]), "model.merges: merge 3 is [\"a\",\"b\"]"),
        (
            |json| drop(json["model"]["merges"].as_array_mut().unwrap().pop()),
            "model.merges: 758 merges, but 759 follow",
        ),
        (|json| json["added_tokens"][0]["id"] = 7.into(), "added_tokens: the special tokens are"),
    ];
    for (spoil, expected) in spoils {
        let mut json = sound.clone();
        spoil(&mut json);
        let found = error("tokenizer.json", json.to_string().as_bytes());
        assert!(found.starts_with(&format!("DIR/tokenizer.json: {expected}")), "{found:?} instead of {expected:?}");
    }
    assert!(error("tokenizer.json", b"{").starts_with("DIR/tokenizer.json: line 1, column 1: "));
    assert!(error("tokenizer.json", b"[]").starts_with("DIR/tokenizer.json: model.vocab: expected a map"));
}

#[test]
fn folders_without_or_with_too_many_tokenizers_say_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Tokenizer::load(folder.path()), Err(TokenizerError::NotFound { .. })));
    for name in ["a.tiktoken", "b.tiktoken"] {
        reference().save_as(&folder.path().join(name), super::super::TokenizerFormat::Tiktoken).unwrap();
    }
    assert!(matches!(Tokenizer::load(folder.path()), Err(TokenizerError::Ambiguous { count: 2, .. })));
    assert!(matches!(Tokenizer::load(&folder.path().join("c.tiktoken")), Err(TokenizerError::Io { .. })));
}
