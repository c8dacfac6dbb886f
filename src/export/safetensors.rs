//! Weights as one safetensors file under the baseline's names, with the descriptions beside it.

use std::path::Path;

use candle_core::Device;

use super::compare::{Probe, compare};
use super::weights::rounded;
use super::{ExportError, Written, config};
use crate::artifacts::ExportType;
use crate::checkpoint::save_tensors;
use crate::model::Gpt;
use crate::trained::Trained;

/// The weights' file.
pub(super) const FILE: &str = "model.safetensors";

/// Writes the folder and opens it again as `--checkpoint` would.
pub(super) fn write(trained: &Trained, weights: ExportType, folder: &Path) -> Result<Written, ExportError> {
    let model = &trained.model;
    let stored = rounded(model.parameters(), weights)?;
    save_tensors(&folder.join(FILE), &stored)?;
    config::write(trained, weights, folder)?;
    let back = Trained::open(folder, None, None, &Device::Cpu)?;
    let probe = Probe::new(model.shape())?;
    let source = Gpt::from_tensors(model.shape(), &stored.into_iter().collect(), &Device::Cpu)?;
    let (expected, found) = (probe.logits(&source)?, probe.logits(&back.model)?);
    let quantity = format!("logits of the folder opened again, against the source's weights in {}", weights.word());
    // The same numbers through the same kernels: the same bits.
    let mut checks = vec![compare(FILE, &quantity, &expected, &found, Some(0.0))?];
    if weights != ExportType::F32 {
        let quantity = format!("what rounding the weights to {} does to the logits", weights.word());
        checks.push(compare(FILE, &quantity, &probe.logits(model)?, &found, None)?);
    }
    Ok(Written { checks, remarks: Vec::new() })
}
