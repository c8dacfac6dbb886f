//! Finds and reads tokenizer files of every kind, and writes them whole or not at all.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{files, write_atomic};
use nanochat_formats::disguise::disguise;

use super::{Tokenizer, TokenizerError, huggingface, pickle, tiktoken};

/// The kinds of file that hold a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerFormat {
    /// Hugging Face's `tokenizer.json`.
    HuggingFace,
    /// Lines of base64 and rank.
    Tiktoken,
    /// The baseline's `tokenizer.pkl`.
    Pickle,
}

/// Larger files are no tokenizers: a vocabulary of a million tokens takes some 50 MB.
pub(super) const LARGEST_FILE: u64 = 1 << 30;

impl TokenizerFormat {
    /// By the file's name.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::HuggingFace),
            "tiktoken" => Some(Self::Tiktoken),
            "pkl" => Some(Self::Pickle),
            _ => None,
        }
    }
}

impl Tokenizer {
    /// Reads a tokenizer from a folder (`tokenizer.json`, else `tokenizer.pkl`, else the one `.tiktoken` file in it) or
    /// from a file of one of these kinds. Nothing in a pickle is executed.
    ///
    /// # Errors
    /// No such file, or one that doesn't hold the baseline's kind of tokenizer; the message says where and why.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let file = if path.is_dir() { file_in(path)? } else { path.to_path_buf() };
        let format = TokenizerFormat::of(&file).ok_or_else(|| TokenizerError::NotFound { path: file.clone() })?;
        if let Some(told) = disguise(&file) {
            return Err(TokenizerError::malformed(&file, "whole file", told));
        }
        let bytes = files::read_named(&file, LARGEST_FILE).map_err(TokenizerError::io(&file))?;
        let ranks = match format {
            TokenizerFormat::HuggingFace => huggingface::read(&file, &bytes),
            TokenizerFormat::Tiktoken => tiktoken::read(&file, &bytes),
            TokenizerFormat::Pickle => pickle::read(&file, &bytes),
        }?;
        Self::from_ranks(ranks).map_err(|error| TokenizerError::malformed(&file, "whole file", error.to_string()))
    }

    /// The text of Hugging Face's `tokenizer.json`.
    ///
    /// # Errors
    /// The ranks can't be written as merges.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        huggingface::write(self.vocabulary())
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// It is not the baseline's kind of tokenizer.
    pub fn from_json(text: &str) -> Result<Self, TokenizerError> {
        Self::from_ranks(huggingface::read(Path::new("tokenizer.json"), text.as_bytes())?)
    }

    /// Writes Hugging Face's `tokenizer.json` into `folder`, which is made if need be.
    ///
    /// # Errors
    /// The system refuses, or the ranks can't be written as merges.
    pub fn save(&self, folder: &Path) -> Result<(), TokenizerError> {
        self.save_as(&folder.join("tokenizer.json"), TokenizerFormat::HuggingFace)
    }

    /// Writes the tokenizer to `file` in the given format, whole or not at all; its folder is made if need be.
    ///
    /// # Errors
    /// The system refuses, or the format can't say what the ranks say.
    pub fn save_as(&self, file: &Path, format: TokenizerFormat) -> Result<(), TokenizerError> {
        let bytes = match format {
            TokenizerFormat::HuggingFace => self.to_json()?.into_bytes(),
            TokenizerFormat::Tiktoken => tiktoken::write(self.ranks()).into_bytes(),
            TokenizerFormat::Pickle => pickle::write(self.ranks()),
        };
        Ok(write_atomic(file, &bytes)?)
    }
}

/// The tokenizer file of a folder.
fn file_in(folder: &Path) -> Result<PathBuf, TokenizerError> {
    for name in ["tokenizer.json", "tokenizer.pkl"] {
        let file = folder.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let mut rank_files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TokenizerError::io(folder))? {
        let file = entry.map_err(TokenizerError::io(folder))?.path();
        if TokenizerFormat::of(&file) == Some(TokenizerFormat::Tiktoken) {
            rank_files.push(file);
        }
    }
    match rank_files.len() {
        0 => Err(TokenizerError::NotFound { path: folder.to_path_buf() }),
        1 => Ok(rank_files.swap_remove(0)),
        count => Err(TokenizerError::Ambiguous { path: folder.to_path_buf(), count }),
    }
}
