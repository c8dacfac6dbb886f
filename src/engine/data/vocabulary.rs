//! Trains the run's tokenizer on its training split (`scripts/tok_train.py`).

use crate::tokenizer::{Tokenizer, Trainer};

use super::{Corpus, DataError, Split};

/// How much text a training reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Each document is cut to this many characters. A character is a Unicode code point.
    pub max_chars_per_document: u64,
    /// No further document is taken once more characters than this have been.
    pub max_chars: u64,
}

/// Trains a vocabulary of `vocab_size` tokens, the nine special tokens included, on the training documents in order, each
/// cut to `max_chars_per_document` characters, until more than `max_chars` characters have been taken. A character is a
/// Unicode code point.
///
/// # Errors
/// A shard can't be read, or the text has too few pairs for the vocabulary.
pub fn train_tokenizer(
    corpus: &Corpus,
    vocab_size: usize,
    max_chars_per_document: u64,
    max_chars: u64,
) -> Result<Tokenizer, DataError> {
    let mut trainer = Trainer::new();
    let limits = Limits { max_chars_per_document, max_chars };
    for_training_texts(corpus, limits, &mut |texts| trainer.add(texts))?;
    Ok(trainer.finish(vocab_size)?)
}

/// Hands the texts that a training reads to `take`, in order, a group at a time.
pub(super) fn for_training_texts(
    corpus: &Corpus,
    limits: Limits,
    take: &mut dyn FnMut(&[&str]),
) -> Result<(), DataError> {
    let mut taken = 0;
    for group in corpus.groups(Split::Train) {
        let documents = group?;
        let mut cut = Vec::with_capacity(documents.len());
        for document in &documents {
            let (text, chars) = cut_to(document, limits.max_chars_per_document);
            cut.push(text);
            taken += chars;
            if taken > limits.max_chars {
                break;
            }
        }
        take(&cut);
        if taken > limits.max_chars {
            break;
        }
    }
    Ok(())
}

/// Bytes of the texts that a training reads.
///
/// # Errors
/// A shard can't be read.
pub fn training_bytes(corpus: &Corpus, max_chars_per_document: u64, max_chars: u64) -> Result<u64, DataError> {
    let mut bytes = 0;
    let limits = Limits { max_chars_per_document, max_chars };
    for_training_texts(corpus, limits, &mut |texts| bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>())?;
    Ok(bytes)
}

/// The first `limit` characters, and how many there are.
fn cut_to(document: &str, limit: u64) -> (&str, u64) {
    let mut chars = 0;
    for (at, _) in document.char_indices() {
        if chars == limit {
            return (&document[..at], chars);
        }
        chars += 1;
    }
    (document, chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_by_characters_not_bytes() {
        assert_eq!(cut_to("äöü", 2), ("äö", 2));
        assert_eq!(cut_to("äöü", 3), ("äöü", 3));
        assert_eq!(cut_to("äöü", 4), ("äöü", 3));
        assert_eq!(cut_to("äöü", 0), ("", 0));
        assert_eq!(cut_to("", 5), ("", 0));
    }
}
