//! Any bytes as a packed file of documents, gzip and zstd, with a field of nested names.

#![no_main]

mod place;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nanochat::data::Corpus;
use nanochat::plan::DataPlan;

fuzz_target!(|bytes: &[u8]| {
    for name in ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst"] {
        let path = place::file(name, bytes).display().to_string();
        let plan = match name.contains("jsonl") {
            true => DataPlan::Jsonl { path, field: "meta.text".into() },
            false => DataPlan::Text { path },
        };
        let read = Corpus::open(&plan, Path::new("")).and_then(|corpus| corpus.sha256());
        if let Err(error) = read {
            assert!(!error.to_string().is_empty());
        }
    }
});
