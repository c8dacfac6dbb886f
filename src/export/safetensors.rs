//! Weights as one safetensors file under the baseline's names, with the descriptions beside it.

use std::path::Path;

use candle_core::Device;

use super::compare::compare;
use super::{ExportError, Subject, Written, config};
use nanochat_engine::checkpoint::save_tensors;
use nanochat_engine::trained::Trained;

/// The weights' file.
const FILE: &str = "model.safetensors";

/// Writes the folder and opens it again as `--checkpoint` would.
pub(super) fn write(subject: &Subject<'_>, folder: &Path) -> Result<Written, ExportError> {
    let weights = subject.options.weights;
    save_tensors(&folder.join(FILE), subject.stored)?;
    config::write(subject.trained, weights, folder)?;
    let back = Trained::open(folder, None, None, &Device::Cpu)?;
    let quantity = format!("logits of the folder opened again, against the source's weights in {}", weights.word());
    // The same numbers through the same kernels: the same bits.
    let checks = vec![compare(FILE, &quantity, subject.logits, &subject.probe.logits(&back.model)?, Some(0.0))?];
    Ok(Written { checks, remarks: Vec::new() })
}
