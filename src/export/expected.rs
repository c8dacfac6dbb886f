//! What the exported model has to compute, as a file beside it, so that anybody can hold a runtime against it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::ExportError;
use super::compare::Probe;
use nanochat_engine::checkpoint::save_tensors;
use nanochat_engine::model::Gpt;

/// The file.
pub(super) const FILE: &str = "expected.safetensors";
/// Positions at the end of each sequence whose logits are kept.
const POSITIONS: usize = 8;
/// Tokens that follow the first sequence.
const GREEDY: usize = 32;

/// Writes ids, the logits of their last tokens, and the tokens that follow the first row when the likeliest is taken each
/// time, with the smallest distance between the two likeliest on the way.
pub(super) fn write(model: &Gpt, probe: &Probe, logits: &Tensor, folder: &Path) -> Result<(), ExportError> {
    let length = logits.dim(1)?;
    let kept = POSITIONS.min(length);
    let (tokens, gap) = greedy(model, &probe.ids.get(0)?.to_vec1::<u32>()?)?;
    let tensors = BTreeMap::from([
        ("input_ids".to_string(), probe.ids.to_dtype(DType::I64)?),
        ("logits".to_string(), logits.narrow(1, length - kept, kept)?.contiguous()?),
        ("greedy_ids".to_string(), Tensor::from_vec(tokens, (1, GREEDY), &Device::Cpu)?),
        ("greedy_gap".to_string(), Tensor::new(&[gap], &Device::Cpu)?),
    ]);
    Ok(save_tensors(&folder.join(FILE), &tensors)?)
}

/// The likeliest tokens after a prompt, one after the other, and how close a second came.
fn greedy(model: &Gpt, prompt: &[u32]) -> Result<(Vec<i64>, f32), ExportError> {
    let mut cache = model.new_cache(1, prompt.len() + GREEDY)?;
    let (mut tokens, mut gap) = (Vec::new(), f32::INFINITY);
    let mut new = prompt.to_vec();
    while tokens.len() < GREEDY {
        let logits = model.next_logits(&[&new], &mut cache)?;
        let (mut best, mut second) = ((0, f32::NEG_INFINITY), f32::NEG_INFINITY);
        for (id, logit) in logits.iter().flatten().enumerate() {
            if *logit > best.1 {
                (second, best) = (best.1, (id, *logit));
            } else if *logit > second {
                second = *logit;
            }
        }
        gap = gap.min(best.1 - second);
        tokens.push(best.0 as i64);
        new = vec![best.0 as u32];
    }
    Ok((tokens, gap))
}
