//! Byte-pair training with rustbpe's merges, exactly.
//!
//! At each step the pair that occurs most often merges, in all pieces at once, from left to right; among equals the pair
//! of the lowest ids. rustbpe finds it by a heap whose counts may be out of date and are renewed when they come to the
//! top; since a pair's count never grows after the step that made it, that is the maximum, and the same is done here.
//! What differs is the layout: pieces lie in one block and shrink in place, and places are lists, not sets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::vocabulary::fold;
use super::words::WordCounts;
use super::{SPECIAL_TOKENS, Tokenizer, TokenizerError};

/// Texts that are counted in one go.
const BATCH: usize = 4096;

/// Neighbouring tokens.
type Pair = (u32, u32);

/// Collects texts, then trains.
#[derive(Debug, Default)]
pub struct Trainer {
    /// A table for each thread, so that none waits for another; sums don't depend on who counted what.
    counts: Vec<Mutex<WordCounts>>,
}

impl Trainer {
    /// A trainer without text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the pieces of some texts, in parallel on the current thread pool.
    pub fn add<S: AsRef<str> + Sync>(&mut self, texts: &[S]) {
        let threads = rayon::current_num_threads().max(1);
        if self.counts.len() < threads {
            self.counts.resize_with(threads, Mutex::default);
        }
        let next = AtomicUsize::new(0);
        rayon::scope(|scope| {
            for counts in &self.counts {
                scope.spawn(|_| {
                    // One task a table: the lock is never waited for.
                    let mut counts = counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        counts.add_text(text.as_ref());
                    }
                });
            }
        });
    }

    /// Trains a vocabulary of `vocab_size` tokens, the nine special tokens included.
    ///
    /// # Errors
    /// Fewer tokens than bytes and special tokens, or fewer pairs in the text than merges.
    pub fn finish(self, vocab_size: usize) -> Result<Tokenizer, TokenizerError> {
        let minimum = 256 + SPECIAL_TOKENS.len();
        if vocab_size < minimum {
            return Err(TokenizerError::VocabularyTooSmall { vocab_size, minimum });
        }
        let mut tables = self.counts.into_iter().map(|table| table.into_inner().unwrap_or_else(|p| p.into_inner()));
        let mut counts = tables.next().unwrap_or_default();
        tables.for_each(|table| counts.merge(&table));
        let merges = Merger::new(&counts).run(vocab_size - minimum);
        if merges.len() < vocab_size - minimum {
            return Err(TokenizerError::TextTooSmall { vocab_size, possible: minimum + merges.len() });
        }
        let mut ranks: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        for (left, right) in merges {
            ranks.push([ranks[left as usize].as_slice(), ranks[right as usize].as_slice()].concat());
        }
        Tokenizer::from_ranks(ranks)
    }
}

impl Tokenizer {
    /// Trains a vocabulary of `vocab_size` tokens, the nine special tokens included, with rustbpe's merges, ties and
    /// ranks. The texts are read once and not kept.
    ///
    /// # Errors
    /// Fewer tokens than bytes and special tokens, or fewer pairs in the texts than merges.
    pub fn train<I>(texts: I, vocab_size: usize) -> Result<Self, TokenizerError>
    where
        I: IntoIterator,
        I::Item: AsRef<str> + Sync,
    {
        let mut trainer = Trainer::new();
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            let batch: Vec<I::Item> = texts.by_ref().take(BATCH).collect();
            trainer.add(&batch);
        }
        trainer.finish(vocab_size)
    }
}

/// Hashes a pair of ids.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0, super::vocabulary::hash_bytes(bytes));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = fold(value, 0);
    }
}

/// A pair as one number, in the same order.
#[inline]
fn packed((left, right): Pair) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[inline]
fn unpacked(pair: u64) -> Pair {
    ((pair >> 32) as u32, pair as u32)
}

/// How often a pair occurs, and in which words it did when it came up.
#[derive(Debug, Default)]
struct Occurrences {
    count: u64,
    words: Vec<u32>,
}

type Pairs = HashMap<u64, Occurrences, BuildHasherDefault<PairHasher>>;

/// A word's tokens within the block.
#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    length: usize,
    count: u64,
}

/// The state of training.
struct Merger {
    /// Tokens of all words, each word at its start.
    tokens: Vec<u32>,
    words: Vec<Word>,
    pairs: Pairs,
    /// Pairs by count, then lowest first; counts may be too high.
    queue: BinaryHeap<(u64, Reverse<u64>)>,
}

impl Merger {
    fn new(counts: &WordCounts) -> Self {
        let mut merger =
            Self { tokens: Vec::new(), words: Vec::new(), pairs: Pairs::default(), queue: BinaryHeap::new() };
        for (bytes, count) in counts.iter().filter(|(bytes, _)| bytes.len() > 1) {
            merger.words.push(Word { start: merger.tokens.len(), length: bytes.len(), count });
            merger.tokens.extend(bytes.iter().map(|&byte| u32::from(byte)));
        }
        for (index, word) in merger.words.iter().enumerate() {
            for pair in merger.tokens[word.start..word.start + word.length].windows(2) {
                let occurrences = merger.pairs.entry(packed((pair[0], pair[1]))).or_default();
                occurrences.count += word.count;
                note(&mut occurrences.words, index as u32);
            }
        }
        merger.queue = merger.pairs.iter().map(|(&pair, found)| (found.count, Reverse(pair))).collect();
        merger
    }

    /// Up to `wanted` merges; fewer when no pair is left.
    fn run(mut self, wanted: usize) -> Vec<Pair> {
        let mut merges = Vec::with_capacity(wanted);
        let mut fresh = Vec::new();
        while merges.len() < wanted
            && let Some((count, Reverse(pair))) = self.queue.pop()
        {
            let current = self.pairs.get(&pair).map_or(0, |found| found.count);
            if current != count {
                if current > 0 {
                    self.queue.push((current, Reverse(pair)));
                }
                continue;
            }
            let merged = 256 + merges.len() as u32;
            merges.push(unpacked(pair));
            self.merge(pair, merged, &mut fresh);
            for pair in fresh.drain(..) {
                let count = self.pairs.get(&pair).map_or(0, |found| found.count);
                if count > 0 {
                    self.queue.push((count, Reverse(pair)));
                }
            }
        }
        merges
    }

    /// Merges a pair wherever it occurs; the pairs that this makes are added to `fresh`, each once.
    fn merge(&mut self, pair: u64, merged: u32, fresh: &mut Vec<u64>) {
        let Some(occurrences) = self.pairs.remove(&pair) else { return };
        let (left, right) = unpacked(pair);
        for index in occurrences.words {
            let word = &mut self.words[index as usize];
            let tokens = &mut self.tokens[word.start..word.start + word.length];
            let (mut read, mut write) = (0, 0);
            while read < tokens.len() {
                if tokens[read] != left || tokens.get(read + 1) != Some(&right) {
                    tokens[write] = tokens[read];
                    (read, write) = (read + 1, write + 1);
                    continue;
                }
                if write > 0 {
                    let before = tokens[write - 1];
                    lower(&mut self.pairs, (before, left), word.count);
                    raise(&mut self.pairs, (before, merged), word.count, index, fresh);
                }
                if let Some(&after) = tokens.get(read + 2) {
                    lower(&mut self.pairs, (right, after), word.count);
                    raise(&mut self.pairs, (merged, after), word.count, index, fresh);
                }
                tokens[write] = merged;
                (read, write) = (read + 2, write + 1);
            }
            word.length = write;
        }
    }
}

/// Adds a word to a list that is built word by word, once.
#[inline]
fn note(words: &mut Vec<u32>, index: u32) {
    if words.last() != Some(&index) {
        words.push(index);
    }
}

/// So many fewer of a pair. The pair that is being merged is no longer listed and needs no count.
#[inline]
fn lower(pairs: &mut Pairs, pair: Pair, count: u64) {
    if let Some(found) = pairs.get_mut(&packed(pair)) {
        found.count -= count;
    }
}

/// So many more of a pair that this merge makes.
#[inline]
fn raise(pairs: &mut Pairs, pair: Pair, count: u64, index: u32, fresh: &mut Vec<u64>) {
    let pair = packed(pair);
    let found = pairs.entry(pair).or_insert_with(|| {
        fresh.push(pair);
        Occurrences::default()
    });
    found.count += count;
    note(&mut found.words, index);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::split::pieces;

    /// The rule, word for word: count all pairs anew at each step.
    fn naive(texts: &[String], merges: usize) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u32>> =
            texts.iter().flat_map(|text| pieces(text)).map(|piece| piece.bytes().map(u32::from).collect()).collect();
        let mut ranks: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        for _ in 0..merges {
            let mut counts: HashMap<Pair, u64> = HashMap::new();
            for word in &words {
                word.windows(2).for_each(|pair| *counts.entry((pair[0], pair[1])).or_default() += 1);
            }
            let best = counts.into_iter().max_by_key(|&(pair, count)| (count, Reverse(pair)));
            let Some(((left, right), _)) = best else { break };
            let merged = ranks.len() as u32;
            ranks.push([ranks[left as usize].clone(), ranks[right as usize].clone()].concat());
            for word in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == (left, right) {
                        word[at] = merged;
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
        }
        ranks
    }

    fn check(texts: &[String], merges: usize) {
        let expected = naive(texts, merges);
        let minimum = 256 + SPECIAL_TOKENS.len();
        match Tokenizer::train(texts, minimum + merges) {
            Ok(tokenizer) => assert_eq!(tokenizer.ranks(), expected),
            Err(TokenizerError::TextTooSmall { possible, .. }) => {
                assert_eq!(possible, expected.len() + SPECIAL_TOKENS.len());
                assert!(expected.len() < 256 + merges);
                let tokenizer = Tokenizer::train(texts, possible).unwrap();
                assert_eq!(tokenizer.ranks(), expected);
            }
            Err(other) => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn merges_are_those_of_counting_anew(
            texts in prop::collection::vec("[ab]{0,12}( [abc]{1,9}){0,6}", 0..12),
            merges in 0usize..40,
        ) {
            check(&texts, merges);
        }

        #[test]
        fn runs_of_one_letter_count_as_the_rule_says(texts in prop::collection::vec("a{0,17}( a{1,9}b?a{0,5}){0,3}", 0..8)) {
            check(&texts, 30);
        }
    }

    #[test]
    fn too_small_a_vocabulary_is_an_error() {
        assert!(matches!(
            Tokenizer::train(["abc"], 264),
            Err(TokenizerError::VocabularyTooSmall { vocab_size: 264, minimum: 265 })
        ));
        assert_eq!(Tokenizer::train(["abc"], 265).unwrap().vocab_size(), 265);
    }
}
