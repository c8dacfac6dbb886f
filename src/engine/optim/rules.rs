//! Which parameter is stepped how (`setup_optimizer`).

use crate::model::parameter_shapes;
use nanochat_plan::{ModelShape, RunPlan};

/// Width at which AdamW's learning rates were tuned; they scale with 1/√width from there.
const TUNED_WIDTH: f64 = 768.0;
/// Learning rate of smear and backout, whatever the others are.
const SMEAR_LEARNING_RATE: f64 = 0.2;
/// Residual scalars learn at this share of the scalars' rate.
const RESIDUAL_SHARE: f64 = 0.01;
/// Value embeddings learn at this share of the embeddings' rate.
const VALUE_EMBEDDING_SHARE: f64 = 0.5;

/// Base learning rates, after the factor for the batch size, before the one for the width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Token and value embeddings (AdamW).
    pub embedding: f64,
    /// Output projection (AdamW).
    pub unembedding: f64,
    /// Layer matrices (Muon).
    pub matrix: f64,
    /// Residual and input scalars (AdamW).
    pub scalar: f64,
}

impl LearningRates {
    /// Those of a plan.
    pub fn of(plan: &RunPlan) -> Self {
        let (base, scale) = (&plan.optimizer, plan.lr_scale);
        Self {
            embedding: base.embedding_lr * scale,
            unembedding: base.unembedding_lr * scale,
            matrix: base.matrix_lr * scale,
            scalar: base.scalar_lr * scale,
        }
    }
}

/// AdamW's hyperparameters for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AdamWRule {
    /// Base learning rate.
    pub(super) learning_rate: f64,
    /// Decay of the first and second moments.
    pub(super) betas: [f64; 2],
    /// Decoupled weight decay.
    pub(super) weight_decay: f64,
}

/// How one parameter is stepped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// Decoupled Adam.
    AdamW(AdamWRule),
    /// Orthogonalised momentum, for a matrix of these rows and columns.
    Muon {
        /// Base learning rate, the factor for tall matrices included.
        learning_rate: f64,
        /// Outputs.
        rows: usize,
        /// Inputs.
        columns: usize,
    },
}

/// The rule of every parameter, in name order.
pub(super) fn rules(shape: &ModelShape, rates: &LearningRates) -> Vec<(String, Rule)> {
    (parameter_shapes(shape).into_iter())
        .map(|(name, dims)| {
            let rule = rule(&name, &dims, shape.n_embd, rates);
            (name, rule)
        })
        .collect()
}

fn rule(name: &str, dims: &[usize], width: usize, rates: &LearningRates) -> Rule {
    let for_width = (width as f64 / TUNED_WIDTH).powf(-0.5);
    let adamw = |learning_rate, betas, weight_decay| Rule::AdamW(AdamWRule { learning_rate, betas, weight_decay });
    match (name, dims) {
        ("lm_head.weight", _) => adamw(rates.unembedding * for_width, [0.8, 0.96], 0.01),
        ("transformer.wte.weight", _) => adamw(rates.embedding * for_width, [0.8, 0.995], 0.001),
        ("resid_lambdas", _) => adamw(rates.scalar * RESIDUAL_SHARE, [0.8, 0.95], 0.05),
        ("x0_lambdas", _) => adamw(rates.scalar, [0.96, 0.95], 0.0),
        (_, [rows, columns]) if name.starts_with("transformer.h.") => {
            let tall = (*rows as f64 / *columns as f64).max(1.0);
            Rule::Muon { learning_rate: rates.matrix, rows: *rows, columns: *columns }.scaled(tall.sqrt())
        }
        _ if name.starts_with("value_embeds.") => {
            adamw(rates.embedding * for_width * VALUE_EMBEDDING_SHARE, [0.8, 0.995], 0.01)
        }
        _ => adamw(SMEAR_LEARNING_RATE, [0.8, 0.95], 0.0),
    }
}

impl Rule {
    /// The same with the learning rate times `factor`.
    pub(super) fn scaled(self, factor: f64) -> Self {
        match self {
            Self::AdamW(rule) => Self::AdamW(AdamWRule { learning_rate: rule.learning_rate * factor, ..rule }),
            Self::Muon { learning_rate, rows, columns } => {
                Self::Muon { learning_rate: learning_rate * factor, rows, columns }
            }
        }
    }
}
