//! Paths that a spec names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Experiment;
use crate::config::{Diagnostic, VocabularyReader};
use nanochat_plan::{
    CLIMBMIX_FOLDER, CLIMBMIX_SHARDS, CorePlan, DataPlan, InitPlan, Settings, TokenizerPlan, climbmix_command,
    climbmix_shards,
};

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
        let tokenizer = if let TokenizerPlan::Path(path) = &settings.tokenizer { Some(path.as_str()) } else { None };
        let weights = if let InitPlan::Weights(path) = &settings.init { Some(path.as_str()) } else { None };
        let bundle = settings.eval.core.as_ref().map(|core| core.bundle.as_str());
        let named = [
            ("data.path", settings.data.path()),
            ("tokenizer.path", tokenizer),
            ("init.weights", weights),
            ("eval.core.bundle", bundle),
        ];
        for (key, path) in named {
            let unseen = path.filter(|path| seen.insert((key, path)));
            let absent = unseen.filter(|path| !resolve_path(path).exists());
            missing.extend(absent.map(|path| absence(experiment, key, path, remedy(settings, key, path))));
        }
        if let DataPlan::Climbmix { path, shards } = &settings.data
            && resolve_path(path).exists()
            && seen.insert(("data.shards", path.as_str()))
        {
            missing.extend(absent_shards(experiment, path, *shards));
        }
    }
    missing
}

/// The command that makes what is missing, where there is one.
fn remedy(settings: &Settings, key: &str, path: &str) -> Option<String> {
    match (key, &settings.data) {
        ("data.path", DataPlan::Climbmix { shards, .. }) => Some(climbmix_command(*shards, path)),
        ("data.path", DataPlan::Parquet { path, .. }) if path == CLIMBMIX_FOLDER => {
            Some(climbmix_command(CLIMBMIX_SHARDS, path))
        }
        ("tokenizer.path", DataPlan::Climbmix { path: data, .. }) => {
            let folder = if data == CLIMBMIX_FOLDER { "climbmix" } else { data };
            let size = settings.dials.vocab_size;
            Some(format!("nanochat tokenizer train --data {folder} --vocab-size {size} --out {path}"))
        }
        ("eval.core.bundle", _) => {
            let is_default = path == CorePlan::default().bundle;
            let out = if is_default { String::new() } else { format!(" --out {path}") };
            Some(format!("nanochat data download eval-bundle{out}"))
        }
        _ => None,
    }
}

/// Shards of the baseline's corpus that aren't in its folder.
fn absent_shards(experiment: &Experiment, path: &str, shards: u64) -> Option<Diagnostic> {
    let folder = resolve_path(path);
    let absent: Vec<String> = climbmix_shards(shards).filter(|name| !folder.join(name).is_file()).collect();
    let first = absent.first()?;
    let message = format!("{path}: {} of its {} shards are missing, the first is {first}", absent.len(), shards + 1);
    let help = format!("`{}` downloads them; data.shards says how many there are", climbmix_command(shards, path));
    let place = experiment.layers.place(&["data"]);
    Some(Diagnostic::error("missing-path", message).at(place).label("not all found").help(help))
}

fn absence(experiment: &Experiment, key: &str, path: &str, remedy: Option<String>) -> Diagnostic {
    let steps: Vec<&str> = key.split('.').collect();
    let place = experiment.layers.place(&steps);
    let relative = Path::new(path).is_relative() && !path.starts_with('~');
    let where_from = if relative { "; it is relative to the folder that the program is started in" } else { "" };
    let help = match remedy {
        _ if path.contains('$') => format!(
            "variables such as `$HOME` are not replaced in specs; `~` is the home folder. Let the shell do it: \
             --set \"{key}={path}\""
        ),
        Some(command) => format!("`{command}` makes it; or pass --set {key}=PATH"),
        None => format!("put it there, or pass --set {key}=PATH{where_from}"),
    };
    Diagnostic::error("missing-path", format!("`{key}`: there is no {path}")).at(place).label("not found").help(help)
}
