//! Training on the reference's text gives the reference's ranks.

use std::path::Path;

use super::shared;
use crate::data::{Corpus, train_tokenizer};
use crate::tokenizer::Tokenizer;
use nanochat_plan::DataPlan;

#[test]
fn the_ranks_trained_on_the_books_are_the_reference_ones() {
    let (Some(books), Some(reference)) = (shared("data/books"), shared("reference")) else { return };
    let corpus = Corpus::open(&DataPlan::parquet(books.display().to_string()), Path::new(".")).unwrap();
    let trained = train_tokenizer(&corpus, 1024, 10_000, 2_000_000_000).unwrap();
    let expected = Tokenizer::load(&reference.join("tokenizer_1024.tiktoken")).unwrap();
    assert_eq!(trained.ranks(), expected.ranks());
}
