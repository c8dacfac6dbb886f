//! A folder that `nanochat export --to safetensors` wrote.

use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::{Trained, TrainedError, fitting_tokenizer, model_of};
use crate::checkpoint::load_tensors;
use nanochat_artifacts::{ArtifactError, Export, LONGEST_DOCUMENT, files, read_document};
use nanochat_plan::ModelShape;

const WEIGHTS: &str = "model.safetensors";
const DESCRIPTION: &str = "config.json";
const RECORD: &str = "export.json";

/// What is read of `config.json`: the baseline's names of the shape.
#[derive(Deserialize)]
struct Description {
    sequence_len: usize,
    vocab_size: usize,
    n_layer: usize,
    n_head: usize,
    n_kv_head: usize,
    n_embd: usize,
    window_pattern: String,
}

/// Whether a folder holds such files.
pub(super) fn is_at(folder: &Path) -> bool {
    folder.join(WEIGHTS).is_file() && folder.join(DESCRIPTION).is_file()
}

/// Opens the folder; its step is the one that `export.json` names, 0 where there is none.
pub(super) fn open(
    folder: &Path,
    step: Option<u64>,
    tokenizer: Option<&Path>,
    device: &Device,
) -> Result<Trained, TrainedError> {
    let path = folder.join(DESCRIPTION);
    let incomplete = |reason: String| TrainedError::Incomplete { path: path.clone(), reason };
    let text = files::read_named(&path, LONGEST_DOCUMENT).map_err(|error| ArtifactError::io("read", &path, error))?;
    let named: Description = serde_json::from_slice(&text).map_err(|error| incomplete(error.to_string()))?;
    let shape = ModelShape {
        sequence_len: named.sequence_len,
        vocab_size: named.vocab_size,
        n_layer: named.n_layer,
        n_head: named.n_head,
        n_kv_head: named.n_kv_head,
        n_embd: named.n_embd,
        window_pattern: named.window_pattern,
    };
    let record = folder.join(RECORD);
    let record = if record.is_file() { Some(read_document::<Export>(&record)?) } else { None };
    let own = record.map_or(0, |record| record.source.step);
    if let Some(wanted) = step.filter(|wanted| *wanted != own) {
        return Err(incomplete(format!("it is of step {own}, not of {wanted}")));
    }
    let stored = folder.join(WEIGHTS);
    let model = model_of(&shape, load_tensors(&stored, device)?.into_iter().collect(), &path, &stored, device)?;
    let stored = folder.join("tokenizer.json");
    let found = tokenizer.map(Path::to_path_buf).or_else(|| stored.is_file().then_some(stored));
    let tokenizer = fitting_tokenizer(found, folder, &shape)?;
    Ok(Trained { model, tokenizer, step: own, path: folder.to_path_buf(), plan: None, remarks: Vec::new() })
}
