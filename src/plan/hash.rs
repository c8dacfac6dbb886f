//! The plan's hash: SHA-256 over what decides the result, and nothing else.
//!
//! In it: model, data (its kind and, for generated data, its parameters), tokenizer, batch and steps, optimizer, seed,
//! starting weights, evaluation, precision, device; of an arm that another program carries out, its commit and flags. Not in it: names, paths, reporting, checkpoints (except where a
//! divergence rolls the run back to one), costs, and how the
//! budget was put (600 steps are 600 steps). A path that the matrix varies is in it after all, as the author's word that
//! it decides the result.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{InitPlan, OnDivergence, RunPlan, TokenizerPlan};

/// The plan's hash, 64 hexadecimal digits.
pub fn plan_hash(plan: &RunPlan) -> String {
    sha256(&deciding(plan))
}

/// The hash of a run's configuration: what decides its result but the seed and the treatment, which is the optimizer
/// settings, starting weights and precision that the matrix varies. Runs of one configuration are taken to have the same
/// noise between seeds. Another shape, budget, batch, data or evaluation is another configuration.
pub fn configuration_hash(plan: &RunPlan) -> String {
    let mut configuration = deciding(plan);
    remove(&mut configuration, "seed");
    for key in plan.axes.keys() {
        let own = plan.arm.as_ref().and_then(|arm| arm.own_axis(key));
        match own.unwrap_or(key) {
            "optimizer.weight_decay" => remove(&mut configuration, "weight_decay"),
            "hardware.dtype" => remove(&mut configuration, "dtype"),
            "init" => remove(&mut configuration, "init"),
            key => {
                if let Some(setting) = key.strip_prefix("optimizer.") {
                    remove(&mut configuration["optimizer"], setting);
                }
            }
        }
    }
    sha256(&configuration)
}

fn remove(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}

fn sha256(value: &Value) -> String {
    let digest = Sha256::digest(canonical(value).as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that decides the result: what the hash is over. Sections by name, with the plan's own keys.
pub fn deciding(plan: &RunPlan) -> Value {
    let mut deciding = json!({
        "version": 1,
        "model": plan.model,
        "data": without(&plan.data, "path"),
        "tokenizer": tokenizer(&plan.tokenizer),
        "total_batch_size": plan.total_batch_size,
        "device_batch_size": plan.device_batch_size,
        "num_iterations": plan.num_iterations,
        "seed": plan.seed,
        "lr_scale": plan.lr_scale,
        "weight_decay": plan.weight_decay,
        "optimizer": without(&plan.optimizer, "weight_decay"),
        "init": match plan.init {
            InitPlan::Random => "random",
            InitPlan::Baseline => "baseline",
            InitPlan::Control => "control",
            InitPlan::Weights(_) => "weights",
        },
        "eval": {
            "every": plan.eval.every,
            "tokens": plan.eval.tokens,
            "core": plan.eval.core.as_ref().map(|core| without(core, "bundle")),
        },
        "device": plan.device,
        "device_count": plan.device_count,
        "dtype": plan.dtype,
        "paths": varied_paths(plan),
    });
    if plan.on_divergence == OnDivergence::Rollback {
        // Where it goes back to is a scheduled checkpoint.
        deciding["rollback"] = json!({ "checkpoint_every": plan.checkpoint.every });
    }
    if let Some(arm) = plan.arm.as_ref().filter(|arm| arm.is_foreign()) {
        deciding["arm"] = json!({ "engine": arm.engine, "commit": arm.commit, "flags": arm.flags });
    }
    deciding
}

/// A part of the plan but for one key.
fn without(part: impl Serialize, key: &str) -> Value {
    let mut value = json!(part);
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
    value
}

fn tokenizer(tokenizer: &TokenizerPlan) -> Value {
    match tokenizer {
        TokenizerPlan::Path(_) => json!("stored"),
        TokenizerPlan::Train { .. } => json!(tokenizer)["train"].take(),
    }
}

/// Paths, and sections with paths in them, that the matrix varies.
fn varied_paths(plan: &RunPlan) -> BTreeMap<&String, &Value> {
    let holds_path = |key: &str| {
        ["path", "weights", "bundle"].contains(&key.rsplit('.').next().unwrap_or(key))
            || ["data", "tokenizer", "init"].contains(&key)
    };
    plan.axes
        .iter()
        .filter(|(key, _)| holds_path(plan.arm.as_ref().and_then(|arm| arm.own_axis(key)).unwrap_or(key)))
        .collect()
}

/// JSON with sorted keys and no blanks.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<&String, &Value> = object.iter().collect();
            let entries =
                sorted.into_iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}
