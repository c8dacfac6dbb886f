//! The tokenizer: byte-pair encoding with the baseline's ranks and ids, exactly (`nanochat/tokenizer.py`: trained by
//! rustbpe, encoded by tiktoken).
//!
//! A vocabulary is a list of byte strings by rank, followed by nine special tokens. It is kept as Hugging Face's
//! `tokenizer.json` and loads in the `tokenizers` crate with equal ids, which the tests hold; text is encoded here by an
//! encoder of our own, because the crate spends most of its time on offsets and strings that nobody asks for.
//!
//! Refused: other split patterns, other special tokens, merges that don't follow from the ranks. Text that spells a
//! special token is ordinary text everywhere; special tokens are only ever added by id.

mod conversation;
mod difference;
mod encode;
mod error;
mod files;
mod huggingface;
mod merge;
mod pickle;
mod published;
mod rank_table;
pub mod special;
pub mod split;
mod tiktoken;
mod train;
mod vocabulary;
mod words;

#[cfg(test)]
mod tests;

pub use conversation::{Content, Conversation, ConversationError, Message, Part, PartKind, Rendered, Role};
pub use difference::{Difference, Piece};
pub use error::TokenizerError;
pub use files::TokenizerFormat;
pub use published::{Published, PublishedName};
pub use special::SPECIAL_TOKENS;
pub use split::SPLIT_PATTERN;
pub use train::Trainer;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::cache::hex;
use encode::Encoder;
use vocabulary::Vocabulary;

/// A byte-pair tokenizer. Holds its whole vocabulary: share it behind an `Arc`.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    encoder: Encoder,
}

impl Tokenizer {
    /// A tokenizer from the bytes of each token, by rank; the special tokens follow.
    ///
    /// # Errors
    /// A single byte is missing, or a token is empty or there twice.
    pub fn from_ranks(ranks: Vec<Vec<u8>>) -> Result<Self, TokenizerError> {
        Ok(Self { vocabulary: Vocabulary::new(ranks)?, encoder: Encoder::new() })
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Bytes of each token, by rank, special tokens not included.
    pub fn ranks(&self) -> &[Vec<u8>] {
        self.vocabulary.ranks()
    }

    /// Number of tokens, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.ranks().len() + SPECIAL_TOKENS.len()
    }

    /// Id of the token that begins every document.
    pub fn bos_id(&self) -> u32 {
        self.ranks().len() as u32
    }

    /// Id of a special token by its name, such as `<|user_start|>`.
    pub fn special_id(&self, name: &str) -> Option<u32> {
        let index = SPECIAL_TOKENS.iter().position(|&token| token == name)?;
        Some((self.ranks().len() + index) as u32)
    }

    /// Names and ids of the special tokens, in the order of their ids.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        SPECIAL_TOKENS.iter().enumerate().map(|(i, &name)| (name, (self.ranks().len() + i) as u32))
    }

    /// Ids of `text`, in which the names of special tokens are ordinary text (tiktoken's `encode_ordinary`).
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // English takes 3 to 4 bytes a token.
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_into(text, &mut ids);
        ids
    }

    /// Appends the ids of `text` to `ids`.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        self.encoder.encode_into(&self.vocabulary, text, ids);
    }

    /// Ids of a document: `<|bos|>`, then the text's.
    pub fn encode_document(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.push(self.bos_id());
        self.encode_into(text, &mut ids);
        ids
    }

    /// Length in tokens of a document, `<|bos|>` included, and its first tokens, at most `most` of them.
    pub fn encode_document_first(&self, text: &str, most: usize) -> (usize, Vec<u32>) {
        let (length, mut ids) = self.encoder.encode_first(&self.vocabulary, text, most.saturating_sub(1));
        if most > 0 {
            ids.insert(0, self.bos_id());
        }
        (length + 1, ids)
    }

    /// Ids of each text, in order, encoded in parallel on the current thread pool.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Text of the ids; what is not UTF-8 becomes U+FFFD, as with Python's `errors="replace"`.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// Bytes of the ids. Special tokens give their names; an id past the vocabulary (a padding row of the embedding)
    /// gives U+FFFD.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.bytes_of(id)).copied().collect()
    }

    /// Bytes of one token, see [`Self::decode_bytes`].
    fn bytes_of(&self, id: u32) -> &[u8] {
        let index = id as usize;
        match self.ranks().get(index) {
            Some(bytes) => bytes,
            None => SPECIAL_TOKENS.get(index - self.ranks().len()).unwrap_or(&"\u{FFFD}").as_bytes(),
        }
    }

    /// Length of each token in bytes, by id; 0 for special tokens, which bits per byte doesn't count.
    pub fn token_bytes(&self) -> Vec<u32> {
        let ordinary = self.ranks().iter().map(|bytes| bytes.len() as u32);
        ordinary.chain(SPECIAL_TOKENS.iter().map(|_| 0)).collect()
    }

    /// SHA-256 over ranks and special tokens, 64 hex digits: the same for every file format.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |tokens: &mut dyn ExactSizeIterator<Item = &[u8]>| {
            hash.update((tokens.len() as u64).to_le_bytes());
            for token in tokens {
                hash.update((token.len() as u64).to_le_bytes());
                hash.update(token);
            }
        };
        add(&mut self.ranks().iter().map(Vec::as_slice));
        add(&mut SPECIAL_TOKENS.iter().map(|name| name.as_bytes()));
        hex(&hash.finalize())
    }
}

/// Holds the special tokens of a file against the baseline's, which follow the ranks in their order.
fn check_special_tokens(mut found: Vec<(String, i64)>, offset: usize) -> Result<(), String> {
    found.sort_by_key(|&(_, id)| id);
    let expected = SPECIAL_TOKENS.iter().enumerate().map(|(i, &name)| (name.to_string(), (offset + i) as i64));
    let expected: Vec<_> = expected.collect();
    if found == expected {
        return Ok(());
    }
    Err(format!("the special tokens are {found:?}; expected {expected:?}"))
}
