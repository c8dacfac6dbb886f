//! Token lists of documents, kept by the hash of their text and of the tokenizer, so that a run that starts again doesn't
//! tokenise again. What comes out is the same with and without.

use std::sync::Arc;

use crate::cache::{Cache, Key, KeyBuilder};
use crate::tokenizer::Tokenizer;

/// Kind of the entries, and the version of their form. Ids are those of the baseline's encoder, so how they are found is
/// no part of it.
const KIND: &str = "tokens";
const VERSION: &str = "tokens/v1";
/// Largest vocabulary whose ids fit into two bytes.
const NARROW: usize = 1 << 16;

/// Reads with a document above this many bytes are encoded again by the next start: all their tokens at once would take more
/// memory than the text.
const LONG: usize = 1 << 20;

/// An encoded document: what packing needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Length in tokens, `<|bos|>` included.
    pub length: usize,
    /// Its first tokens, as many as a row can take.
    pub first: Vec<u32>,
}

/// Encodes documents with one tokenizer, or finds what came out before.
#[derive(Debug)]
pub(super) struct TokenStore {
    tokenizer: Arc<Tokenizer>,
    cache: Option<Arc<Cache>>,
    sha256: Arc<str>,
    /// Tokens of a row.
    row: usize,
}

impl TokenStore {
    pub fn new(tokenizer: Arc<Tokenizer>, cache: Option<Arc<Cache>>, row: usize) -> Self {
        let sha256 = tokenizer.sha256().into();
        Self { tokenizer, cache, sha256, row }
    }

    /// SHA-256 of the tokenizer.
    pub fn tokenizer(&self) -> Arc<str> {
        self.sha256.clone()
    }

    /// Tokens that are kept of a document at most.
    pub fn row(&self) -> usize {
        self.row
    }

    /// The tokens of each document, `<|bos|>` first.
    pub fn encode(&self, documents: &[String]) -> Vec<Tokens> {
        let is_long = documents.iter().any(|text| text.len() > LONG);
        match &self.cache {
            Some(cache) if !is_long => self.kept(cache, documents).into_iter().map(|ids| self.cut(ids)).collect(),
            _ => {
                let first = documents.iter().map(|text| self.tokenizer.encode_document_first(text, self.row));
                first.map(|(length, first)| Tokens { length, first }).collect()
            }
        }
    }

    fn cut(&self, mut ids: Vec<u32>) -> Tokens {
        let length = ids.len();
        ids.truncate(self.row);
        ids.shrink_to_fit();
        Tokens { length, first: ids }
    }

    /// All tokens of each document, from the cache or encoded and kept there.
    fn kept(&self, cache: &Cache, documents: &[String]) -> Vec<Vec<u32>> {
        let key = key(&self.sha256, documents);
        let kept = cache.get(KIND, &key).and_then(|bytes| self.parse(&bytes, documents.len()));
        kept.unwrap_or_else(|| {
            let encoded: Vec<_> = documents.iter().map(|text| self.tokenizer.encode_document(text)).collect();
            cache.put(KIND, &key, &self.bytes(&encoded));
            encoded
        })
    }

    /// Bytes a token.
    fn width(&self) -> usize {
        if self.tokenizer.vocab_size() <= NARROW { 2 } else { 4 }
    }

    /// The number of tokens of each document, then all tokens, little-endian.
    fn bytes(&self, documents: &[Vec<u32>]) -> Vec<u8> {
        let width = self.width();
        let tokens: usize = documents.iter().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(4 * documents.len() + width * tokens);
        documents.iter().for_each(|document| bytes.extend_from_slice(&(document.len() as u32).to_le_bytes()));
        for token in documents.iter().flatten() {
            bytes.extend_from_slice(&token.to_le_bytes()[..width]);
        }
        bytes
    }

    /// The lists again; none where the bytes aren't those of so many documents.
    fn parse(&self, bytes: &[u8], count: usize) -> Option<Vec<Vec<u32>>> {
        let (lengths, mut rest) = bytes.split_at_checked(4 * count)?;
        let width = self.width();
        let mut documents = Vec::with_capacity(count);
        for length in lengths.as_chunks::<4>().0 {
            let (tokens, after) = rest.split_at_checked(width * u32::from_le_bytes(*length) as usize)?;
            documents.push(match width {
                2 => tokens.as_chunks::<2>().0.iter().map(|token| u32::from(u16::from_le_bytes(*token))).collect(),
                _ => tokens.as_chunks::<4>().0.iter().map(|token| u32::from_le_bytes(*token)).collect(),
            });
            rest = after;
        }
        rest.is_empty().then_some(documents)
    }
}

fn key(tokenizer: &str, documents: &[String]) -> Key {
    let mut key = KeyBuilder::new(VERSION).with(tokenizer);
    documents.iter().for_each(|text| key.add(text));
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Secret;

    fn tokenizer(words: &[&str]) -> Arc<Tokenizer> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        Arc::new(
            Tokenizer::from_ranks(bytes.chain(words.iter().map(|word| word.as_bytes().to_vec())).collect()).unwrap(),
        )
    }

    /// More than any document here has.
    const ROW: usize = 100;

    fn documents() -> Vec<String> {
        ["", "ab abab", "你好 🙂", "b"].map(str::to_string).into()
    }

    #[test]
    fn what_is_kept_is_what_is_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::new(folder.path(), u64::MAX, Secret::at(&folder.path().join("key")).unwrap()));
        let (one, other) = (tokenizer(&["ab"]), tokenizer(&["ab", "abab"]));
        let plain = TokenStore::new(one.clone(), None, ROW).encode(&documents());
        assert_eq!(plain[0], Tokens { length: 1, first: vec![one.bos_id()] });
        for round in 0..2 {
            let store = TokenStore::new(one.clone(), Some(cache.clone()), ROW);
            assert_eq!(store.encode(&documents()), plain);
            assert_eq!(cache.contents()[KIND].entries, 1 + round);
            // Another tokenizer, other text and other borders have entries of their own.
            let store = TokenStore::new(other.clone(), Some(cache.clone()), ROW);
            assert_ne!(store.encode(&documents()), plain);
            if round == 0 {
                assert_eq!(cache.contents()[KIND].entries, 2);
                assert_eq!(cache.clear().unwrap()[KIND].entries, 2);
                cache.put(KIND, &key(&other.sha256(), &documents()), b"of another form");
                assert_ne!(TokenStore::new(other.clone(), Some(cache.clone()), ROW).encode(&documents()), plain);
            }
        }
        let store = TokenStore::new(one.clone(), Some(cache.clone()), ROW);
        let joined = [documents().concat()];
        let whole = one.encode_document(&joined[0]);
        assert_eq!(store.encode(&joined), [Tokens { length: whole.len(), first: whole }]);
        assert_eq!(cache.contents()[KIND].entries, 3);
    }

    #[test]
    fn the_kept_tokens_are_taken_without_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::new(folder.path(), u64::MAX, Secret::at(&folder.path().join("key")).unwrap()));
        let store = TokenStore::new(tokenizer(&[]), Some(cache.clone()), 2);
        let planted = vec![vec![7, 8, 9], vec![], vec![1], vec![65_535]];
        cache.put(KIND, &key(&store.tokenizer.sha256(), &documents()), &store.bytes(&planted));
        let first: Vec<Vec<u32>> = store.encode(&documents()).into_iter().map(|tokens| tokens.first).collect();
        assert_eq!(first, [vec![7, 8], vec![], vec![1], vec![65_535]]);
    }

    #[test]
    fn a_long_document_is_counted_whole_and_kept_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::new(folder.path(), u64::MAX, Secret::at(&folder.path().join("key")).unwrap()));
        let tokenizer = tokenizer(&["ab", "abab", " a"]);
        let text = "abab ab a".repeat(LONG / 8);
        let whole = tokenizer.encode_document(&text);
        for row in [1, 7, whole.len(), whole.len() + 5] {
            let store = TokenStore::new(tokenizer.clone(), Some(cache.clone()), row);
            let [Tokens { length, first }] = &store.encode(std::slice::from_ref(&text))[..] else { panic!("one") };
            assert_eq!((*length, &first[..]), (whole.len(), &whole[..row.min(whole.len())]));
        }
        // All its tokens would take more than the text.
        assert!(cache.contents().get(KIND).is_none_or(|kind| kind.entries == 0));
    }

    #[test]
    fn bytes_of_other_sizes_are_none() {
        let store = TokenStore::new(tokenizer(&[]), None, ROW);
        let bytes = store.bytes(&[vec![1, 2], vec![3]]);
        assert_eq!(store.parse(&bytes, 2), Some(vec![vec![1, 2], vec![3]]));
        assert_eq!(store.parse(&bytes, 1), None);
        assert_eq!(store.parse(&bytes, 3), None);
        assert_eq!(store.parse(&bytes[..bytes.len() - 1], 2), None);
        assert_eq!(store.parse(&[&bytes[..], &[0, 0]].concat(), 2), None);
    }
}
