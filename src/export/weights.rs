//! Weights in the type that they are stored in.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::ExportError;
use crate::artifacts::ExportType;

impl ExportType {
    /// As the command line and the files' descriptions write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// PyTorch's name of it.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Parameters with their matrices rounded to a type; vectors of scalars stay f32, which costs nothing.
///
/// # Errors
/// A number beyond the type's range.
pub(super) fn rounded(
    parameters: &BTreeMap<String, Tensor>,
    weights: ExportType,
) -> Result<BTreeMap<String, Tensor>, ExportError> {
    let stored = parameters.iter().map(|(name, tensor)| {
        if tensor.rank() < 2 || weights == ExportType::F32 {
            return Ok((name.clone(), tensor.clone()));
        }
        let stored = tensor.to_dtype(weights.dtype())?;
        let largest = stored.abs()?.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()?;
        if !largest.is_finite() {
            let reason = format!("{name} holds numbers beyond the range of {}", weights.word());
            return Err(ExportError::Weights { reason });
        }
        Ok((name.clone(), stored))
    });
    stored.collect()
}
