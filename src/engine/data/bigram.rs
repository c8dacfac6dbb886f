//! A bigram model of the tokens, as a mark that a trained model must leave far behind.
//!
//! Interpolated Kneser–Ney (Kneser and Ney 1995; Chen and Goodman 1999): absolute discounting of the pair counts, backed
//! off to how many different tokens a token follows, and that to all tokens alike.

use std::collections::HashMap;

use crate::tokenizer::Tokenizer;

use super::{Corpus, DataError, Split};

/// Counts of neighbouring tokens, and what the smoothing needs of them.
struct Bigram {
    /// Count of each pair.
    pairs: HashMap<(u32, u32), u64>,
    /// Count of each token as the first of a pair, and of the different tokens after it.
    first: Vec<(u64, u64)>,
    /// Count of the different tokens before each token.
    before: Vec<u64>,
    /// What is taken off each count.
    discount: f64,
    /// What is taken off each count of different tokens.
    continuation_discount: f64,
}

impl Bigram {
    fn fit(pairs: HashMap<(u32, u32), u64>, vocab_size: usize) -> Self {
        let mut first = vec![(0, 0); vocab_size];
        let mut before = vec![0; vocab_size];
        for (&(left, right), &count) in &pairs {
            let seen = &mut first[left as usize];
            *seen = (seen.0 + count, seen.1 + 1);
            before[right as usize] += 1;
        }
        let discount = discount(pairs.values().copied());
        let continuation_discount = discount_of(&before);
        Self { pairs, first, before, discount, continuation_discount }
    }

    /// Probability of `right` after anything: by the number of different tokens before it.
    fn continuation(&self, right: u32) -> f64 {
        let total = self.pairs.len() as f64;
        let kinds = self.before.iter().filter(|&&count| count > 0).count() as f64;
        let own = (self.before[right as usize] as f64 - self.continuation_discount).max(0.0);
        (own + self.continuation_discount * kinds / self.before.len() as f64) / total
    }

    /// Probabilities of all tokens after anything, by id.
    fn continuations(&self) -> Vec<f64> {
        (0..self.before.len() as u32).map(|right| self.continuation(right)).collect()
    }

    fn probability(&self, left: u32, right: u32, continuations: &[f64]) -> f64 {
        let (total, kinds) = self.first[left as usize];
        let back = continuations[right as usize];
        if total == 0 {
            return back;
        }
        let count = self.pairs.get(&(left, right)).map_or(0.0, |&count| count as f64);
        ((count - self.discount).max(0.0) + self.discount * kinds as f64 * back) / total as f64
    }
}

/// Ney's estimate of the discount from the counts of ones and twos; a half where there are none.
fn discount(counts: impl Iterator<Item = u64>) -> f64 {
    let (mut ones, mut twos) = (0u64, 0u64);
    for count in counts {
        ones += u64::from(count == 1);
        twos += u64::from(count == 2);
    }
    if ones == 0 { 0.5 } else { ones as f64 / (ones + 2 * twos) as f64 }
}

fn discount_of(before: &[u64]) -> f64 {
    discount(before.iter().copied())
}

/// Bits per byte of the validation split under a smoothed bigram model of the training split's tokens. Documents begin
/// with `<|bos|>`; special tokens are given, not predicted, and have no bytes, as in the evaluation of a model.
///
/// # Errors
/// A shard can't be read.
pub fn bigram_bits_per_byte(corpus: &Corpus, tokenizer: &Tokenizer) -> Result<f64, DataError> {
    let mut pairs = HashMap::new();
    for group in corpus.groups(Split::Train) {
        for tokens in tokenizer.encode_batch(&group?) {
            for_pairs(tokenizer, &tokens, |left, right| *pairs.entry((left, right)).or_default() += 1);
        }
    }
    let model = Bigram::fit(pairs, tokenizer.vocab_size());
    let continuations = model.continuations();
    let (mut bits, mut bytes) = (0.0, 0);
    for group in corpus.groups(Split::Validation) {
        let documents = group?;
        bytes += documents.iter().map(|document| document.len() as u64).sum::<u64>();
        for tokens in tokenizer.encode_batch(&documents) {
            for_pairs(tokenizer, &tokens, |left, right| {
                bits -= model.probability(left, right, &continuations).log2();
            });
        }
    }
    Ok(bits / bytes.max(1) as f64)
}

/// Neighbours in a document, `<|bos|>` before its first token.
fn for_pairs(tokenizer: &Tokenizer, tokens: &[u32], mut visit: impl FnMut(u32, u32)) {
    let mut left = tokenizer.bos_id();
    for &right in tokens {
        visit(left, right);
        left = right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_to_one_after_every_token() {
        let text = b"abracadabra, said the cat; abracadabra, said the dog";
        let mut pairs = HashMap::new();
        text.windows(2).for_each(|pair| *pairs.entry((u32::from(pair[0]), u32::from(pair[1]))).or_default() += 1);
        let model = Bigram::fit(pairs, 200);
        let continuations = model.continuations();
        for left in [b'a', b'b', b'g', 3] {
            let sum: f64 = (0..200).map(|right| model.probability(u32::from(left), right, &continuations)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
    }
}
