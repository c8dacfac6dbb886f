//! Texts and conversations as the baseline encodes them, by each way of loading.

use serde_json::Value;

use super::super::{Conversation, TokenizerFormat};
use super::*;

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("tokenizer_cases.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

fn check_texts(encode: impl Fn(&str) -> Vec<u32>, decode: impl Fn(&[u32]) -> String) {
    let cases = cases();
    let encoded = cases["encode"].as_array().unwrap();
    assert_eq!(encoded.len(), 138);
    for case in encoded {
        let (text, ids) = (case["text"].as_str().unwrap(), numbers(&case["ids"]));
        assert_eq!(encode(text), ids, "{text:?}");
        assert_eq!(decode(&ids), text);
    }
}

#[test]
fn texts_have_the_reference_ids() {
    let tokenizer = reference();
    check_texts(|text| tokenizer.encode(text), |ids| tokenizer.decode(ids));
    // Again, now that the cache is warm.
    check_texts(|text| tokenizer.encode(text), |ids| tokenizer.decode(ids));
}

#[test]
fn the_pickle_holds_the_same_tokenizer() {
    let pickled = Tokenizer::load(&fixture("tokenizer_1024.pkl")).unwrap();
    assert_eq!(pickled.ranks(), reference().ranks());
    assert_eq!(pickled.sha256(), reference().sha256());
}

#[test]
fn every_format_reads_back_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [
        ("tokenizer.json", TokenizerFormat::HuggingFace),
        ("x.tiktoken", TokenizerFormat::Tiktoken),
        ("tokenizer.pkl", TokenizerFormat::Pickle),
    ] {
        let file = folder.path().join(name);
        reference().save_as(&file, format).unwrap();
        assert_eq!(Tokenizer::load(&file).unwrap().ranks(), reference().ranks(), "{name}");
    }
    assert_eq!(Tokenizer::load(folder.path()).unwrap().sha256(), reference().sha256());
}

#[test]
fn the_tokenizers_crate_gives_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    reference().save(folder.path()).unwrap();
    let mut theirs = tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    for (name, id) in reference().special_tokens() {
        assert_eq!(theirs.token_to_id(name), Some(id));
    }
    theirs.set_encode_special_tokens(true);
    check_texts(
        |text| theirs.encode(text, false).unwrap().get_ids().to_vec(),
        |ids| theirs.decode(ids, false).unwrap(),
    );
}

#[test]
fn special_tokens_and_lengths_are_the_reference_ones() {
    let (tokenizer, cases) = (reference(), cases());
    assert_eq!(tokenizer.vocab_size() as u64, cases["vocab_size"].as_u64().unwrap());
    assert_eq!(tokenizer.token_bytes(), numbers(&cases["token_bytes"]));
    let special = cases["special_tokens"].as_object().unwrap();
    assert_eq!(special.len(), super::super::SPECIAL_TOKENS.len());
    for (name, id) in special {
        assert_eq!(tokenizer.special_id(name), id.as_u64().map(|id| id as u32), "{name}");
    }
    assert_eq!(tokenizer.special_id("<|other|>"), None);
}

#[test]
fn conversations_render_as_the_reference_does() {
    let (tokenizer, cases) = (reference(), cases());
    let conversations = cases["conversations"].as_array().unwrap();
    assert_eq!(conversations.len(), 12);
    for case in conversations {
        let conversation = Conversation::from_json(&case["conversation"]).unwrap();
        if case["for_completion"].as_bool() == Some(true) {
            assert_eq!(tokenizer.render_for_completion(&conversation).unwrap(), numbers(&case["ids"]));
            continue;
        }
        let max_tokens = case["max_tokens"].as_u64().unwrap() as usize;
        let rendered = tokenizer.render_conversation(&conversation, max_tokens).unwrap();
        assert_eq!(rendered.ids, numbers(&case["ids"]));
        assert_eq!(rendered.mask.iter().map(|&m| u32::from(m)).collect::<Vec<_>>(), numbers(&case["mask"]));
    }
}
