//! Tokenizers that were trained before, by the hash of the text that they were trained on.
//!
//! To find that hash a second time without reading the text, it is kept under a stamp of the files: their paths, sizes,
//! times of change and numbers. A file that changes without its stamp is one whose change the system doesn't tell.

use crate::cache::{Cache, Key, KeyBuilder};
use crate::tokenizer::Tokenizer;

use super::vocabulary::{Limits, for_training_texts, train_tokenizer};
use super::{Corpus, DataError};

/// Kinds of the entries, and the versions of their forms. Merges are rustbpe's, so how they are found is no part of it.
const TEXTS: &str = "training_texts";
const TEXTS_VERSION: &str = "training_texts/v1";
const TOKENIZER: &str = "tokenizer";
const TOKENIZER_VERSION: &str = "tokenizer/v1";

/// As [`train_tokenizer`], unless the same was trained before.
///
/// # Errors
/// As [`train_tokenizer`].
pub fn trained_tokenizer(
    corpus: &Corpus,
    vocab_size: usize,
    max_chars_per_document: u64,
    max_chars: u64,
) -> Result<Tokenizer, DataError> {
    let limits = Limits { max_chars_per_document, max_chars };
    let Some(cache) = corpus.cache() else {
        return train_tokenizer(corpus, vocab_size, max_chars_per_document, max_chars);
    };
    let texts = texts(corpus, limits, cache)?;
    let key = tokenizer_key(&texts, vocab_size);
    let kept = cache.get(TOKENIZER, &key).and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(tokenizer) = kept.and_then(|json| Tokenizer::from_json(&json).ok()) {
        return Ok(tokenizer);
    }
    let tokenizer = train_tokenizer(corpus, vocab_size, max_chars_per_document, max_chars)?;
    cache.put(TOKENIZER, &key, tokenizer.to_json()?.as_bytes());
    Ok(tokenizer)
}

fn tokenizer_key(texts: &[u8], vocab_size: usize) -> Key {
    KeyBuilder::new(TOKENIZER_VERSION).with(texts).with((vocab_size as u64).to_le_bytes()).finish()
}

/// Hash of the texts that training reads.
fn texts(corpus: &Corpus, limits: Limits, cache: &Cache) -> Result<Vec<u8>, DataError> {
    let stamped = corpus.stamp().map(|stamp| {
        let key = KeyBuilder::new(TEXTS_VERSION).with(stamp.bytes());
        key.with(limits.max_chars_per_document.to_le_bytes()).with(limits.max_chars.to_le_bytes()).finish()
    });
    if let Some(known) = stamped.as_ref().and_then(|key: &Key| cache.get(TEXTS, key)) {
        return Ok(known);
    }
    let mut hash = KeyBuilder::new(TEXTS_VERSION);
    for_training_texts(corpus, limits, &mut |texts| texts.iter().for_each(|text| hash.add(text)))?;
    let hash = hash.finish().bytes().to_vec();
    if let Some(key) = stamped {
        cache.put(TEXTS, &key, &hash);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::cache::Secret;
    use nanochat_plan::DataPlan;

    fn corpus(seed: u64, cache: &Arc<Cache>) -> Corpus {
        let plan = DataPlan::Synthetic { seed, bytes: 60_000 };
        Corpus::open(&plan, Path::new("")).unwrap().with_cache(cache.clone())
    }

    #[test]
    fn the_same_training_is_done_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::new(folder.path(), u64::MAX, Secret::at(&folder.path().join("key")).unwrap()));
        let train = |seed: u64, vocab_size: usize, most: u64| {
            trained_tokenizer(&corpus(seed, &cache), vocab_size, 1000, most).unwrap().sha256()
        };
        let plain = train_tokenizer(&corpus(1, &cache), 300, 1000, u64::MAX).unwrap();
        let first = train(1, 300, u64::MAX);
        assert_eq!(first, plain.sha256());
        assert_eq!(train(1, 300, u64::MAX), first);
        assert_eq!(cache.contents()[TOKENIZER].entries, 1);
        // Other text, another size, other limits: trainings of their own.
        assert_ne!(train(2, 300, u64::MAX), first);
        assert_ne!(train(1, 301, u64::MAX), first);
        assert_ne!(train(1, 300, 2000), first);
        assert_eq!(cache.contents()[TOKENIZER].entries, 4);
        // The kept one is taken without training: here another stands in its place.
        let texts = texts(&corpus(1, &cache), Limits { max_chars_per_document: 1000, max_chars: u64::MAX }, &cache);
        let other = train_tokenizer(&corpus(2, &cache), 300, 1000, u64::MAX).unwrap();
        cache.put(TOKENIZER, &tokenizer_key(&texts.unwrap(), 300), other.to_json().unwrap().as_bytes());
        assert_eq!(train(1, 300, u64::MAX), other.sha256());
        cache.clear().unwrap();
        assert_eq!(train(1, 300, u64::MAX), first);
    }
}
