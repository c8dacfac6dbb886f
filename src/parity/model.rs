//! Model figures: logits, losses, gradients, cached decoding and greedy generation of one small model.

use std::path::Path;

use candle_core::{DType, Device, IndexOp, Tensor};

use super::check::Concerning;
use super::tensors::{ReferenceTensors, elements};
use super::{Bound, Check, Differences, ParityError};
use nanochat_engine::model::{Gpt, Gradients, ModelError};
use nanochat_plan::ModelShape;

/// Absolute bound on logits; the reference's own rounding is a tenth of it.
const LOGIT_BOUND: Bound = Bound::Absolute(1e-5);
/// Relative bound on losses.
const LOSS_BOUND: Bound = Bound::Relative(2e-6);
/// Bound on the norm of a gradient's difference, as a share of the gradient's norm.
const GRADIENT_BOUND: Bound = Bound::Relative(5e-5);
/// A gradient whose norm is a smaller share of that of all gradients is zero but for rounding: both sides' sums have f32's
/// 6e-8 of the terms that cancel in them. Such a one has no figures of its own, and this share as its bound.
const ZERO_GRADIENT: f64 = 1e-6;
/// How many of the decoded tokens go through the cache one by one; those before are prefilled at once.
const DECODED_SINGLY: usize = 8;

/// Recomputes everything that a `model_*.safetensors` file holds.
pub fn check(file: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference = ReferenceTensors::read(file)?;
    let shape: ModelShape = reference.metadata("config")?;
    let weights = reference.group("weights.").into_iter().collect();
    let model = Gpt::from_tensors(&shape, &weights, device).reading(file)?;
    let mut checks = forward(&model, &reference)?;
    checks.extend(gradients(&model, &reference)?);
    checks.extend(decoding(&model, &reference)?);
    checks.push(greedy(&model, &reference)?);
    Ok(checks)
}

/// Logits and losses of the batch.
fn forward(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let (ids, targets) = batch(reference, model.device())?;
    let file = reference.path();
    let logits = elements(&model.logits(&ids).computing(file)?).computing(file)?;
    let mean = f64::from(model.loss(&ids, &targets).computing(file)?);
    let losses = elements(&model.losses(&ids, &targets).computing(file)?).computing(file)?;
    Ok(vec![
        Check::numbers(file, "logits", logits, reference.elements("logits")?, LOGIT_BOUND),
        Check::numbers(file, "loss_mean", [mean], reference.elements("loss_mean")?, LOSS_BOUND),
        Check::numbers(file, "loss_none", losses, reference.elements("loss_none")?, LOSS_BOUND),
    ])
}

/// The gradient of every parameter.
fn gradients(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let (ids, targets) = batch(reference, model.device())?;
    let file = reference.path();
    let mut sums = Gradients::zeros(model.parameters()).computing(file)?;
    model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).computing(file)?;
    let mut pairs = Vec::new();
    for (name, tensor) in sums.tensors() {
        pairs.push((name, elements(tensor).computing(file)?, reference.elements(&format!("grads.{name}"))?));
    }
    let zero = ZERO_GRADIENT * norm(pairs.iter().flat_map(|(_, _, theirs)| theirs).copied());
    Ok(pairs.iter().map(|(name, ours, theirs)| gradient(file, name, ours, theirs, zero)).collect())
}

/// One gradient; `zero` is the norm below which it is zero but for rounding.
fn gradient(file: &Path, name: &str, ours: &[f64], theirs: &[f64], zero: f64) -> Check {
    let differences = relative_to_norm(ours, theirs);
    if norm(theirs.iter().copied()) > zero {
        return Check::differences(file, format!("gradient {name}"), differences, GRADIENT_BOUND);
    }
    let apart =
        if differences.max_abs.is_finite() { norm(ours.iter().zip(theirs).map(|(a, b)| a - b)) } else { f64::INFINITY };
    let differences = Differences { max_abs: apart, ..differences };
    Check::differences(file, format!("gradient {name}, zero but for rounding"), differences, Bound::Absolute(zero))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// Logits of tokens decoded through the cache, against the reference's and against our own full forward pass.
fn decoding(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let (file, ids) = (reference.path(), ids(reference, "decode.input_ids", model.device())?);
    let full = elements(&model.logits(&ids).computing(file)?).computing(file)?;
    let cached = decode(model, &ids).computing(file)?;
    let theirs = reference.elements("decode.logits")?;
    let full_quantity = "decode.logits against the full forward pass";
    Ok(vec![
        Check::numbers(file, "decode.logits", cached.iter().copied(), theirs, LOGIT_BOUND),
        Check::numbers(file, full_quantity, cached.iter().copied(), full, LOGIT_BOUND),
    ])
}

/// Logits of all positions, the first ones prefilled at once and the last ones decoded one by one.
fn decode(model: &Gpt, ids: &Tensor) -> Result<Vec<f64>, ModelError> {
    let (rows, length) = ids.dims2()?;
    let prefilled = length.saturating_sub(DECODED_SINGLY).max(1);
    let mut cache = model.new_cache(rows, length)?;
    let mut logits = vec![model.logits_cached(&ids.narrow(1, 0, prefilled)?, &mut cache)?];
    for position in prefilled..length {
        logits.push(model.logits_cached(&ids.narrow(1, position, 1)?, &mut cache)?);
    }
    Ok(elements(&Tensor::cat(&logits, 1)?)?)
}

/// Tokens of greedy generation by the full forward pass.
fn greedy(model: &Gpt, reference: &ReferenceTensors) -> Result<Check, ParityError> {
    let (file, prompt) = (reference.path(), tokens(reference, "greedy.prompt")?);
    let expected = tokens(reference, "greedy.tokens")?;
    let generated = generate(model, prompt, expected.len()).computing(file)?;
    Ok(Check::equal(file, "greedy.tokens", &generated, &expected))
}

/// `count` tokens after the prompt, the likeliest each time.
fn generate(model: &Gpt, prompt: Vec<u32>, count: usize) -> Result<Vec<u32>, ModelError> {
    let mut tokens = prompt;
    let start = tokens.len();
    for _ in 0..count {
        let ids = Tensor::new(tokens.as_slice(), model.device())?.unsqueeze(0)?;
        let last = model.logits(&ids)?.i((0, tokens.len() - 1))?;
        tokens.push(last.argmax(0)?.to_scalar::<u32>()?);
    }
    Ok(tokens.split_off(start))
}

/// Ids and targets of the batch.
fn batch(reference: &ReferenceTensors, device: &Device) -> Result<(Tensor, Tensor), ParityError> {
    let targets = reference.tensor("targets")?.to_dtype(DType::I64).and_then(|targets| targets.to_device(device));
    Ok((ids(reference, "input_ids", device)?, targets.reading(reference.path())?))
}

/// A tensor of ids as the model takes them.
fn ids(reference: &ReferenceTensors, name: &str, device: &Device) -> Result<Tensor, ParityError> {
    let ids = reference.tensor(name)?.to_dtype(DType::U32).and_then(|ids| ids.to_device(device));
    ids.reading(reference.path())
}

/// A list of ids.
fn tokens(reference: &ReferenceTensors, name: &str) -> Result<Vec<u32>, ParityError> {
    ids(reference, name, &Device::Cpu)?.flatten_all().and_then(|ids| ids.to_vec1()).reading(reference.path())
}

/// Largest difference of an entry, and the norm of all differences over the reference's norm.
fn relative_to_norm(ours: &[f64], reference: &[f64]) -> Differences {
    let entries = Differences::between(ours.iter().copied(), reference.iter().copied());
    let difference = norm(ours.iter().zip(reference).map(|(a, b)| a - b));
    let max_rel = match norm(reference.iter().copied()) {
        _ if !entries.max_abs.is_finite() => f64::INFINITY,
        0.0 if difference > 0.0 => f64::INFINITY,
        0.0 => 0.0,
        norm => difference / norm,
    };
    Differences { max_abs: entries.max_abs, max_rel }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gradient that is zero but for rounding is held against the others' size; any other against its own.
    #[test]
    fn a_gradient_of_rounding_errors_has_an_absolute_bound() {
        let file = Path::new("x");
        let zero = ZERO_GRADIENT * 2.0;
        let noise = gradient(file, "backout_lambda", &[3e-8], &[-5e-8], zero);
        assert!(noise.ok && noise.quantity.ends_with("zero but for rounding"), "{noise:?}");
        assert!(!gradient(file, "backout_lambda", &[3e-5], &[-5e-8], zero).ok, "ours is no rounding error");
        assert!(!gradient(file, "backout_lambda", &[f64::NAN], &[0.0], zero).ok);
        assert!(!gradient(file, "lm_head.weight", &[1.0, 2.0], &[1.0, 2.001], zero).ok);
        assert!(!gradient(file, "lm_head.weight", &[1e-5], &[-1e-5], zero).ok, "small, but not zero");
    }
}
