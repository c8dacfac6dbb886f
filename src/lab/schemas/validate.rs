//! Validation of files and folders, specs and results alike.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{KINDS, Kind, kind_of};
use nanochat_artifacts::{Bench, files};
use nanochat_experiment::config::check::Checker;
use nanochat_experiment::config::{self as spec, Diagnostic, Node, Place, Source, suggest};
use nanochat_experiment::{self as experiment, LoadOptions};
use nanochat_plan::{RunPlan, plan_hash};

/// Folders without documents of this program.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "node_modules", "checkpoints"];
/// Largest result document in bytes.
const MAX_RESULT_BYTES: u64 = 64 << 20;

/// What became of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// The file.
    pub path: PathBuf,
    /// Kind of document; none when this program has no such kind.
    pub kind: Option<&'static str>,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiled schemas, made when first needed.
static CHECKERS: [OnceLock<Checker>; KINDS.len()] = [const { OnceLock::new() }; KINDS.len()];

fn checker(kind: &Kind) -> Option<&'static Checker> {
    let place = KINDS.iter().position(|known| known.name == kind.name)?;
    Some(CHECKERS[place].get_or_init(|| Checker::new(kind.schema())))
}

/// Validates files, and all YAML and JSON documents in folders, in order of path. In a folder, JSON of another program
/// is skipped; a file that is named must be one.
pub fn validate(paths: &[PathBuf], options: &LoadOptions) -> Vec<Validated> {
    let mut validated = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files = Vec::new();
            collect(path, &mut files);
            files.sort();
            validated.extend(files.iter().map(|file| validate_file(file, false, options)));
        } else {
            validated.push(validate_file(path, true, options));
        }
    }
    name_once(&mut validated);
    validated
}

/// Blames every spec whose name an earlier one of the list has: their results would take each other's place.
fn name_once(validated: &mut [Validated]) {
    let mut seen: Vec<(String, PathBuf)> = Vec::new();
    for file in validated.iter_mut().filter(|file| file.kind == Some("experiment")) {
        let (Some(name), Ok(real)) = (experiment::stated_name(&file.path), file.path.canonicalize()) else { continue };
        let earlier = seen.iter().find(|(other, path)| other.eq_ignore_ascii_case(&name) && *path != real);
        if let Some((_, path)) = earlier {
            let place = path.file_name().unwrap_or_default().to_string_lossy();
            let message =
                format!("its name `{name}` is also that of {place}: their results would take each other's place");
            file.diagnostics.push(Diagnostic::error("same-name", message).help("give every spec a name of its own"));
        }
        seen.push((name, real));
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.starts_with('.') || (is_folder && SKIPPED_FOLDERS.contains(&name.as_ref())) {
            continue;
        }
        if is_folder {
            collect(&path, files);
        } else if is_document(&name) {
            files.push(path);
        }
    }
}

fn is_document(name: &str) -> bool {
    let json = name.ends_with(".json") && !name.ends_with(".schema.json");
    json || name.ends_with(".yaml") || name.ends_with(".yml")
}

fn validate_file(path: &Path, named: bool, options: &LoadOptions) -> Validated {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    // A folder that came with the project may be a link to one of the user's.
    let outcome = match files::refuse_linked_parts(path) {
        Err(error) => Err(vec![Diagnostic::error("unreadable", format!("can't read {}: {error}", path.display()))]),
        Ok(()) if is_json => validate_result(path, named),
        Ok(()) => validate_spec(path, named, options),
    };
    let (kind, diagnostics) = outcome.unwrap_or_else(|diagnostics| (None, diagnostics));
    Validated { path: path.to_path_buf(), kind, diagnostics }
}

type Outcome = Result<(Option<&'static str>, Vec<Diagnostic>), Vec<Diagnostic>>;

/// A YAML file: a spec, or a hardware profile.
fn validate_spec(path: &Path, named: bool, options: &LoadOptions) -> Outcome {
    // A pipe is waited for only where the user named it.
    let source = if named { spec::read_typed(path) } else { spec::read_source(path) };
    let source = source.map_err(|problem| vec![problem])?;
    let node = spec::parse(&source)?;
    if node.get("schema").and_then(Node::text) == Some(spec::document::PROFILE_SCHEMA) {
        return Ok((Some("hardware"), spec::check::PROFILE.check(&node, true)));
    }
    // What was read from a pipe isn't there a second time.
    match experiment::load_bytes(path, source.text().as_bytes(), options) {
        Err(errors) => Ok((Some("experiment"), errors.diagnostics)),
        Ok(experiment) => {
            let mut diagnostics = experiment.warnings.clone();
            let warn = |missing: Diagnostic| Diagnostic { severity: spec::Severity::Warning, ..missing };
            diagnostics.extend(experiment::missing_paths(&experiment).into_iter().map(warn));
            Ok((Some("experiment"), diagnostics))
        }
    }
}

/// A JSON file: a result, or a file of another program.
fn validate_result(path: &Path, named: bool) -> Outcome {
    let unreadable =
        |reason: String| vec![Diagnostic::error("unreadable", format!("can't read {}: {reason}", path.display()))];
    let text = files::read_text(path, MAX_RESULT_BYTES).map_err(|error| unreadable(error.to_string()))?;
    let source = Source::new(path.display().to_string(), text);
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(source.text()) {
        return Err(vec![not_json(&source, &error)]);
    }
    let node = spec::parse_large(&source)?;
    let Some(schema) = node.get("schema") else {
        let missing = Diagnostic::error("missing-key", "this document doesn't say what it is: it has no `schema`");
        let missing = missing.at(Some(&Place::new(&source, 0..1)));
        return if named { Err(vec![missing]) } else { Ok((None, Vec::new())) };
    };
    let id = schema.text().unwrap_or_default();
    let Some(kind) = kind_of(id) else {
        let ours = id.starts_with("nanochat.");
        let known: Vec<&str> = KINDS.iter().filter_map(|kind| kind.id).collect();
        let (message, help) = if Bench::is_retired(id) {
            let message = format!("{id:?} is a document of an earlier version, which this one no longer reads");
            (message, "measure again with `nanochat bench`, or use the version that wrote it".to_owned())
        } else {
            (format!("{id:?} is no kind of document that this version knows"), suggest::help(id, known))
        };
        let unknown = Diagnostic::error("unknown-kind", message).at(Some(&schema.place)).help(help);
        return if named || ours { Err(vec![unknown]) } else { Ok((None, Vec::new())) };
    };
    let mut diagnostics = checker(kind).map(|checker| checker.check(&node, true)).unwrap_or_default();
    if diagnostics.is_empty() {
        diagnostics.extend(contradictions(kind.name, &source, &node));
    }
    Ok((Some(kind.name), diagnostics))
}

fn not_json(source: &Arc<Source>, error: &serde_json::Error) -> Diagnostic {
    let start = source.line_range(error.line()).start;
    let at = start + error.column().saturating_sub(1);
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    let diagnostic = Diagnostic::error("not-json", format!("this is not JSON: {message}"));
    diagnostic.at(Some(&Place::new(source, at..at + 1)))
}

/// What a document says against itself.
fn contradictions(kind: &str, source: &Arc<Source>, node: &Node) -> Vec<Diagnostic> {
    if kind != "plan" {
        return Vec::new();
    }
    let Ok(plan) = serde_json::from_str::<RunPlan>(source.text()) else { return Vec::new() };
    let mut found = Vec::new();
    let hash = plan_hash(&plan);
    if hash != plan.plan_hash {
        let message = "`plan_hash` is not the hash of this plan: it was changed after it was written";
        let place = node.nearest(&["plan_hash"]).place.clone();
        found.push(Diagnostic::error("wrong-hash", message).at(Some(&place)).help(format!("its hash is {hash}")));
    }
    let digits = plan.plan_hash.get(..8).unwrap_or_default();
    if !plan.run_id.ends_with(digits) {
        let place = node.nearest(&["run_id"]).place.clone();
        let message = format!("`run_id` must end in the first digits of the hash, {digits}");
        found.push(Diagnostic::error("wrong-run-id", message).at(Some(&place)));
    }
    found
}

/// A diagnostic as scripts read it.
pub fn to_json(path: &Path, diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.place.as_ref();
    let (line, column) = place.map(|place| place.line_column()).unzip();
    let file = place.map_or_else(|| path.display().to_string(), |place| place.source().name().to_owned());
    serde_json::json!({
        "file": file,
        "line": line,
        "column": column,
        "severity": match diagnostic.severity {
            spec::Severity::Error => "error",
            spec::Severity::Warning => "warning",
        },
        "code": diagnostic.code,
        "message": diagnostic.message,
        "help": diagnostic.help,
    })
}
