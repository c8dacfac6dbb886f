//! Derived hyperparameters: what the plan makes of the baseline's flags, against what the baseline made of them.
//!
//! A row may restate any setting of the file's head (ratio, context, window pattern, weight decay). Integers must be
//! equal, digit by digit also beyond 2^64; floats agree to 1e-12 of their size. A quantity that no row states is not
//! reported; a number of an unknown name is refused, not ignored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::check::Concerning;
use super::checkpoint::document;
use super::{Bound, Check, ParityError};
use nanochat_plan::{BudgetPlan, DeriveInputs, Derived, derive};

/// Bound on the relative difference of a float.
const BOUND: Bound = Bound::Relative(1e-12);
/// What a row or the file's head sets, rather than states as a result.
const SETTINGS: [&str; 8] = [
    "depth",
    "vocab_size",
    "head_dim",
    "aspect_ratio",
    "target_param_data_ratio",
    "sequence_len",
    "window_pattern",
    "base_weight_decay",
];

type Row = BTreeMap<String, Box<RawValue>>;

/// Reference and own value of one quantity in one row, as written.
struct Pair {
    reference: String,
    ours: String,
}

/// Derives every row again, and compares each quantity over all rows.
///
/// # Errors
/// A file that isn't of this kind, or a row that can't be derived.
pub fn check(file: &Path) -> Result<Vec<Check>, ParityError> {
    let mut head: Row = document(file)?;
    let rows = head.remove("rows").ok_or_else(|| ParityError::unreadable(file, "it has no `rows`"))?;
    let rows: Vec<Row> = serde_json::from_str(rows.get()).reading(file)?;
    let mut pairs: BTreeMap<String, Vec<Pair>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let at = |reason: String| ParityError::unreadable(file, format!("row {}: {reason}", number + 1));
        let inputs = inputs([row, &head]).map_err(at)?;
        let derived = derive(&inputs).computing(file)?;
        compare_row(row, &figures(&derived), &mut pairs).map_err(at)?;
    }
    Ok(pairs.into_iter().map(|(quantity, pairs)| judge(file, quantity, &pairs)).collect())
}

/// A setting of a row, or of the file's head, or its default; none where it must be stated.
fn setting<T: DeserializeOwned>(rows: [&Row; 2], key: &str, default: Option<T>) -> Result<T, String> {
    match rows.into_iter().find_map(|row| row.get(key)) {
        None => default.ok_or_else(|| format!("`{key}` is missing")),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|error| format!("`{key}` is {raw}: {error}")),
    }
}

fn inputs(rows: [&Row; 2]) -> Result<DeriveInputs, String> {
    let baseline = DeriveInputs::baseline(setting(rows, "depth", None)?, setting(rows, "vocab_size", None)?);
    Ok(DeriveInputs {
        aspect_ratio: setting(rows, "aspect_ratio", Some(baseline.aspect_ratio))?,
        head_dim: setting(rows, "head_dim", Some(baseline.head_dim))?,
        sequence_len: setting(rows, "sequence_len", Some(baseline.sequence_len))?,
        window_pattern: setting(rows, "window_pattern", Some(baseline.window_pattern.clone()))?,
        weight_decay: setting(rows, "base_weight_decay", Some(baseline.weight_decay))?,
        budget: BudgetPlan::ParamDataRatio(setting(rows, "target_param_data_ratio", Some(12.0))?),
        ..baseline
    })
}

/// Everything derived, by the reference's names. Debug formatting of floats is their shortest exact form.
fn figures(derived: &Derived) -> BTreeMap<&'static str, String> {
    let parameters = &derived.parameters;
    BTreeMap::from([
        ("n_embd", derived.model.n_embd.to_string()),
        ("n_head", derived.model.n_head.to_string()),
        ("n_kv_head", derived.model.n_kv_head.to_string()),
        ("n_layer", derived.model.n_layer.to_string()),
        ("params.wte", parameters.wte.to_string()),
        ("params.value_embeds", parameters.value_embeds.to_string()),
        ("params.lm_head", parameters.lm_head.to_string()),
        ("params.transformer_matrices", parameters.transformer_matrices.to_string()),
        ("params.scalars", parameters.scalars.to_string()),
        ("params.total", parameters.total.to_string()),
        ("scaling_params", parameters.scaling().to_string()),
        ("flops_per_token", derived.flops_per_token.to_string()),
        ("target_tokens", derived.target_tokens.to_string()),
        ("total_batch_size", derived.total_batch_size.to_string()),
        ("lr_scale", format!("{:?}", derived.lr_scale)),
        ("adamw_lr_scale", format!("{:?}", derived.adamw_lr_scale)),
        ("weight_decay", format!("{:?}", derived.weight_decay)),
        ("num_iterations", derived.num_iterations.to_string()),
        ("total_tokens", derived.total_tokens.to_string()),
        ("total_flops", derived.total_flops.to_string()),
    ])
}

fn compare_row(
    row: &Row,
    figures: &BTreeMap<&'static str, String>,
    pairs: &mut BTreeMap<String, Vec<Pair>>,
) -> Result<(), String> {
    let mut stated: BTreeMap<String, String> = BTreeMap::new();
    for (key, raw) in row.iter().filter(|(key, _)| !SETTINGS.contains(&key.as_str())) {
        if key == "params" {
            let groups: Row = serde_json::from_str(raw.get()).map_err(|error| format!("`params`: {error}"))?;
            stated.extend(groups.iter().map(|(group, raw)| (format!("params.{group}"), raw.get().to_owned())));
        } else {
            stated.insert(key.clone(), raw.get().to_owned());
        }
    }
    stated.retain(|_, raw| !raw.starts_with('"'));
    if let Some(unknown) = stated.keys().find(|key| !figures.contains_key(key.as_str())) {
        return Err(format!("`{unknown}` is not a quantity that is derived"));
    }
    for (key, reference) in stated {
        let ours = figures.get(key.as_str()).cloned().unwrap_or_default();
        pairs.entry(key).or_default().push(Pair { reference, ours });
    }
    Ok(())
}

/// Integers are compared as written; a quantity with a fraction anywhere is a float.
fn judge(file: &Path, quantity: String, pairs: &[Pair]) -> Check {
    let is_float = |text: &str| text.contains(['.', 'e', 'E', 'n', 'N']);
    if pairs.iter().any(|pair| is_float(&pair.ours)) {
        let parse = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        let ours = pairs.iter().map(|pair| parse(&pair.ours));
        let reference = pairs.iter().map(|pair| parse(&pair.reference));
        return Check::numbers(file, quantity, ours, reference, BOUND);
    }
    let mismatches = pairs.iter().filter(|pair| pair.ours != pair.reference).count();
    Check::mismatches(file, quantity, mismatches, pairs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_reference_rows_agree() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/derived_hyperparameters.json");
        if !file.exists() {
            return eprintln!("skipped: {} is not here", file.display());
        }
        let checks = check(&file).unwrap();
        assert_eq!(checks.len(), 18);
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    }

    /// One unit in the last digit of a number beyond 2^64, and a float off by 1e-11, are seen.
    #[test]
    fn the_smallest_deviations_are_seen() {
        let right = r#"{"rows": [{"depth": 26, "vocab_size": 32768, "total_flops": 66024582977295482880,
            "weight_decay": 0.04747018702740847}]}"#;
        assert!(check(write(right).path()).unwrap().iter().all(|check| check.ok));
        for (from, to) in [("82880", "82881"), ("0.0474701870274", "0.0474701870279")] {
            let checks = check(write(&right.replace(from, to)).path()).unwrap();
            assert_eq!(checks.iter().filter(|check| !check.ok).count(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn files_of_another_kind_are_refused() {
        for text in
            ["", "[]", "{}", r#"{"rows": [{"depth": 4}]}"#, r#"{"rows": [{"depth": 4, "vocab_size": 9, "x": 1}]}"#]
        {
            assert!(check(write(text).path()).is_err(), "{text}");
        }
    }
}
