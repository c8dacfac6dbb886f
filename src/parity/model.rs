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
    let mut checks = Vec::new();
    for (name, tensor) in sums.tensors() {
        let ours = elements(tensor).computing(file)?;
        let differences = relative_to_norm(&ours, &reference.elements(&format!("grads.{name}"))?);
        checks.push(Check::differences(file, format!("gradient {name}"), differences, GRADIENT_BOUND));
    }
    Ok(checks)
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
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(reference).map(|(a, b)| a - b));
    let max_rel = match norm(&mut reference.iter().copied()) {
        _ if !entries.max_abs.is_finite() => f64::INFINITY,
        0.0 if difference > 0.0 => f64::INFINITY,
        0.0 => 0.0,
        norm => difference / norm,
    };
    Differences { max_abs: entries.max_abs, max_rel }
}
