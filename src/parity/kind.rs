//! What kind of reference file this is, by name and content, so that files of other shapes and seeds are recognised too.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::ParityError;
use super::check::Concerning;
use super::checkpoint::document;

/// Kinds of reference files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One small model with weights, gradients, logits, decoding and greedy tokens.
    Model,
    /// Parameter counts, FLOPs, cache sizes and windows.
    ModelFigures,
    /// Five optimizer steps on given gradients.
    Optimizer,
    /// Derived hyperparameters of several depths.
    Derived,
    /// A pretraining run: needs data.
    Trajectory,
    /// Byte-pair ranks: with data, trained anew.
    Ranks,
    /// Texts and conversations with their ids.
    TokenizerCases,
    /// Bits per byte of a checkpoint: needs data.
    BitsPerByte,
    /// CORE results of a checkpoint.
    Core,
    /// Greedy continuations of a checkpoint.
    Greedy,
    /// A file or folder that other files refer to, or prose: nothing to check by itself.
    Companion,
}

/// Recognises a file.
///
/// # Errors
/// The file can't be read, or is of no known kind.
pub fn recognise(path: &Path) -> Result<Kind, ParityError> {
    if path.is_dir() {
        return recognise_folder(path);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match name.rsplit('.').next().unwrap_or_default() {
        "md" | "log" => readable(path).map(|()| Kind::Companion),
        "tiktoken" | "pkl" => readable(path).map(|()| Kind::Ranks),
        "safetensors" => by_tensor_names(path),
        "json" => by_keys(path),
        _ => Err(unknown(path, "expected .json, .safetensors, .tiktoken or .pkl")),
    }
}

fn unknown(path: &Path, reason: &str) -> ParityError {
    ParityError::UnknownKind { path: path.to_path_buf(), reason: reason.to_string() }
}

fn readable(path: &Path) -> Result<(), ParityError> {
    let mut byte = [0];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut byte));
    read.map(|_| ()).reading(path)
}

fn recognise_folder(path: &Path) -> Result<Kind, ParityError> {
    let is_bundle = path.join("core.yaml").is_file();
    let mut names = std::fs::read_dir(path).reading(path)?.flatten();
    let is_checkpoint = names.any(|entry| entry.file_name().to_string_lossy().starts_with("model_"));
    if is_bundle || is_checkpoint {
        Ok(Kind::Companion)
    } else {
        Err(unknown(path, "a folder is either an evaluation bundle or a checkpoint; to check files, name them"))
    }
}

/// Only the header of a safetensors file is read: eight bytes of length, then JSON.
fn by_tensor_names(path: &Path) -> Result<Kind, ParityError> {
    const LARGEST_HEADER: u64 = 100 << 20;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER || length > file.metadata()?.len() {
            return Err(std::io::Error::other("its header claims to be longer than the file"));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        Ok(header)
    };
    let header = read().reading(path)?;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&header).map_err(|error| format!("its header: {error}")).reading(path)?;
    let has = |prefix: &str| header.keys().any(|name| name.starts_with(prefix));
    if has("weights.") && has("input_ids") {
        Ok(Kind::Model)
    } else if has("step0.") && has("grad1.") {
        Ok(Kind::Optimizer)
    } else if has("initial.") {
        Ok(Kind::Companion)
    } else {
        Err(unknown(path, "no tensors named weights.*, step0.* or initial.*"))
    }
}

fn by_keys(path: &Path) -> Result<Kind, ParityError> {
    let value: Value = document(path)?;
    let has = |key: &str| value.get(key).is_some();
    let inside = |key: &str| {
        let entries = value.as_object().into_iter().flat_map(|object| object.values());
        entries.into_iter().any(|entry| entry.get(key).is_some())
    };
    let kinds = [
        (has("micro_step_losses") && has("flags"), Kind::Trajectory),
        (has("rows") && has("sequence_len"), Kind::Derived),
        (has("encode") && has("special_tokens"), Kind::TokenizerCases),
        (has("bpb") && has("steps"), Kind::BitsPerByte),
        (inside("centered_results"), Kind::Core),
        (inside("config") && inside("params"), Kind::ModelFigures),
        (value.get(0).is_some_and(|first| first.get("prompt_ids").is_some()), Kind::Greedy),
    ];
    let known = kinds.iter().find(|(matches, _)| *matches).map(|(_, kind)| *kind);
    known.ok_or_else(|| unknown(path, "its keys are those of no reference document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_and_foreign_files_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&str, &[u8]); 5] = [
            ("a.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
            ("b.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
            ("c.json", b"[1, 2"),
            ("d.json", b"{\"x\": 1}"),
            ("e.bin", b""),
        ];
        for (name, bytes) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(recognise(&path).is_err(), "{name}");
        }
        assert!(recognise(&folder.path().join("absent.json")).is_err());
        assert!(recognise(folder.path()).is_err());
    }
}
