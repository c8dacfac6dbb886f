//! The reference's cases, the interchange formats, and hostile files.

mod cases;
mod hostile;
mod text;

use std::path::PathBuf;
use std::sync::LazyLock;

use super::Tokenizer;

/// A file of `fixtures/tokenizer`.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizer").join(name)
}

/// The reference's tokenizer of 1,024 tokens.
fn reference() -> &'static Tokenizer {
    static REFERENCE: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::load(&fixture("tokenizer_1024.tiktoken")).unwrap());
    &REFERENCE
}
