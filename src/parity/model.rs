//! Model figures: logits, losses, gradients, cached decoding and greedy generation of one small model.

use std::path::Path;

use candle_core::{DType, Device, IndexOp, Tensor};

use super::tensors::{ReferenceTensors, numbers};
use super::{Check, Differences, ParityError};
use nanochat_engine::model::{Gpt, Gradients, ModelError};
use nanochat_plan::ModelShape;

/// Absolute bound on logits; the reference's own rounding is a tenth of it.
const LOGIT_BOUND: f64 = 1e-5;
/// Relative bound on losses.
const LOSS_BOUND: f64 = 2e-6;
/// Bound on the norm of a gradient's difference, as a share of the gradient's norm.
const GRADIENT_BOUND: f64 = 5e-5;
/// How many of the decoded tokens go through the cache one by one; those before are prefilled at once.
const DECODED_SINGLY: usize = 8;

/// Recomputes everything that a `model_*.safetensors` file holds.
pub fn check(file: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference = ReferenceTensors::read(file)?;
    let shape: ModelShape = reference.metadata("config")?;
    let weights = reference.group("weights.").into_iter().collect();
    let model = Gpt::from_tensors(&shape, &weights, device).map_err(|error| reference.broken(error))?;
    let mut checks = forward(&model, &reference)?;
    checks.extend(gradients(&model, &reference)?);
    checks.extend(decoding(&model, &reference)?);
    checks.push(greedy(&model, &reference)?);
    Ok(checks)
}

/// Logits and losses of the batch.
fn forward(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let (ids, targets) = batch(reference, model.device())?;
    let engine = |error: ModelError| reference.engine(error);
    let logits = model.logits(&ids).map_err(engine)?;
    let mean = model.loss(&ids, &targets).map_err(engine)?;
    let losses = model.losses(&ids, &targets).map_err(engine)?;
    let against = |ours: &Tensor, name: &str| -> Result<Differences, ParityError> {
        Ok(Differences::between(numbers(ours).map_err(|error| reference.engine(error))?, reference.numbers(name)?))
    };
    let file = reference.path();
    let mean = Differences::between([f64::from(mean)], reference.numbers("loss_mean")?);
    Ok(vec![
        Check::absolute(file, "logits", against(&logits, "logits")?, LOGIT_BOUND),
        Check::relative(file, "loss_mean", mean, LOSS_BOUND),
        Check::relative(file, "loss_none", against(&losses, "loss_none")?, LOSS_BOUND),
    ])
}

/// The gradient of every parameter.
fn gradients(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let (ids, targets) = batch(reference, model.device())?;
    let mut sums = Gradients::zeros(model.parameters()).map_err(|error| reference.engine(error))?;
    model.accumulate_gradients(&ids, &targets, 1.0, &mut sums).map_err(|error| reference.engine(error))?;
    let mut checks = Vec::new();
    for (name, tensor) in sums.tensors() {
        let ours = numbers(tensor).map_err(|error| reference.engine(error))?;
        let differences = relative_to_norm(&ours, &reference.numbers(&format!("grads.{name}"))?);
        checks.push(Check::relative(reference.path(), format!("gradient {name}"), differences, GRADIENT_BOUND));
    }
    Ok(checks)
}

/// Logits of tokens decoded through the cache, against the reference's and against our own full forward pass.
fn decoding(model: &Gpt, reference: &ReferenceTensors) -> Result<Vec<Check>, ParityError> {
    let ids = ids(reference, "decode.input_ids", model.device())?;
    let full = model.logits(&ids).and_then(|logits| Ok(numbers(&logits)?)).map_err(|error| reference.engine(error))?;
    let cached = decode(model, &ids).map_err(|error| reference.engine(error))?;
    let file = reference.path();
    let against = |other: Vec<f64>| Differences::between(cached.iter().copied(), other);
    Ok(vec![
        Check::absolute(file, "decode.logits", against(reference.numbers("decode.logits")?), LOGIT_BOUND),
        Check::absolute(file, "decode.logits against the full forward pass", against(full), LOGIT_BOUND),
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
    Ok(numbers(&Tensor::cat(&logits, 1)?)?)
}

/// Tokens of greedy generation by the full forward pass.
fn greedy(model: &Gpt, reference: &ReferenceTensors) -> Result<Check, ParityError> {
    let prompt = tokens(reference, "greedy.prompt")?;
    let expected = tokens(reference, "greedy.tokens")?;
    let generated = generate(model, prompt, expected.len()).map_err(|error| reference.engine(error))?;
    let mismatches = generated.iter().zip(&expected).filter(|(ours, theirs)| ours != theirs).count();
    Ok(Check::equal(reference.path(), "greedy.tokens", mismatches, expected.len()))
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
    Ok((ids(reference, "input_ids", device)?, targets.map_err(|error| reference.broken(error))?))
}

/// A tensor of ids as the model takes them.
fn ids(reference: &ReferenceTensors, name: &str, device: &Device) -> Result<Tensor, ParityError> {
    let ids = reference.tensor(name)?.to_dtype(DType::U32).and_then(|ids| ids.to_device(device));
    ids.map_err(|error| reference.broken(error))
}

/// A list of ids.
fn tokens(reference: &ReferenceTensors, name: &str) -> Result<Vec<u32>, ParityError> {
    ids(reference, name, &Device::Cpu)?
        .flatten_all()
        .and_then(|ids| ids.to_vec1())
        .map_err(|error| reference.broken(error))
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
