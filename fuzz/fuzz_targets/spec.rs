//! Any bytes as an experiment spec: a plan or an error that can be shown.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use miette::{GraphicalReportHandler, GraphicalTheme};
use nanochat::experiment::{LoadOptions, load_bytes};
use nanochat::experiment::expand;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fixtures/specs/broken/fuzzed.yaml");
    match load_bytes(path, bytes, &LoadOptions::default()) {
        Err(errors) => {
            let mut text = String::new();
            let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(110);
            handler.render_report(&mut text, &errors).expect("errors can be shown");
        }
        Ok(experiment) if experiment.cells.len() <= 64 => {
            let plans = expand(&experiment).expect("what loads can be planned");
            let resolved = experiment.resolved_yaml();
            let again =
                load_bytes(path, resolved.as_bytes(), &LoadOptions::default()).expect("the resolved spec loads");
            let again = expand(&again).expect("the resolved spec can be planned");
            let hashes = |plans: &[nanochat::plan::RunPlan]| -> Vec<String> {
                plans.iter().map(|plan| plan.plan_hash.clone()).collect()
            };
            assert_eq!(hashes(&plans), hashes(&again), "the resolved spec plans to the same hashes");
        }
        Ok(_) => {}
    }
});
