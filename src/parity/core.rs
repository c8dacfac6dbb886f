//! CORE results of a checkpoint on the bundle beside it, example by example.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::checkpoint::{Beside, document, folder_of};
use super::{Check, Differences, ParityError};
use nanochat_engine::evals::core::{Bundle, CoreOptions, CoreResult, Method, evaluate};

#[derive(Deserialize)]
struct Reference {
    /// Accuracy by task.
    results: BTreeMap<String, f64>,
    /// Centred accuracy by task.
    centered_results: BTreeMap<String, f64>,
    /// Their mean.
    core_metric: f64,
    /// Right or wrong, over all tasks in order.
    correct_in_order: Vec<bool>,
}

/// Recomputes a `core_results.json`: results by number of examples a task, −1 for all. Both ways of computing them must
/// give the reference's answers.
///
/// # Errors
/// Files that are missing or can't be read.
pub fn check(file: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference: BTreeMap<String, Reference> = document(file)?;
    let beside = Beside::load(file, device)?;
    let mut checks = Vec::new();
    for (limit, expected) in &reference {
        let limit: i64 =
            limit.parse().map_err(|_| ParityError::unreadable(file, format!("`{limit}` is no number of examples")))?;
        let max_per_task = usize::try_from(limit).ok().filter(|limit| *limit > 0);
        let bundle = Bundle::open(&folder_of(file).join("eval_bundle"), max_per_task)
            .map_err(|error| ParityError::unreadable(file, error))?;
        for method in [Method::PerExample, Method::Shared] {
            let options = CoreOptions { method, ..CoreOptions::default() };
            let ours = evaluate(&beside.model, &beside.tokenizer, &bundle, &options, &mut |_| {})
                .map_err(|error| ParityError::engine(file, error))?;
            let label = format!("{limit} per task, {method:?}");
            checks.extend(compare(file, &label, &ours, expected));
        }
    }
    Ok(checks)
}

fn compare(file: &Path, label: &str, ours: &CoreResult, expected: &Reference) -> Vec<Check> {
    let correct: Vec<bool> = ours.tasks.iter().flat_map(|task| task.correct.iter().copied()).collect();
    let wrong = correct.iter().zip(&expected.correct_in_order).filter(|(ours, theirs)| ours != theirs).count()
        + correct.len().abs_diff(expected.correct_in_order.len());
    let by_task = |value: fn(&nanochat_engine::evals::core::TaskResult) -> f64| {
        ours.tasks.iter().map(|task| (task.label.clone(), value(task))).collect::<BTreeMap<_, _>>()
    };
    let same_tasks = |values: &BTreeMap<String, f64>, reference: &BTreeMap<String, f64>| {
        let known = values.keys().eq(reference.keys());
        let values = values.values().copied().take(if known { usize::MAX } else { 0 });
        Differences::between(values, reference.values().copied())
    };
    let accuracies = same_tasks(&by_task(|task| task.accuracy), &expected.results);
    let centered = same_tasks(&by_task(|task| task.centered), &expected.centered_results);
    let metric = Differences::between([ours.core_metric], [expected.core_metric]);
    vec![
        Check::equal(file, format!("examples ({label})"), wrong, expected.correct_in_order.len()),
        Check::absolute(file, format!("accuracies ({label})"), accuracies, 0.0),
        Check::absolute(file, format!("centred accuracies ({label})"), centered, 0.0),
        Check::absolute(file, format!("core_metric ({label})"), metric, 0.0),
    ]
}
