//! What a reference file refers to: the checkpoint and the tokenizer in its folder, and the text that was used.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::ParityError;
use super::check::Concerning;
use nanochat_artifacts::{LONGEST_DOCUMENT, files};
use nanochat_engine::checkpoint::baseline;
use nanochat_engine::data::Corpus;
use nanochat_engine::model::Gpt;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::{DataPlan, ModelShape};

/// The model that the figures were measured on.
pub(super) struct Evaluated {
    pub model: Gpt,
    pub tokenizer: Tokenizer,
}

impl Evaluated {
    /// Loads the newest step of `checkpoint/` and `tokenizer_<vocab_size>.tiktoken` from the file's folder.
    pub fn load(file: &Path, device: &Device) -> Result<Self, ParityError> {
        let checkpoint = folder_of(file).join("checkpoint");
        let loaded = baseline::load(&checkpoint, None, device).reading(&checkpoint)?;
        let shape: ModelShape = serde_json::from_value(loaded.model_config).reading(&checkpoint)?;
        let weights = loaded.weights.into_iter().collect();
        let model = Gpt::from_tensors(&shape, &weights, device).reading(&checkpoint)?;
        Ok(Self { model, tokenizer: tokenizer(file, shape.vocab_size)? })
    }
}

/// Loads `tokenizer_<vocab_size>.tiktoken` from a file's folder.
pub(super) fn tokenizer(file: &Path, vocab_size: usize) -> Result<Tokenizer, ParityError> {
    let path = folder_of(file).join(format!("tokenizer_{vocab_size}.tiktoken"));
    Tokenizer::load(&path).reading(&path)
}

/// Opens a folder of parquet shards.
pub(super) fn open_corpus(data: &Path) -> Result<Corpus, ParityError> {
    Corpus::open(&DataPlan::parquet(data.display().to_string()), Path::new("")).reading(data)
}

/// The folder that a file lies in.
pub(super) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Reads a JSON document.
pub(super) fn document<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, ParityError> {
    let bytes = files::read_named(file, LONGEST_DOCUMENT).reading(file)?;
    serde_json::from_slice(&bytes).reading(file)
}
