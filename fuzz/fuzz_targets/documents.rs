//! Any bytes as a file of documents: JSON lines and plain text.

#![no_main]

mod place;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nanochat::data::Corpus;
use nanochat::plan::DataPlan;

fuzz_target!(|bytes: &[u8]| {
    for (name, jsonl) in [("a.jsonl", true), ("a.txt", false)] {
        let path = place::file(name, bytes).display().to_string();
        let plan = if jsonl { DataPlan::Jsonl { path, field: "text".into() } } else { DataPlan::Text { path } };
        let read = Corpus::open(&plan, Path::new("")).and_then(|corpus| corpus.sha256());
        if let Err(error) = read {
            assert!(!error.to_string().is_empty());
        }
    }
});
