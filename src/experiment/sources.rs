//! Data, tokenizer and hardware: what a spec says about them, complete or refused.

use serde::Deserialize;
use serde_json::{Value, json};

use nanochat_plan::{CLIMBMIX_FOLDER, CLIMBMIX_SHARDS, DataPlan, Profile, TEXT_COLUMN, TokenizerPlan};

use super::problem::Problem;
use crate::config::document::{DataSource, DataSpec, TokenizerSpec};
use crate::config::merge;

/// The baseline's vocabulary, characters a document and characters in all for tokenizer training.
const TRAIN_DEFAULTS: (u64, u64, u64) = (32_768, 10_000, 2_000_000_000);
/// Field of a JSON line that holds the document.
/// The data source.
pub fn data(stated: Option<&DataSpec>) -> Result<DataPlan, Vec<Problem>> {
    let example = "such as `data: { source: synthetic, bytes: 2000000 }`";
    let Some(data) = stated else {
        return Err(vec![Problem::missing("data", "nothing says what to train on").help(example)]);
    };
    let Some(source) = data.source else {
        return Err(vec![
            Problem::missing("data.source", "one of `climbmix`, `parquet`, `jsonl`, `text`, `synthetic`").help(example),
        ]);
    };
    let mut problems = foreign_keys(data, source);
    let plan = match source {
        DataSource::Synthetic => data.bytes.map(|bytes| DataPlan::Synthetic { seed: data.seed.unwrap_or(0), bytes }),
        DataSource::Parquet => {
            let field = data.field.clone().filter(|field| field != TEXT_COLUMN);
            data.path.clone().map(|path| DataPlan::Parquet { path, field })
        }
        DataSource::Climbmix => Some(DataPlan::Climbmix {
            path: data.path.clone().unwrap_or_else(|| CLIMBMIX_FOLDER.to_owned()),
            shards: data.shards.unwrap_or(CLIMBMIX_SHARDS),
        }),
        DataSource::Text => data.path.clone().map(|path| DataPlan::Text { path }),
        DataSource::Jsonl => data.path.clone().map(|path| {
            let field = data.field.clone().unwrap_or_else(|| TEXT_COLUMN.to_owned());
            DataPlan::Jsonl { path, field }
        }),
    };
    match plan {
        Some(plan) if problems.is_empty() => return Ok(plan),
        Some(_) => {}
        None if source == DataSource::Synthetic => {
            problems.push(Problem::missing("data.bytes", "the size of the synthetic corpus").help(example));
        }
        None => {
            let problem = Problem::missing("data.path", "the folder or file that holds the documents");
            problems.push(problem.help("write it down, or pass --set data.path=FOLDER"));
        }
    }
    Err(problems)
}

/// Keys that mean nothing for the source.
fn foreign_keys(data: &DataSpec, source: DataSource) -> Vec<Problem> {
    let synthetic = source == DataSource::Synthetic;
    let rules = [
        ("data.path", data.path.is_some() && synthetic),
        ("data.shards", data.shards.is_some() && source != DataSource::Climbmix),
        ("data.field", data.field.is_some() && !matches!(source, DataSource::Jsonl | DataSource::Parquet)),
        ("data.seed", data.seed.is_some() && !synthetic),
        ("data.bytes", data.bytes.is_some() && !synthetic),
    ];
    let name = format!("{source:?}").to_lowercase();
    let refuse = |key: &str| {
        Problem::new("meaningless", key, format!("`{key}` means nothing with `source: {name}`")).help("delete it")
    };
    rules.into_iter().filter(|(_, foreign)| *foreign).map(|(key, _)| refuse(key)).collect()
}

/// The tokenizer and its vocabulary.
pub struct Tokenizer {
    /// Where it comes from.
    pub plan: TokenizerPlan,
    /// Tokens, special ones included.
    pub vocab_size: usize,
    /// The vocabulary is the baseline's, since neither the spec nor a file says.
    pub is_assumed: bool,
}

/// Reads the tokenizer's section.
pub fn tokenizer(
    stated: Option<&TokenizerSpec>,
    vocabulary: &dyn Fn(&str) -> Result<Option<usize>, String>,
) -> Result<Tokenizer, Vec<Problem>> {
    let example = "such as `tokenizer: { train: { vocab_size: 4096 } }`, or `tokenizer: { path: FOLDER }`";
    let Some(tokenizer) = stated else {
        return Err(vec![Problem::missing("tokenizer", "nothing says how text becomes tokens").help(example)]);
    };
    if let Some(train) = &tokenizer.train {
        if tokenizer.vocab_size.is_some() {
            let message = "`tokenizer.vocab_size` belongs to a stored tokenizer";
            return Err(vec![
                Problem::new("meaningless", "tokenizer.vocab_size", message).help("write it under `train`"),
            ]);
        }
        let vocab_size = train.vocab_size.unwrap_or(TRAIN_DEFAULTS.0) as usize;
        let max_chars_per_document = train.max_chars_per_document.unwrap_or(TRAIN_DEFAULTS.1);
        let max_chars = train.max_chars.unwrap_or(TRAIN_DEFAULTS.2);
        let plan = TokenizerPlan::Train { vocab_size, max_chars_per_document, max_chars };
        return Ok(Tokenizer { plan, vocab_size, is_assumed: false });
    }
    let Some(path) = &tokenizer.path else {
        return Err(vec![Problem::missing("tokenizer", "it has neither `path` nor `train`").help(example)]);
    };
    let known = match tokenizer.vocab_size {
        Some(size) => Some(size as usize),
        None => vocabulary(path).map_err(|reason| {
            let message = format!("the tokenizer at {path} can't be read: {reason}");
            vec![Problem::new("bad-tokenizer", "tokenizer.path", message)]
        })?,
    };
    let vocab_size = known.unwrap_or(TRAIN_DEFAULTS.0 as usize);
    Ok(Tokenizer { plan: TokenizerPlan::Path(path.clone()), vocab_size, is_assumed: known.is_none() })
}

/// The hardware profile, from the merged `hardware` section.
pub fn profile(stated: Option<&Value>) -> Result<Profile, Vec<Problem>> {
    let mut whole = json!({ "profile": "inline" });
    merge::merge(&mut whole, stated.unwrap_or(&json!({})));
    let needed = [
        ("device", "one of `cpu`, `cuda`, `metal`"),
        ("dtype", "one of `f32`, `bf16`"),
        ("device_batch_size", "sequences per device and micro-step"),
    ];
    let missing = needed.into_iter().filter(|(key, _)| whole.get(key).is_none()).map(|(key, what)| {
        let help = "or name a profile of experiments/hardware, such as `hardware: cpu`";
        Problem::missing(&format!("hardware.{key}"), what).help(help)
    });
    let missing: Vec<Problem> = missing.collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    Profile::deserialize(whole).map_err(|error| vec![Problem::new("bad-spec", "hardware", error.to_string())])
}
