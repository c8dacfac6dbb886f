//! Weights in the type that they are stored in.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::ExportError;
use nanochat_artifacts::ExportType;

fn dtype(weights: ExportType) -> DType {
    match weights {
        ExportType::F32 => DType::F32,
        ExportType::F16 => DType::F16,
        ExportType::Bf16 => DType::BF16,
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
        let stored = tensor.to_dtype(dtype(weights))?;
        let largest = stored.abs()?.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()?;
        if !largest.is_finite() {
            let reason = format!("{name} holds numbers beyond the range of {}", weights.word());
            return Err(ExportError::Weights { reason });
        }
        Ok((name.clone(), stored))
    });
    stored.collect()
}
