//! Byte-pair ranks against those that the baseline trained (`tokenizer_<vocab_size>.tiktoken`, `.pkl`).

use std::path::Path;

use nanochat_engine::data::train_tokenizer;
use nanochat_engine::tokenizer::Tokenizer;

use super::check::Concerning;
use super::checkpoint::open_corpus;
use super::{Check, ParityError};

/// Characters of each document that the reference's ranks were trained on (the baseline's default).
const MAX_CHARS_PER_DOCUMENT: u64 = 10_000;
/// Characters after which training stops (the baseline's default).
const MAX_CHARS: u64 = 2_000_000_000;

/// Reads the ranks of `file`; compares them with the file of the same name and the other kind, if the folder has one, and
/// with our `tokenizer.json` read back; with `data`, a folder of parquet shards, also trains as many ranks on its
/// training split, and compares those.
///
/// # Errors
/// A file can't be read, or training fails.
pub fn check_ranks(file: &Path, data: Option<&Path>) -> Result<Vec<Check>, ParityError> {
    let reference = Tokenizer::load(file).reading(file)?;
    let json = reference.to_json().computing(file)?;
    let read_back = Tokenizer::from_json(&json).computing(file)?;
    let mut checks = vec![Check::equal(file, "ranks through tokenizer.json", read_back.ranks(), reference.ranks())];
    for extension in ["tiktoken", "pkl"] {
        let sibling = file.with_extension(extension);
        if sibling != file && sibling.is_file() {
            let other = Tokenizer::load(&sibling).reading(&sibling)?;
            checks.push(Check::equal(file, format!("ranks in .{extension}"), other.ranks(), reference.ranks()));
        }
    }
    if let Some(data) = data {
        let corpus = open_corpus(data)?;
        let trained =
            train_tokenizer(&corpus, reference.vocab_size(), MAX_CHARS_PER_DOCUMENT, MAX_CHARS).computing(file)?;
        checks.push(Check::equal(file, "ranks trained on the data", trained.ranks(), reference.ranks()));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_file_hold_the_same_ranks() {
        for name in ["tokenizer_1024.tiktoken", "tokenizer_1024.pkl"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer").join(name);
            let checks = check_ranks(&file, None).unwrap();
            assert_eq!(checks.len(), 2);
            assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
        }
    }

    #[test]
    fn ranks_trained_on_the_books_are_equal() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        if !shared.exists() {
            println!("skipped: {} is not here", shared.display());
            return;
        }
        let file = shared.join("reference/tokenizer_1024.tiktoken");
        let checks = check_ranks(&file, Some(&shared.join("data/books"))).unwrap();
        assert_eq!(checks.len(), 3);
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    }
}
