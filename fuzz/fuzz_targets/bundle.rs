//! Any bytes as an evaluation bundle: its three files, parted by zero bytes.

#![no_main]

mod place;

use libfuzzer_sys::fuzz_target;
use nanochat::evals::core::Bundle;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    for name in ["bundle/core.yaml", "bundle/eval_meta_data.csv", "bundle/eval_data/a.jsonl"] {
        place::file(name, parts.next().unwrap_or_default());
    }
    match Bundle::open(&place::folder().join("bundle"), None) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(bundle) => assert!(bundle.tasks.iter().all(|task| task.items.len() > task.shots)),
    }
});
