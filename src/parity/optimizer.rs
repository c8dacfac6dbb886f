//! Optimizer figures: parameters after given steps along given gradients.

use std::path::Path;

use candle_core::Device;
use serde::Deserialize;

use super::check::Concerning;
use super::tensors::{ReferenceTensors, elements};
use super::{Bound, Check, ParityError};
use nanochat_engine::engines::{self, Engine, Setup};
use nanochat_engine::model::{Gpt, Gradients};
use nanochat_engine::optim::{LearningRates, StepSettings};
use nanochat_plan::activations::BatchSize;
use nanochat_plan::{ModelShape, Precision};

/// Absolute bound on parameters; the reference's own rounding is a tenth of it.
const PARAMETER_BOUND: Bound = Bound::Absolute(1e-6);

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
    for step in &steps {
        let gradients = Gradients::from_tensors(reference.group_on(&format!("grad{}.", step.step), device)?);
        let settings = StepSettings {
            lr_multiplier: step.lr_multiplier,
            muon_momentum: step.muon_momentum,
            muon_weight_decay: step.muon_weight_decay,
        };
        engine.load_gradients(&gradients).computing(file)?;
        engine.optimizer_step(&settings).computing(file)?;
        if !reference.group(&format!("step{}.", step.step)).is_empty() {
            checks.extend(parameters(engine.as_ref(), &reference, step.step)?);
        }
    }
    Ok(checks)
}

/// Every parameter after one step.
fn parameters(engine: &dyn Engine, reference: &ReferenceTensors, step: u64) -> Result<Vec<Check>, ParityError> {
    let file = reference.path();
    let weights = engine.weights().computing(file)?;
    let parameters = weights.iter().map(|(name, weight)| {
        let tensor = weight.to_tensor().computing(file)?;
        let (ours, theirs) = (elements(&tensor).computing(file)?, reference.elements(&format!("step{step}.{name}"))?);
        Ok(Check::numbers(file, format!("step {step} {name}"), ours, theirs, PARAMETER_BOUND))
    });
    parameters.collect()
}
