//! The reference's cases, the interchange formats, and hostile files.

mod cases;

use std::path::PathBuf;

use super::Tokenizer;

/// A file of `fixtures/tokenizer`.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer").join(name)
}

/// The reference's tokenizer of 1,024 tokens.
fn reference() -> Tokenizer {
    Tokenizer::load(&fixture("tokenizer_1024.tiktoken")).unwrap()
}
