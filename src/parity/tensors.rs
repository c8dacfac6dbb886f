//! A reference file of named tensors with JSON in its metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

use super::ParityError;
use super::check::Concerning;

/// Largest file of reference tensors that is read, in bytes.
const LARGEST: u64 = 8 << 30;

/// The tensors and metadata of one safetensors file.
#[derive(Debug)]
pub struct ReferenceTensors {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

impl ReferenceTensors {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Self, ParityError> {
        let bytes = nanochat_artifacts::files::read_named(path, LARGEST).reading(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).reading(path)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).reading(path)?;
        Ok(Self { path: path.to_path_buf(), tensors, metadata })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The JSON value of a metadata key.
    pub fn metadata<T: DeserializeOwned>(&self, key: &str) -> Result<T, ParityError> {
        let text = self.metadata.get(key).ok_or_else(|| self.broken(format!("no metadata `{key}`")))?;
        serde_json::from_str(text).map_err(|error| self.broken(format!("metadata `{key}`: {error}")))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, ParityError> {
        self.tensors.get(name).ok_or_else(|| self.broken(format!("no tensor `{name}`")))
    }

    /// The elements of the tensor of that name, in f64.
    pub fn elements(&self, name: &str) -> Result<Vec<f64>, ParityError> {
        elements(self.tensor(name)?).map_err(|error| self.broken(format!("tensor `{name}`: {error}")))
    }

    /// All tensors whose names begin with `prefix`, by the rest of their names, on a device.
    pub fn group_on(&self, prefix: &str, device: &Device) -> Result<BTreeMap<String, Tensor>, ParityError> {
        let moved = self.group(prefix).into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(device)?)));
        moved.collect::<Result<_, candle_core::Error>>().computing(&self.path)
    }

    /// All tensors whose names begin with `prefix`, by the rest of their names.
    pub fn group(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let rest = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone()));
        self.tensors.iter().filter_map(rest).collect()
    }

    /// An error of the file's content.
    pub fn broken(&self, reason: impl std::fmt::Display) -> ParityError {
        ParityError::unreadable(&self.path, reason)
    }
}

/// All elements of a tensor of any type, in f64.
pub fn elements(tensor: &Tensor) -> Result<Vec<f64>, candle_core::Error> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}
