//! Any bytes as a parquet file: documents of a shard, and the rows of a run's tables.

#![no_main]

mod place;

use std::path::Path;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use nanochat::artifacts::{read_evals, read_steps};
use nanochat::data::Corpus;
use nanochat::plan::DataPlan;

/// The parquet library panics on some damaged files. Its callers contain that, so that it must not end the process here;
/// a panic that nobody contains still does.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let train = place::file("shards/a.parquet", bytes);
    place::file("shards/b.parquet", bytes);
    let folder = train.parent().expect("it lies in a folder").display().to_string();
    let read = Corpus::open(&DataPlan::parquet(folder), Path::new("")).and_then(|corpus| corpus.sha256());
    if let Err(error) = read {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = read_steps(&train) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = read_evals(&train) {
        assert!(!error.to_string().is_empty());
    }
});
