//! The built-in corpus: its bytes are pinned, its sentences are right, its size is what was asked for.

use std::path::Path;

use crate::data::{Corpus, Split};
use nanochat_plan::DataPlan;

fn open(seed: u64, bytes: u64) -> Corpus {
    Corpus::open(&DataPlan::Synthetic { seed, bytes }, Path::new(".")).unwrap()
}

fn all(corpus: &Corpus) -> Vec<String> {
    let documents = corpus.documents(Split::Train).chain(corpus.documents(Split::Validation));
    documents.collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_default_corpus_never_changes() {
    let corpus = open(42, 8 << 20);
    assert_eq!(corpus.sha256().unwrap(), "64a8bd884d93993a37b5cff24a25210e5b54d7bd7bb23be6b7886fa8a5e6a50b");
}

#[test]
fn its_size_is_what_was_asked_for_and_the_last_document_is_whole() {
    for bytes in [0, 1, 10_000, 1_000_000] {
        let corpus = open(7, bytes);
        let documents = all(&corpus);
        let total: u64 = documents.iter().map(|document| document.len() as u64).sum();
        let last = documents.last().unwrap().len() as u64;
        assert!(total >= bytes && (total - last < bytes || documents.len() == 2), "{bytes}: {total}");
        assert_eq!(corpus.size(Split::Train).unwrap().bytes + corpus.size(Split::Validation).unwrap().bytes, total);
        assert_eq!(corpus.document_count(Split::Validation) as usize, documents.len().div_ceil(10));
    }
}

#[test]
fn a_larger_corpus_begins_with_the_smaller_one_and_seeds_differ() {
    let (small, large) = (all(&open(1, 50_000)), all(&open(1, 100_000)));
    assert_eq!(large[..small.len()], small);
    assert_ne!(all(&open(2, 50_000)), small);
}

#[test]
fn every_template_fills_and_articles_and_sums_are_right() {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let mut sums = 0;
    for document in all(&open(3, 3_000_000)) {
        assert!(!document.contains(['{', '}']) && document.trim() == document, "{document:?}");
        for vowel in ["a a", "a e", "a i", "a o", "a u"] {
            assert!(!document.contains(&format!(" {vowel}")), "{vowel:?} in {document:?}");
        }
        for line in document.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if let [left, sign @ ("+" | "−" | "×"), right, "=", result] = words[..] {
                let (left, right) = (number(left), number(right));
                let expected = match sign {
                    "+" => left + right,
                    "×" => left * right,
                    _ => left - right,
                };
                assert_eq!(expected, number(result), "{line}");
                sums += 1;
            }
        }
    }
    assert!(sums > 500, "{sums}");
}
