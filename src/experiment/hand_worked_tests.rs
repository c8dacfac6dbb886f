//! Twenty shapes against arithmetic done by hand: `fixtures/plan/hand_worked.md` has the workings.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use nanochat_plan::{ModelShape, ParameterCounts};

use super::expand;
use crate::{LoadOptions, load_bytes};

#[derive(Deserialize)]
struct Worked {
    name: String,
    why: String,
    spec: Value,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    model: ModelShape,
    parameters: ParameterCounts,
    flops_per_token: u64,
    target_tokens: u64,
    total_batch_size: u64,
    grad_accum_steps: u64,
    num_iterations: u64,
    total_tokens: u64,
    total_flops: String,
    lr_scale: f64,
    weight_decay: f64,
}

#[test]
fn shapes_worked_by_hand() {
    let rows: Vec<Worked> = serde_json::from_str(include_str!("../../fixtures/plan/hand_worked.json")).unwrap();
    assert_eq!(rows.len(), 20);
    for Worked { name, why, mut spec, expected } in rows {
        let rest = [
            ("schema", json!("nanochat.experiment/v1")),
            ("name", json!("worked")),
            ("data", json!({ "source": "synthetic", "bytes": 100_000 })),
        ];
        rest.into_iter().for_each(|(key, value)| spec[key] = value);
        let experiment = load_bytes(Path::new("worked.yaml"), spec.to_string().as_bytes(), &LoadOptions::default());
        let plan = expand(&experiment.unwrap_or_else(|errors| panic!("{name}: {errors}"))).unwrap().remove(0);
        assert_eq!(plan.model, expected.model, "{name}: {why}");
        assert_eq!(plan.parameters, expected.parameters, "{name}: {why}");
        let sizes = [
            plan.flops_per_token,
            plan.target_tokens,
            plan.total_batch_size,
            plan.grad_accum_steps,
            plan.num_iterations,
            plan.total_tokens,
        ];
        let expected_sizes = [
            expected.flops_per_token,
            expected.target_tokens,
            expected.total_batch_size,
            expected.grad_accum_steps,
            expected.num_iterations,
            expected.total_tokens,
        ];
        assert_eq!(sizes, expected_sizes, "{name}: {why}");
        assert_eq!(plan.total_flops.to_string(), expected.total_flops, "{name}: {why}");
        // A square root, a product and a quotient of doubles: some roundings of 2^-53 each.
        for (ours, worked) in [(plan.lr_scale, expected.lr_scale), (plan.weight_decay, expected.weight_decay)] {
            assert!((ours / worked - 1.0).abs() < 1e-15, "{name}: {why}: {ours} for {worked}");
        }
    }
}
