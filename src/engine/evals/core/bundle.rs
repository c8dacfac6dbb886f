//! The evaluation bundle: `core.yaml` names the tasks, `eval_meta_data.csv` what guessing gives, `eval_data/` the examples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nanochat_artifacts::bytes_sha256;
use nanochat_plan::OnCoreError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use nanochat_artifacts::files;

use super::PythonRandom;
use super::examples::pose;
use crate::evals::EvalError;
use crate::tokenizer::Tokenizer;

/// Seed of the order in which a task's examples are evaluated.
const ORDER_SEED: u64 = 1337;

/// Largest file of a bundle that is read, in bytes; the largest of the real bundle's has some 50 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Largest `core.yaml` that is read, in bytes; the real one has 8 KB.
const MAX_CONFIG_BYTES: u64 = 256 << 10;

/// Most brackets within each other in `core.yaml`; the real one has two.
const MAX_DEPTH: usize = 64;

/// A bundle's tasks with their examples, in evaluation order.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Tasks in the order of `core.yaml`.
    pub tasks: Vec<Task>,
    /// Examples that are left out since they can't be evaluated; always none with [`OnCoreError::Stop`].
    pub skipped: Vec<Skipped>,
}

/// An example that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Label of its task.
    pub task: String,
    /// Place among the task's examples in evaluation order; none when it could not even be read.
    pub example: Option<usize>,
    /// Why.
    pub reason: String,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub label: String,
    /// How it is posed.
    pub kind: TaskKind,
    /// Examples shown before each question.
    pub shots: usize,
    /// What stands between a context and its continuation.
    pub delimiter: String,
    /// Accuracy of guessing, in percent.
    pub random_baseline: f64,
    /// Examples in evaluation order.
    pub items: Vec<Item>,
}

/// The kinds of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One context, several continuations: the cheapest by mean loss should be the right one.
    MultipleChoice,
    /// Several contexts, one continuation: the context under which it is cheapest should be the right one.
    Schema,
    /// One continuation, of which every token should be the likeliest.
    LanguageModeling,
}

/// One example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Of [`TaskKind::MultipleChoice`].
    MultipleChoice {
        /// The context.
        query: String,
        /// The continuations.
        choices: Vec<String>,
        /// Index of the right one.
        gold: usize,
    },
    /// Of [`TaskKind::Schema`].
    Schema {
        /// The contexts.
        context_options: Vec<String>,
        /// The continuation.
        continuation: String,
        /// Index of the right context.
        gold: usize,
    },
    /// Of [`TaskKind::LanguageModeling`].
    LanguageModeling {
        /// The context.
        context: String,
        /// The continuation.
        continuation: String,
    },
}

#[derive(Deserialize)]
struct CoreFile {
    icl_tasks: Vec<TaskEntry>,
}

#[derive(Deserialize)]
struct TaskEntry {
    label: String,
    dataset_uri: String,
    num_fewshot: Vec<usize>,
    icl_task_type: TaskKind,
    #[serde(default = "space")]
    continuation_delimiter: String,
}

fn space() -> String {
    " ".to_string()
}

impl Bundle {
    /// SHA-256, 64 hex digits, of all tasks with their questions, in order.
    pub fn sha256(&self) -> String {
        bytes_sha256(format!("{:?}", self.tasks).as_bytes())
    }

    /// Reads a bundle and puts every task's examples into evaluation order; with `max_per_task`, keeps the first so many. A
    /// malformed example is an error, or left out as if its file didn't have it.
    ///
    /// Errors: a missing or broken file, named with its line; a task with too few examples for its shots.
    pub fn open(folder: &Path, max_per_task: Option<usize>, on_error: OnCoreError) -> Result<Self, EvalError> {
        let mut skipped = Vec::new();
        let config_path = folder.join("core.yaml");
        let config = read_up_to(&config_path, MAX_CONFIG_BYTES)?;
        refuse_depth(&config_path, &config)?;
        let config: CoreFile =
            serde_yaml::from_str(&config).map_err(|error| broken(&config_path, error.to_string()))?;
        if config.icl_tasks.is_empty() {
            return Err(broken(&config_path, "`icl_tasks` is empty"));
        }
        let baselines = random_baselines(&folder.join("eval_meta_data.csv"))?;
        let tasks = config.icl_tasks.into_iter().map(|entry| {
            let missing = || broken(&folder.join("eval_meta_data.csv"), format!("it has no row `{}`", entry.label));
            let random_baseline = *baselines.get(&entry.label).ok_or_else(missing)?;
            let shots = entry.num_fewshot.first().copied();
            let shots =
                shots.ok_or_else(|| broken(&config_path, format!("task `{}`: `num_fewshot` is empty", entry.label)))?;
            let path = folder.join("eval_data").join(relative(&config_path, &entry.dataset_uri)?);
            let (mut items, malformed) = read_items(&path, entry.icl_task_type)?;
            for reason in malformed {
                if on_error == OnCoreError::Stop {
                    return Err(broken(&path, reason));
                }
                let reason = format!("{}, {reason}", entry.dataset_uri);
                skipped.push(Skipped { task: entry.label.clone(), example: None, reason });
            }
            PythonRandom::new(ORDER_SEED).shuffle(&mut items);
            items.truncate(max_per_task.unwrap_or(usize::MAX));
            let (label, delimiter) = (entry.label, entry.continuation_delimiter);
            let task = Task { label, kind: entry.icl_task_type, shots, delimiter, random_baseline, items };
            task.check()?;
            Ok(task)
        });
        let tasks = tasks.collect::<Result<_, EvalError>>()?;
        Ok(Self { tasks, skipped })
    }

    /// Leaves out the examples that can't be posed to a model with this tokenizer; they still serve as shots of others.
    ///
    /// # Errors
    /// Nothing is left of a task.
    pub fn skip_unposable(&mut self, tokenizer: &Tokenizer, max_prompt_tokens: usize) -> Result<(), EvalError> {
        for task in &self.tasks {
            let refused = |index| match pose(task, index, tokenizer, max_prompt_tokens) {
                Err(EvalError::Example { task, example, reason }) => {
                    Some(Ok(Skipped { task, example: Some(example), reason }))
                }
                other => other.err().map(Err),
            };
            let refused = (0..task.items.len()).into_par_iter().filter_map(refused);
            let refused = refused.collect::<Result<Vec<_>, _>>()?;
            if refused.len() == task.items.len() {
                let (task, shots) = (task.label.clone(), task.shots);
                return Err(EvalError::TooFewExamples { task, shots, examples: 0 });
            }
            self.skipped.extend(refused);
        }
        Ok(())
    }

    /// Places of a task's examples that are evaluated, in order.
    pub(super) fn evaluated(&self, task: &Task) -> Vec<usize> {
        let left_out = self.skipped.iter().filter(|skipped| skipped.task == task.label);
        let left_out: BTreeSet<usize> = left_out.filter_map(|skipped| skipped.example).collect();
        (0..task.items.len()).filter(|index| !left_out.contains(index)).collect()
    }

    /// Says how many examples are left out, and which is the first; none when all are evaluated.
    pub fn skipped_in_words(&self) -> Option<String> {
        let first = self.skipped.first()?;
        let count = self.skipped.len();
        let (examples, were) = if count == 1 { ("example", "was") } else { ("examples", "were") };
        let place = first.example.map(|place| format!(", example {place} in evaluation order")).unwrap_or_default();
        Some(format!(
            "{count} {examples} of CORE {were} skipped, the first of task `{}`{place}: {}",
            first.task, first.reason
        ))
    }
}

impl Task {
    /// Refuses a task without examples, or with fewer others than its shots.
    fn check(&self) -> Result<(), EvalError> {
        if self.items.len() <= self.shots {
            let (task, shots, examples) = (self.label.clone(), self.shots, self.items.len());
            return Err(EvalError::TooFewExamples { task, shots, examples });
        }
        Ok(())
    }
}

fn broken(path: &Path, reason: impl Into<String>) -> EvalError {
    EvalError::Bundle { path: path.to_path_buf(), reason: reason.into() }
}

fn read(path: &Path) -> Result<String, EvalError> {
    read_up_to(path, MAX_FILE_BYTES)
}

fn read_up_to(path: &Path, limit: u64) -> Result<String, EvalError> {
    let bytes = files::read_named(path, limit).map_err(|error| broken(path, error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| broken(path, error.utf8_error().to_string()))
}

/// Refuses brackets within brackets without end, which take the parser time that grows with their square.
fn refuse_depth(path: &Path, text: &str) -> Result<(), EvalError> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(broken(path, format!("more than {MAX_DEPTH} brackets within each other")));
        }
    }
    Ok(())
}

/// A path that stays inside `eval_data/`.
fn relative(config: &Path, uri: &str) -> Result<PathBuf, EvalError> {
    let path = PathBuf::from(uri);
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if inside { Ok(path) } else { Err(broken(config, format!("`dataset_uri: {uri}` leaves the bundle"))) }
}

/// Accuracy of guessing by task, in percent.
fn random_baselines(path: &Path) -> Result<BTreeMap<String, f64>, EvalError> {
    let text = read(path)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| broken(path, error.to_string()))?.clone();
    let column = |name: &str| {
        let at = headers.iter().position(|header| header == name);
        at.ok_or_else(|| broken(path, format!("it has no column `{name}`")))
    };
    let (task, baseline) = (column("Eval Task")?, column("Random baseline")?);
    let mut baselines = BTreeMap::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| broken(path, error.to_string()))?;
        let cell = |at: usize| record.get(at).map(str::trim).unwrap_or_default();
        let value = cell(baseline).parse::<f64>().ok().filter(|value| value.is_finite() && *value < 100.0);
        let told = || broken(path, format!("row {}: `{}` is no percentage below 100", row + 2, cell(baseline)));
        baselines.insert(cell(task).to_string(), value.ok_or_else(told)?);
    }
    Ok(baselines)
}

/// Examples of a file of JSON lines, and what is wrong with lines that are none; blank lines are passed over.
fn read_items(path: &Path, kind: TaskKind) -> Result<(Vec<Item>, Vec<String>), EvalError> {
    let text = read(path)?;
    let (mut items, mut malformed) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fields = serde_json::from_str::<Map<String, Value>>(line).map_err(|error| error.to_string());
        match fields.and_then(|fields| item(&fields, kind)) {
            Ok(item) => items.push(item),
            Err(reason) => malformed.push(format!("line {}: {reason}", index + 1)),
        }
    }
    Ok((items, malformed))
}

fn item(fields: &Map<String, Value>, kind: TaskKind) -> Result<Item, String> {
    match kind {
        TaskKind::MultipleChoice => {
            let choices = texts(fields, "choices")?;
            let gold = gold(fields, choices.len())?;
            Ok(Item::MultipleChoice { query: text(fields, "query")?, choices, gold })
        }
        TaskKind::Schema => {
            let context_options = texts(fields, "context_options")?;
            let gold = gold(fields, context_options.len())?;
            Ok(Item::Schema { context_options, continuation: text(fields, "continuation")?, gold })
        }
        TaskKind::LanguageModeling => Ok(Item::LanguageModeling {
            context: text(fields, "context")?,
            continuation: text(fields, "continuation")?,
        }),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    let value = fields.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
    as_text(value).ok_or_else(|| format!("`{name}` is neither text nor a whole number"))
}

/// A template prints whole numbers as their digits.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn texts(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let values = fields.get(name).and_then(Value::as_array).filter(|values| !values.is_empty());
    let values = values.ok_or_else(|| format!("`{name}` is no list with entries"))?;
    let texts = values.iter().map(as_text).collect::<Option<_>>();
    texts.ok_or_else(|| format!("an entry of `{name}` is neither text nor a whole number"))
}

fn gold(fields: &Map<String, Value>, options: usize) -> Result<usize, String> {
    let gold = fields.get("gold").and_then(Value::as_u64).and_then(|gold| usize::try_from(gold).ok());
    gold.filter(|gold| *gold < options).ok_or_else(|| format!("`gold` is no index of the {options} options"))
}
