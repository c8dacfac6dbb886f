//! Batches against the reference trajectory.

use std::path::Path;
use std::sync::Arc;

use super::shared;
use crate::data::{Corpus, Loader, Split};
use crate::tokenizer::Tokenizer;
use nanochat_plan::DataPlan;

#[test]
fn the_first_eighty_micro_batches_are_the_reference_ones() {
    let (Some(books), Some(reference)) = (shared("data/books"), shared("reference")) else { return };
    let plan = DataPlan::parquet(books.display().to_string());
    let corpus = Arc::new(Corpus::open(&plan, Path::new(".")).unwrap());
    let tokenizer = Arc::new(Tokenizer::load(&reference.join("tokenizer_1024.tiktoken")).unwrap());
    let figures: serde_json::Value =
        serde_json::from_slice(&std::fs::read(reference.join("trajectory.json")).unwrap()).unwrap();
    let hashes = figures["batch_sha256"].as_array().unwrap();
    assert_eq!(hashes.len(), 80);
    let mut loader = Loader::new(corpus, tokenizer, Split::Train, 4, 128).unwrap();
    for (number, hash) in hashes.iter().enumerate() {
        assert_eq!(loader.next_batch().unwrap().sha256(), hash.as_str().unwrap(), "batch {number}");
    }
}
