//! CORE results of a checkpoint on the bundle in the same folder, example by example.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::check::Concerning;
use super::checkpoint::{Evaluated, document, folder_of};
use super::{Bound, Check, ParityError};
use nanochat_engine::evals::core::{Bundle, CoreOptions, CoreResult, Method, TaskResult, evaluate};
use nanochat_plan::OnCoreError;

/// Answers are equal or not, and so are the shares of right ones.
const EXACT: Bound = Bound::Absolute(0.0);

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
    let evaluated = Evaluated::load(file, device)?;
    let mut checks = Vec::new();
    for (limit, expected) in &reference {
        let limit: i64 =
            limit.parse().map_err(|_| ParityError::unreadable(file, format!("`{limit}` is no number of examples")))?;
        let max_per_task = usize::try_from(limit).ok().filter(|limit| *limit > 0);
        let bundle =
            Bundle::open(&folder_of(file).join("eval_bundle"), max_per_task, OnCoreError::Stop).reading(file)?;
        for method in [Method::PerExample, Method::Shared] {
            let options = CoreOptions { method, ..CoreOptions::default() };
            let ours = evaluate(&evaluated.model, &evaluated.tokenizer, &bundle, &options, &mut |_| {}, &|| false)
                .computing(file)?;
            let label = format!("{limit} per task, {method:?}");
            checks.extend(compare(file, &label, &ours, expected));
        }
    }
    Ok(checks)
}

fn compare(file: &Path, label: &str, ours: &CoreResult, expected: &Reference) -> Vec<Check> {
    let correct: Vec<bool> = ours.tasks.iter().flat_map(|task| task.correct.iter().copied()).collect();
    let by_task = |quantity: &str, value: fn(&TaskResult) -> f64, reference: &BTreeMap<String, f64>| {
        let ours: BTreeMap<&str, f64> = ours.tasks.iter().map(|task| (task.label.as_str(), value(task))).collect();
        let known = ours.keys().copied().eq(reference.keys().map(String::as_str));
        let ours = ours.into_values().take(if known { usize::MAX } else { 0 });
        Check::numbers(file, format!("{quantity} ({label})"), ours, reference.values().copied(), EXACT)
    };
    vec![
        Check::equal(file, format!("examples ({label})"), &correct, &expected.correct_in_order),
        by_task("accuracies", |task| task.accuracy, &expected.results),
        by_task("centred accuracies", |task| task.centered, &expected.centered_results),
        Check::numbers(file, format!("core_metric ({label})"), [ours.core_metric], [expected.core_metric], EXACT),
    ]
}
