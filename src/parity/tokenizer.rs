//! Texts and conversations against the ids that the baseline gives them (`tokenizer_cases.json`).

use std::path::Path;

use serde_json::Value;

use nanochat_engine::tokenizer::{Conversation, Tokenizer};

use super::check::{Concerning, mismatches};
use super::checkpoint::{document, tokenizer};
use super::{Check, ParityError};

/// Encodes and decodes every text and renders every conversation of `file` with `tokenizer_<vocab_size>.tiktoken` of
/// the same folder: ids, masks, special tokens and lengths must be equal, by our encoder and by the `tokenizers` crate from our
/// `tokenizer.json`.
///
/// # Errors
/// The file or its ranks can't be read.
pub fn check_cases(file: &Path) -> Result<Vec<Check>, ParityError> {
    let cases: Value = document(file)?;
    let vocab_size = cases["vocab_size"].as_u64().ok_or_else(|| ParityError::unreadable(file, "no `vocab_size`"))?;
    let tokenizer = tokenizer(file, vocab_size as usize)?;
    let mut checks = check_vocabulary(file, &cases, &tokenizer);
    checks.extend(check_texts(file, &cases, &tokenizer)?);
    checks.extend(check_conversations(file, &cases, &tokenizer)?);
    Ok(checks)
}

fn check_vocabulary(file: &Path, cases: &Value, tokenizer: &Tokenizer) -> Vec<Check> {
    let size_differs = cases["vocab_size"].as_u64() != Some(tokenizer.vocab_size() as u64);
    let empty = serde_json::Map::new();
    let special = cases["special_tokens"].as_object().unwrap_or(&empty);
    let wrong = special.iter().filter(|(name, id)| tokenizer.special_id(name).map(u64::from) != id.as_u64()).count();
    let missing = tokenizer.special_tokens().filter(|(name, _)| !special.contains_key(*name)).count();
    let lengths = numbers(&cases["token_bytes"]);
    vec![
        Check::mismatches(file, "vocabulary size", usize::from(size_differs), 1),
        Check::mismatches(file, "special tokens", wrong + missing, special.len()),
        Check::equal(file, "bytes per token", &tokenizer.token_bytes(), &lengths),
    ]
}

fn check_texts(file: &Path, cases: &Value, tokenizer: &Tokenizer) -> Result<Vec<Check>, ParityError> {
    let crate_tokenizer = interchange(file, tokenizer)?;
    let (mut ids_differ, mut decoded_differ, mut crate_differs, mut total) = (0, 0, 0, 0);
    for case in list(file, cases, "encode")? {
        let text = case["text"].as_str().ok_or_else(|| ParityError::unreadable(file, "a case without `text`"))?;
        let ids = numbers(&case["ids"]);
        let encoded = crate_tokenizer.encode(text, false).computing(file)?;
        total += ids.len().max(1);
        ids_differ += mismatches(&tokenizer.encode(text), &ids);
        crate_differs += mismatches(encoded.get_ids(), &ids);
        decoded_differ += usize::from(tokenizer.decode(&ids) != text);
    }
    let texts = list(file, cases, "encode")?.len();
    Ok(vec![
        Check::mismatches(file, "ids of texts", ids_differ, total),
        Check::mismatches(file, "ids of texts by the tokenizers crate", crate_differs, total),
        Check::mismatches(file, "texts decoded from ids", decoded_differ, texts),
    ])
}

/// Our `tokenizer.json` as the `tokenizers` crate reads it.
fn interchange(file: &Path, tokenizer: &Tokenizer) -> Result<tokenizers::Tokenizer, ParityError> {
    let json = tokenizer.to_json().computing(file)?;
    let mut read = tokenizers::Tokenizer::from_bytes(json).computing(file)?;
    read.set_encode_special_tokens(true);
    Ok(read)
}

fn check_conversations(file: &Path, cases: &Value, tokenizer: &Tokenizer) -> Result<Vec<Check>, ParityError> {
    let (mut ids_differ, mut masks_differ, mut ids_total, mut masks_total) = (0, 0, 0, 0);
    for case in list(file, cases, "conversations")? {
        let conversation = Conversation::from_json(&case["conversation"]).computing(file)?;
        let expected = numbers(&case["ids"]);
        ids_total += expected.len();
        if case["for_completion"].as_bool() == Some(true) {
            let ids = tokenizer.render_for_completion(&conversation).computing(file)?;
            ids_differ += mismatches(&ids, &expected);
            continue;
        }
        let max_tokens = case["max_tokens"].as_u64().map_or(usize::MAX, |tokens| tokens as usize);
        let rendered = tokenizer.render_conversation(&conversation, max_tokens).computing(file)?;
        let mask: Vec<u32> = rendered.mask.iter().map(|&learnt| u32::from(learnt)).collect();
        ids_differ += mismatches(&rendered.ids, &expected);
        masks_differ += mismatches(&mask, &numbers(&case["mask"]));
        masks_total += expected.len();
    }
    Ok(vec![
        Check::mismatches(file, "ids of conversations", ids_differ, ids_total),
        Check::mismatches(file, "loss masks of conversations", masks_differ, masks_total),
    ])
}

fn list<'v>(file: &Path, cases: &'v Value, key: &str) -> Result<&'v [Value], ParityError> {
    let list = cases[key].as_array().ok_or_else(|| ParityError::unreadable(file, format!("no list `{key}`")))?;
    Ok(list)
}

/// The ids of a list; anything else becomes a number that no id equals.
fn numbers(value: &Value) -> Vec<u32> {
    let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
    numbers.iter().map(|number| number.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer").join(name)
    }

    #[test]
    fn the_reference_cases_are_all_equal() {
        let checks = check_cases(&fixture("tokenizer_cases.json")).unwrap();
        assert_eq!(checks.len(), 8);
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    }

    #[test]
    fn one_wrong_id_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fixture("tokenizer_1024.tiktoken"), folder.path().join("tokenizer_1024.tiktoken")).unwrap();
        let text = std::fs::read_to_string(fixture("tokenizer_cases.json")).unwrap();
        let mut cases: Value = serde_json::from_str(&text).unwrap();
        let wrong = |id: &mut Value| *id = Value::from(id.as_u64().unwrap() + 1);
        wrong(&mut cases["encode"][5]["ids"][0]);
        wrong(&mut cases["conversations"][0]["mask"][0]);
        wrong(&mut cases["token_bytes"][300]);
        let file = folder.path().join("tokenizer_cases.json");
        std::fs::write(&file, cases.to_string()).unwrap();
        let failed = check_cases(&file).unwrap().into_iter().filter(|check| !check.ok);
        let failed: Vec<(String, f64)> = failed.map(|check| (check.quantity, check.max_abs)).collect();
        let expected = [
            ("bytes per token", 1.0),
            ("ids of texts", 1.0),
            ("ids of texts by the tokenizers crate", 1.0),
            ("texts decoded from ids", 1.0),
            ("loss masks of conversations", 1.0),
        ];
        assert_eq!(failed, expected.map(|(quantity, count)| (quantity.to_string(), count)));
    }
}
