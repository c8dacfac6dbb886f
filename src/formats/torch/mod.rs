//! `.pt` files, as `torch.save` writes and `torch.load` reads them: a zip archive of stored entries, with one pickle that
//! describes tensors and one entry of raw bytes for each storage.

mod archive;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

pub use read::read_torch_file;
pub use write::write_torch_file;

/// A value of a `.pt` file.
#[derive(Debug)]
pub enum TorchValue {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A tensor, row-major.
    Tensor(Tensor),
    /// A list or tuple.
    List(Vec<TorchValue>),
    /// A dictionary's entries.
    Dict(Vec<(TorchValue, TorchValue)>),
}

impl TorchValue {
    /// A dictionary with string keys.
    pub fn into_named(self) -> Option<BTreeMap<String, TorchValue>> {
        let TorchValue::Dict(entries) = self else { return None };
        let named = entries.into_iter().map(|(key, value)| match key {
            TorchValue::Text(name) => Some((name, value)),
            _ => None,
        });
        named.collect()
    }

    /// A dictionary of tensors with string keys: a model's weights.
    pub fn into_tensors(self) -> Option<BTreeMap<String, Tensor>> {
        let tensors = self.into_named()?.into_iter().map(|(name, value)| match value {
            TorchValue::Tensor(tensor) => Some((name, tensor)),
            _ => None,
        });
        tensors.collect()
    }

    /// A number as f64.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            TorchValue::Int(value) => Some(*value as f64),
            TorchValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A tensor, or a number as a scalar f64 tensor.
    ///
    /// # Errors
    /// The device refuses.
    pub fn into_tensor(self, device: &Device) -> candle_core::Result<Option<Tensor>> {
        let number = self.as_number();
        match self {
            TorchValue::Tensor(tensor) => Ok(Some(tensor)),
            _ => number.map(|value| Tensor::new(value, device)).transpose(),
        }
    }
}

/// Storage classes and their element types; the first class of a type is the one that is written.
const STORAGES: [(&str, DType); 9] = [
    ("FloatStorage", DType::F32),
    ("DoubleStorage", DType::F64),
    ("HalfStorage", DType::F16),
    ("BFloat16Storage", DType::BF16),
    ("ByteStorage", DType::U8),
    ("BoolStorage", DType::U8),
    ("ShortStorage", DType::I16),
    ("IntStorage", DType::I32),
    ("LongStorage", DType::I64),
];
