//! The checkpoint and the tokenizer that lie beside a file of evaluation figures.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::ParityError;
use nanochat_engine::checkpoint::baseline;
use nanochat_engine::model::Gpt;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::ModelShape;

/// The model that the figures were measured on.
pub(super) struct Beside {
    pub model: Gpt,
    pub tokenizer: Tokenizer,
}

impl Beside {
    /// Loads the newest step of `checkpoint/` and `tokenizer_<vocab_size>.tiktoken` from the file's folder.
    pub fn load(file: &Path, device: &Device) -> Result<Self, ParityError> {
        let folder = folder_of(file);
        let checkpoint = folder.join("checkpoint");
        let unreadable = |error: &dyn std::fmt::Display| ParityError::unreadable(&checkpoint, error);
        let loaded = baseline::load(&checkpoint, None, device).map_err(|error| unreadable(&error))?;
        let shape: ModelShape = serde_json::from_value(loaded.model_config).map_err(|error| unreadable(&error))?;
        let weights = loaded.weights.into_iter().collect();
        let model = Gpt::from_tensors(&shape, &weights, device).map_err(|error| unreadable(&error))?;
        let path = folder.join(format!("tokenizer_{}.tiktoken", shape.vocab_size));
        let tokenizer = Tokenizer::load(&path).map_err(|error| ParityError::unreadable(&path, error))?;
        Ok(Self { model, tokenizer })
    }
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
    let bytes = std::fs::read(file).map_err(|error| ParityError::unreadable(file, error))?;
    serde_json::from_slice(&bytes).map_err(|error| ParityError::unreadable(file, error))
}
