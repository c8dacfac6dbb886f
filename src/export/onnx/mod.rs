//! ONNX graphs of the model: `model.onnx` computes logits of whole sequences, `model_with_past.onnx` continues from cached
//! keys and values. The graphs use only common operators and compute in f32, whatever type the weights are stored in.

mod files;
mod network;
#[cfg(test)]
mod tests;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::compare::compare;
use super::{ExportError, Subject, Written, config};
use nanochat_formats::onnx::{Evaluator, Values};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::head_dim;

use network::{IDS, LOGITS, PAST_EMBEDDING, PRESENT_EMBEDDING, cache_names};

/// The operator set that the graphs are written for.
const OPERATOR_SET: i64 = 23;
/// The version of the file format that came with it.
const IR_VERSION: i64 = 11;

/// The graph of whole sequences.
const WHOLE: &str = "model.onnx";
/// The graph that continues from a cache.
const CACHED: &str = "model_with_past.onnx";
/// External weights, where a protobuf message can't hold them.
const DATA: &str = "model.onnx_data";

/// Most that logits may differ: sums of some hundred f32 products in another order, capped at 15, differ by some 1e-5.
const BOUND: f64 = 1e-4;
/// Lengths of the cached graph's last calls, after one call with all other tokens.
const LAST_CALLS: [usize; 2] = [3, 1];

/// Writes the folder, evaluates both graphs and compares their logits with the source's.
pub(super) fn write(subject: &Subject<'_>, folder: &Path) -> Result<Written, ExportError> {
    let (weights, shape) = (subject.options.weights, subject.trained.model.shape());
    files::write(shape, subject.stored, subject.options, folder)?;
    config::write(subject.trained, weights, folder)?;
    let quantity = |what: &str| {
        let means = "evaluated by this program's own reading of the operators";
        format!("logits of {what}, {means}, against the source's weights in {}", weights.word())
    };
    let ids = &subject.probe.ids;
    let whole = whole_logits(&folder.join(WHOLE), ids)?;
    let cached = cached_logits(&folder.join(CACHED), shape, ids)?;
    let checks = vec![
        compare(WHOLE, &quantity("whole sequences"), subject.logits, &whole, Some(BOUND))?,
        compare(CACHED, &quantity("the same sequences in three calls"), subject.logits, &cached, Some(BOUND))?,
    ];
    let remarks = vec![
        "no ONNX runtime but this program's evaluator has run these files; `expected.safetensors` is there to try others"
            .into(),
    ];
    Ok(Written { checks, remarks })
}

/// Logits of whole sequences by the first graph.
fn whole_logits(file: &Path, ids: &Tensor) -> Result<Tensor, ExportError> {
    let outputs = Evaluator::read(file)?.run([(IDS.to_string(), ids.to_dtype(DType::I64)?)].into())?;
    named(file, &outputs, LOGITS)
}

/// Logits of the same ids by the second graph: nearly all at once, then a few, then one.
fn cached_logits(file: &Path, shape: &ModelShape, ids: &Tensor) -> Result<Tensor, ExportError> {
    let evaluator = Evaluator::read(file)?;
    let (rows, length) = ids.dims2()?;
    let ids = ids.to_dtype(DType::I64)?;
    let mut cache = empty_cache(shape, rows)?;
    let (mut logits, mut start) = (Vec::new(), 0);
    let calls = [length.saturating_sub(LAST_CALLS.iter().sum()), LAST_CALLS[0], LAST_CALLS[1]];
    for count in calls {
        let mut inputs = std::mem::take(&mut cache);
        inputs.insert(IDS.into(), ids.narrow(1, start, count)?);
        let outputs = evaluator.run(inputs)?;
        logits.push(named(file, &outputs, LOGITS)?);
        for layer in 0..shape.n_layer {
            let [past, present] = cache_names(layer);
            for (past, present) in past.into_iter().zip(present) {
                cache.insert(past, named(file, &outputs, &present)?);
            }
        }
        cache.insert(PAST_EMBEDDING.into(), named(file, &outputs, PRESENT_EMBEDDING)?);
        start += count;
    }
    Ok(Tensor::cat(&logits, 1)?)
}

/// The second graph's inputs at first.
fn empty_cache(shape: &ModelShape, rows: usize) -> Result<Values, ExportError> {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    let mut cache = Values::from([(PAST_EMBEDDING.to_string(), zeros(&[rows, 1, shape.n_embd])?)]);
    for name in (0..shape.n_layer).flat_map(|layer| cache_names(layer)[0].clone()) {
        cache.insert(name, zeros(&[rows, shape.n_kv_head, 0, head_dim(shape)])?);
    }
    Ok(cache)
}

fn named(file: &Path, outputs: &Values, name: &str) -> Result<Tensor, ExportError> {
    let graph = |reason: String| ExportError::Graph { path: file.into(), reason };
    outputs.get(name).cloned().ok_or_else(|| graph(format!("it gives no `{name}` out")))
}
