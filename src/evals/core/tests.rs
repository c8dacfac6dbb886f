//! CORE's prompts, positions, refusals, and the agreement of its two ways of computing.

use std::path::Path;

use candle_core::Device;

use super::*;

/// Examples a second by both methods on the reference bundle; run alone, on a quiet machine:
/// `cargo test --release --lib evals::core::tests::rates -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn rates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    if !folder.is_dir() {
        println!("skipped: there is no folder {}", folder.display());
        return;
    }
    let trained = crate::trained::Trained::open(&folder.join("checkpoint"), None, None, &Device::Cpu).unwrap();
    let bundle = Bundle::open(&folder.join("eval_bundle"), None).unwrap();
    let examples: usize = bundle.tasks.iter().map(|task| task.items.len()).sum();
    for _ in 0..3 {
        for method in [Method::PerExample, Method::Shared] {
            let options = CoreOptions { method, ..CoreOptions::default() };
            let mut last = std::time::Instant::now();
            let start = last;
            evaluate(&trained.model, &trained.tokenizer, &bundle, &options, &mut |task| {
                println!("  {:20} {:.3} s", task.label, last.elapsed().as_secs_f64());
                last = std::time::Instant::now();
            })
            .unwrap();
            println!("{method:?}: {:.1} examples a second", examples as f64 / start.elapsed().as_secs_f64());
        }
    }
}
