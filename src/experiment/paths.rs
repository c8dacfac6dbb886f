//! Paths that a spec names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Experiment;
use crate::config::{Diagnostic, VocabularyReader};
use nanochat_plan::{DataPlan, InitPlan, TokenizerPlan};

/// A path of a spec as the system knows it: `~` is the home folder, the rest relative to where the program was started.
pub fn resolve_path(text: &str) -> PathBuf {
    let rest = if text == "~" { Some("") } else { text.strip_prefix("~/") };
    match (rest, home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from)
}

/// Vocabulary of a stored tokenizer, special tokens included; nothing when it isn't there, or nobody here can read one.
pub fn vocabulary(path: &str, reader: Option<VocabularyReader>) -> Result<Option<usize>, String> {
    let file = resolve_path(path);
    match reader {
        Some(read) if file.exists() => read(&file).map(Some),
        _ => Ok(None),
    }
}

/// What a run of this experiment would look for and not find: an error each, at the place that names it.
pub fn missing_paths(experiment: &Experiment) -> Vec<Diagnostic> {
    let mut missing: Vec<Diagnostic> = Vec::new();
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for cell in &experiment.cells {
        let settings = &cell.settings;
        let data = match &settings.data {
            DataPlan::Parquet { path } | DataPlan::Jsonl { path, .. } | DataPlan::Text { path } => Some(path),
            DataPlan::Synthetic { .. } => None,
        };
        let tokenizer = if let TokenizerPlan::Path(path) = &settings.tokenizer { Some(path) } else { None };
        let weights = if let InitPlan::Weights(path) = &settings.init { Some(path) } else { None };
        let bundle = settings.eval.core.as_ref().map(|core| &core.bundle);
        let named = [
            ("data.path", data),
            ("tokenizer.path", tokenizer),
            ("init.weights", weights),
            ("eval.core.bundle", bundle),
        ];
        for (key, path) in named {
            let unseen = path.filter(|path| seen.insert((key, path.as_str())));
            let absent = unseen.filter(|path| !resolve_path(path).exists());
            missing.extend(absent.map(|path| absence(experiment, key, path)));
        }
    }
    missing
}

fn absence(experiment: &Experiment, key: &str, path: &str) -> Diagnostic {
    let steps: Vec<&str> = key.split('.').collect();
    let place = experiment.layers.place(&steps);
    let relative = Path::new(path).is_relative() && !path.starts_with('~');
    let where_from = if relative { "; it is relative to the folder that the program is started in" } else { "" };
    let help = format!("put it there, or pass --set {key}=PATH{where_from}");
    Diagnostic::error("missing-path", format!("`{key}`: there is no {path}")).at(place).label("not found").help(help)
}
