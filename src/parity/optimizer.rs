//! Optimizer figures: parameters after given steps along given gradients.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::check::Concerning;
use super::tensors::{ReferenceTensors, elements};
use super::{Bound, Check, ParityError};
use nanochat_engine::checkpoint::StoredTensor;
use nanochat_engine::engines::{self, Engine, Setup};
use nanochat_engine::model::{Gpt, Gradients};
use nanochat_engine::optim::{LearningRates, StepSettings};
use nanochat_plan::activations::BatchSize;
use nanochat_plan::{ModelShape, Precision};

/// Absolute bound on parameters; the reference's own rounding is a tenth of it.
const PARAMETER_ROUNDING: f64 = 1e-6;
/// Muon decays an element where its update has the element's sign (`muon_step_fused` in `nanochat/optim.py`). The updates of a
/// matrix have a root mean square around a tenth, and what is this small hangs on rounding, and its sign with it.
const UPDATE_ROUNDING: f64 = 2e-5;
/// Parameters that Muon updates begin so.
const MUON: &str = "transformer.h.";

/// What the optimizer was set up with.
#[derive(Debug, Deserialize)]
struct Base {
    unembedding_lr: f64,
    embedding_lr: f64,
    matrix_lr: f64,
    scalar_lr: f64,
}

/// Settings of one step.
#[derive(Debug, Deserialize)]
struct Step {
    step: u64,
    lr_multiplier: f64,
    muon_momentum: f64,
    muon_weight_decay: f64,
}

/// Takes the steps of an `optimizer_*.safetensors` file and compares the parameters wherever it holds them.
pub fn check(file: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference = ReferenceTensors::read(file)?;
    let shape: ModelShape = reference.metadata("config")?;
    let base: Base = reference.metadata("base")?;
    let steps: Vec<Step> = reference.metadata("steps")?;
    let start = reference.group("step0.").into_iter().collect();
    let model = Gpt::from_tensors(&shape, &start, device).reading(file)?;
    let rates = LearningRates {
        embedding: base.embedding_lr,
        unembedding: base.unembedding_lr,
        matrix: base.matrix_lr,
        scalar: base.scalar_lr,
    };
    // No batch goes through it.
    let batch = BatchSize { rows: 1, length: 1 };
    let setup = Setup { batch, micro_steps: 1, rates, precision: Precision::F32 };
    let mut engine = engines::open(model, &setup).computing(file)?;
    let mut checks = Vec::new();
    let mut allowances = Allowances::default();
    for step in &steps {
        let gradients = Gradients::from_tensors(reference.group_on(&format!("grad{}.", step.step), device)?);
        let settings = StepSettings {
            lr_multiplier: step.lr_multiplier,
            muon_momentum: step.muon_momentum,
            muon_weight_decay: step.muon_weight_decay,
        };
        engine.load_gradients(&gradients).computing(file)?;
        let before = weights(engine.as_ref(), file)?;
        engine.optimizer_step(&settings).computing(file)?;
        allowances.note(
            &before,
            &weights(engine.as_ref(), file)?,
            rates.matrix * step.lr_multiplier,
            step.muon_weight_decay,
        );
        if !reference.group(&format!("step{}.", step.step)).is_empty() {
            checks.extend(parameters(engine.as_ref(), &reference, step.step, &allowances)?);
        }
    }
    Ok(checks)
}

/// Elements of every parameter by name.
type Elements = BTreeMap<String, Vec<f64>>;

fn weights(engine: &dyn Engine, file: &Path) -> Result<Elements, ParityError> {
    let weights = engine.weights().computing(file)?;
    let read = |(name, weight): (&String, &StoredTensor)| {
        let tensor = weight.to_tensor().computing(file)?;
        Ok((name.clone(), elements(&tensor).computing(file)?))
    };
    weights.iter().map(read).collect()
}

/// By how much elements may differ from the reference's because a decay hung on the sign of a rounding error.
#[derive(Default)]
struct Allowances(Elements);

impl Allowances {
    /// Adds what a step may have decayed here and not there, or there and not here.
    fn note(&mut self, before: &Elements, after: &Elements, rate: f64, decay: f64) {
        for (name, before) in before.iter().filter(|(name, _)| name.starts_with(MUON)) {
            let Some(after) = after.get(name) else { continue };
            let allowed = self.0.entry(name.clone()).or_insert_with(|| vec![0.0; before.len()]);
            for ((allowed, before), after) in allowed.iter_mut().zip(before).zip(after) {
                // The update, with the decay in it or without.
                let moved = (before - after) / rate;
                let undecided = moved.abs().min((moved - decay * before).abs()) < UPDATE_ROUNDING;
                *allowed += if undecided { rate * decay * before.abs() } else { 0.0 };
            }
        }
    }

    /// Elements of a parameter with an allowance, which is taken off their distance to the reference.
    fn apply(&self, name: &str, ours: &mut [f64], theirs: &[f64]) -> usize {
        let Some(allowed) = self.0.get(name) else { return 0 };
        let mut used = 0;
        for ((ours, theirs), allowed) in ours.iter_mut().zip(theirs).zip(allowed).filter(|(_, allowed)| **allowed > 0.0)
        {
            let apart = *ours - theirs;
            used += usize::from(apart.abs() > PARAMETER_ROUNDING);
            *ours = theirs + apart.signum() * (apart.abs() - allowed).max(0.0);
        }
        used
    }
}

/// Every parameter after one step.
fn parameters(
    engine: &dyn Engine,
    reference: &ReferenceTensors,
    step: u64,
    allowances: &Allowances,
) -> Result<Vec<Check>, ParityError> {
    let file = reference.path();
    let parameters = weights(engine, file)?.into_iter().map(|(name, mut ours)| {
        let theirs = reference.elements(&format!("step{step}.{name}"))?;
        let hanging = allowances.apply(&name, &mut ours, &theirs);
        let quantity = match hanging {
            0 => format!("step {step} {name}"),
            count => {
                format!("step {step} {name}, where the decay of {count} elements hung on the sign of a rounding error")
            }
        };
        Ok(Check::numbers(file, quantity, ours, theirs, Bound::Absolute(PARAMETER_ROUNDING)))
    });
    parameters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element whose update is nothing but rounding may be decayed or not, and no other one.
    #[test]
    fn a_decay_may_hang_on_the_sign_of_a_rounding_error() {
        let name = format!("{MUON}0.mlp.c_fc.weight");
        let (rate, decay) = (0.01, 0.2);
        let elements =
            |values: [f64; 3]| Elements::from([(name.clone(), values.to_vec()), ("lm_head.weight".into(), vec![0.5])]);
        // The first moved by nothing, the second by its decay alone, the third by an update of three tenths.
        let (before, after) = ([0.5, 0.5, 0.5], [0.5, 0.5 - rate * decay * 0.5, 0.5 - rate * 0.3]);
        let mut allowances = Allowances::default();
        allowances.note(&elements(before), &elements(after), rate, decay);
        let decayed = |value: f64| value - rate * decay * 0.5;
        let mut ours = after;
        let hanging = allowances.apply(&name, &mut ours, &[decayed(0.5), 0.5, decayed(after[2])]);
        assert_eq!(hanging, 2);
        let apart = [ours[0] - decayed(0.5), ours[1] - 0.5, ours[2] - decayed(after[2])].map(f64::abs);
        assert!(apart[0] < 1e-12 && apart[1] < 1e-12 && apart[2] > 9e-4, "{apart:?}");
        // Twice the decay is none that hung on a sign.
        let mut ours = after;
        allowances.apply(&name, &mut ours, &[0.5 - 2.0 * rate * decay * 0.5, 0.5, after[2]]);
        assert!((ours[0] - (0.5 - 2.0 * rate * decay * 0.5)).abs() > 9e-4);
        assert_eq!(allowances.apply("lm_head.weight", &mut [0.5], &[0.4]), 0);
    }
}
