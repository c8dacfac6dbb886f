//! Hugging Face's `tokenizer.json`, the format in which tokenizers are kept and exchanged.
//!
//! Bytes are written as the printable characters of the byte-level alphabet of GPT-2; merges are derived from the ranks,
//! one a token. `ignore_merges` says the same as tiktoken's first step: a piece that is a token needs no merging. Only
//! files that say exactly what the baseline's kind of tokenizer says are read: another split, a normaliser, or merges
//! that don't follow from the ids would silently give other ids.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::rank_table::RankTable;
use super::vocabulary::Vocabulary;
use super::{SPECIAL_TOKENS, SPLIT_PATTERN, TokenizerError, check_special_tokens};

/// The printable character that stands for each byte.
fn alphabet() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

/// The document, with the vocabulary in the order of the ids.
pub(super) fn write(vocabulary: &Vocabulary) -> Result<String, TokenizerError> {
    let alphabet = alphabet();
    let spelled: Vec<String> =
        vocabulary.ranks().iter().map(|bytes| bytes.iter().map(|&byte| alphabet[byte as usize]).collect()).collect();
    let merges = merges(vocabulary)?;
    let merges: Vec<[&str; 2]> =
        merges.iter().map(|&(l, r)| [spelled[l as usize].as_str(), spelled[r as usize].as_str()]).collect();
    let document = Document {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added_tokens(spelled.len()),
        normalizer: None,
        pre_tokenizer: pre_tokenizer(),
        post_processor: None,
        decoder: byte_level(true),
        model: Model {
            kind: "BPE",
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: true,
            vocab: OrderedVocabulary(&spelled),
            merges,
        },
    };
    let mut text = serde_json::to_string_pretty(&document)
        .map_err(|error| TokenizerError::InvalidRanks(format!("can't be written as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// Both parts of each token that is no single byte, in the order of the ids.
fn merges(vocabulary: &Vocabulary) -> Result<Vec<(u32, u32)>, TokenizerError> {
    let long = vocabulary.ranks().par_iter().enumerate().filter(|(_, bytes)| bytes.len() > 1);
    long.map(|(id, bytes)| {
        vocabulary.parents(id as u32).ok_or_else(|| {
            TokenizerError::InvalidRanks(format!(
                "token {id} ({:?}) is not the merge of two tokens of lower rank, so `tokenizer.json` can't say it; `.tiktoken` can",
                String::from_utf8_lossy(bytes)
            ))
        })
    })
    .collect()
}

#[derive(Serialize)]
struct Document<'d> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Value>,
    normalizer: Option<()>,
    pre_tokenizer: Value,
    post_processor: Option<()>,
    decoder: Value,
    model: Model<'d>,
}

#[derive(Serialize)]
struct Model<'d> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: OrderedVocabulary<'d>,
    merges: Vec<[&'d str; 2]>,
}

/// `{token: id}` in the order of the ids.
struct OrderedVocabulary<'d>(&'d [String]);

impl Serialize for OrderedVocabulary<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().enumerate().map(|(id, token)| (token, id)))
    }
}

fn added_tokens(offset: usize) -> Vec<Value> {
    let token = |(i, name): (usize, &&str)| {
        json!({
            "id": offset + i, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    SPECIAL_TOKENS.iter().enumerate().map(token).collect()
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

fn pre_tokenizer() -> Value {
    let split =
        json!({ "type": "Split", "pattern": { "Regex": SPLIT_PATTERN }, "behavior": "Isolated", "invert": false });
    json!({ "type": "Sequence", "pretokenizers": [split, byte_level(false)] })
}

/// Reads the ranks. `path` is for messages.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TokenizerError> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| {
        TokenizerError::malformed(path, format!("line {}, column {}", error.line(), error.column()), error.to_string())
    })?;
    let ranks = read_vocabulary(&document["model"]["vocab"])
        .map_err(|problem| TokenizerError::malformed(path, "model.vocab", problem))?;
    read_rest(&document, ranks.len()).map_err(|(place, problem)| TokenizerError::malformed(path, place, problem))?;
    let vocabulary = Vocabulary::new(ranks)?;
    check_merges(&document["model"]["merges"], &vocabulary)
        .map_err(|problem| TokenizerError::malformed(path, "model.merges", problem))?;
    Ok(vocabulary.ranks().to_vec())
}

fn read_vocabulary(vocab: &Value) -> Result<Vec<Vec<u8>>, String> {
    let vocab = vocab.as_object().ok_or("expected a map from token to id")?;
    let alphabet = alphabet();
    let byte_of: std::collections::HashMap<char, u8> = (0..=u8::MAX).map(|b| (alphabet[b as usize], b)).collect();
    // Other writers list the special tokens here too; they are checked with the added ones.
    let ordinary = || vocab.iter().filter(|(token, _)| !SPECIAL_TOKENS.contains(&token.as_str()));
    let mut table = RankTable::with_capacity(ordinary().count());
    for (token, id) in ordinary() {
        let bytes = token.chars().map(|c| byte_of.get(&c).copied()).collect::<Option<Vec<u8>>>();
        let bytes = bytes.ok_or_else(|| format!("{token:?} is not written in the byte-level alphabet"))?;
        let id = id.as_i64().ok_or_else(|| format!("the id of {token:?} is no number"))?;
        table.set(id, &bytes)?;
    }
    table.finish()
}

/// Holds everything but vocabulary and merges against what [`write()`] says.
fn read_rest(document: &Value, offset: usize) -> Result<(), (&'static str, String)> {
    let expect = |place, found: &Value, expected: Value| {
        let same = *found == expected;
        same.then_some(())
            .ok_or_else(|| (place, format!("expected {expected}, found {found}; it would give other ids")))
    };
    expect("model.type", &document["model"]["type"], json!("BPE"))?;
    expect("normalizer", &document["normalizer"], Value::Null)?;
    expect("pre_tokenizer", &document["pre_tokenizer"], pre_tokenizer())?;
    for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        expect("model", &document["model"][key], Value::Null)?;
    }
    let added = document["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let added = added.iter().map(|token| Some((token["content"].as_str()?.to_string(), token["id"].as_i64()?)));
    let added = added.collect::<Option<Vec<_>>>().ok_or(("added_tokens", "expected content and id".to_string()))?;
    check_special_tokens(added, offset).map_err(|problem| ("added_tokens", problem))
}

/// The merges must be those that follow from the ids, since ids are all that is kept.
fn check_merges(merges: &Value, vocabulary: &Vocabulary) -> Result<(), String> {
    let merges = merges.as_array().ok_or("expected a list")?;
    let expected = self::merges(vocabulary).map_err(|error| error.to_string())?;
    if merges.len() != expected.len() {
        return Err(format!("{} merges, but {} follow from the ids", merges.len(), expected.len()));
    }
    let alphabet = alphabet();
    let spell =
        |id: u32| -> String { vocabulary.ranks()[id as usize].iter().map(|&byte| alphabet[byte as usize]).collect() };
    for (number, (merge, &(left, right))) in merges.iter().zip(&expected).enumerate() {
        let same = match merge {
            Value::String(text) => *text == format!("{} {}", spell(left), spell(right)),
            other => *other == json!([spell(left), spell(right)]),
        };
        if !same {
            return Err(format!(
                "merge {number} is {merge}; from the ids follows {:?} {:?}",
                spell(left),
                spell(right)
            ));
        }
    }
    Ok(())
}
