//! Every hyperparameter that follows from the dials, as `scripts/base_train.py` derives it at the pinned commit.
//!
//! The training horizon is a ratio of tokens to scaling parameters; the batch size grows with the horizon as D^0.383
//! (Power Lines, arXiv 2505.13738), learning rates with the square root of the batch size, and Muon's weight decay is
//! scaled so that B/(η·λ·D) stays constant (arXiv 2405.13698). All are relative to a 12-layer model of the same
//! proportions. Integers follow Python's arithmetic: floor division, truncation, rounding half to even.

use super::{BudgetPlan, ModelShape, ParameterCounts, PlanError, flops_per_token, parameter_counts, shape};

/// Layers of the model that the scaling laws refer to.
const REFERENCE_DEPTH: usize = 12;
/// Best batch size of that model in tokens, 2^19.
const REFERENCE_BATCH: f64 = 524_288.0;
/// How the best batch size grows with the training horizon.
const BATCH_EXPONENT: f64 = 0.383;
/// Tokens per scaling parameter, unless the budget says otherwise.
pub const DEFAULT_PARAM_DATA_RATIO: f64 = 12.0;
/// Width at which AdamW's learning rates hold unscaled.
const REFERENCE_WIDTH: f64 = 768.0;

/// The dials. `None` means: derive it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeriveInputs {
    /// Number of layers, the one dial.
    pub depth: usize,
    /// Width per layer.
    pub aspect_ratio: usize,
    /// Target channels per head.
    pub head_dim: usize,
    /// Context length in tokens.
    pub sequence_len: usize,
    /// Vocabulary size in tokens, before padding.
    pub vocab_size: usize,
    /// `S` and `L`, tiled over the layers.
    pub window_pattern: String,
    /// Width set by hand.
    pub n_embd: Option<usize>,
    /// Query heads set by hand.
    pub n_head: Option<usize>,
    /// Key/value heads set by hand; as many as query heads otherwise.
    pub n_kv_head: Option<usize>,
    /// Tokens per scaling parameter for the scaling laws when the budget isn't such a ratio; 12 otherwise.
    pub reference_ratio: Option<f64>,
    /// Tokens per optimizer step set by hand.
    pub total_batch_size: Option<u64>,
    /// How long to train.
    pub budget: BudgetPlan,
    /// Muon's weight decay before scaling.
    pub weight_decay: f64,
}

impl DeriveInputs {
    /// The baseline's defaults at a depth and vocabulary.
    pub fn baseline(depth: usize, vocab_size: usize) -> Self {
        Self {
            depth,
            aspect_ratio: 64,
            head_dim: 128,
            sequence_len: 2048,
            vocab_size,
            window_pattern: "SSSL".to_owned(),
            n_embd: None,
            n_head: None,
            n_kv_head: None,
            reference_ratio: None,
            total_batch_size: None,
            budget: BudgetPlan::ParamDataRatio(DEFAULT_PARAM_DATA_RATIO),
            weight_decay: 0.28,
        }
    }

    /// Tokens per scaling parameter that the scaling laws use.
    pub fn target_param_data_ratio(&self) -> f64 {
        match self.budget {
            BudgetPlan::ParamDataRatio(ratio) => ratio,
            _ => self.reference_ratio.unwrap_or(DEFAULT_PARAM_DATA_RATIO),
        }
    }

    /// The shape at a depth, widths set by hand left out: what the scaling laws' reference model looks like.
    fn proportional_shape(&self, depth: usize) -> ModelShape {
        let n_embd = nudged_width(depth, self.aspect_ratio, self.head_dim);
        let n_head = n_embd / self.head_dim.max(1);
        ModelShape {
            sequence_len: self.sequence_len,
            vocab_size: self.vocab_size,
            n_layer: depth,
            n_head,
            n_kv_head: n_head,
            n_embd,
            window_pattern: self.window_pattern.clone(),
        }
    }

    /// The shape that is trained.
    pub fn shape(&self) -> ModelShape {
        let mut shape = self.proportional_shape(self.depth);
        shape.n_embd = self.n_embd.unwrap_or(shape.n_embd);
        shape.n_head = self.n_head.unwrap_or(shape.n_embd / self.head_dim.max(1));
        shape.n_kv_head = self.n_kv_head.unwrap_or(shape.n_head);
        shape
    }
}

/// Width of a model: depth × aspect ratio, up to the next multiple of the head dimension.
pub fn nudged_width(depth: usize, aspect_ratio: usize, head_dim: usize) -> usize {
    (depth * aspect_ratio).next_multiple_of(head_dim.max(1))
}

/// What follows from the dials.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Shape of the model.
    pub model: ModelShape,
    /// Its parameters.
    pub parameters: ParameterCounts,
    /// Training FLOPs a token.
    pub flops_per_token: u64,
    /// Tokens at the target ratio.
    pub target_tokens: u64,
    /// Tokens of the reference model at the target ratio.
    pub reference_tokens: f64,
    /// Tokens an optimizer step.
    pub total_batch_size: u64,
    /// Factor on all learning rates for the batch size.
    pub lr_scale: f64,
    /// Further factor on AdamW's learning rates for the width.
    pub adamw_lr_scale: f64,
    /// Muon's weight decay, scaled.
    pub weight_decay: f64,
    /// Optimizer steps.
    pub num_iterations: u64,
    /// Training tokens.
    pub total_tokens: u64,
    /// Training FLOPs.
    pub total_flops: u128,
}

/// Derives everything from the dials.
///
/// # Errors
/// A shape that can't be built, or a budget of less than one optimizer step or beyond 64 bits of tokens.
pub fn derive(inputs: &DeriveInputs) -> Result<Derived, PlanError> {
    let model = inputs.shape();
    shape::validate(&model)?;
    let parameters = parameter_counts(&model);
    let flops = flops_per_token(&model);
    let ratio = inputs.target_param_data_ratio();
    let target_tokens = (ratio * parameters.scaling() as f64) as u64;
    let reference = parameter_counts(&inputs.proportional_shape(REFERENCE_DEPTH));
    let reference_tokens = ratio * reference.scaling() as f64;
    let total_batch_size =
        inputs.total_batch_size.unwrap_or_else(|| best_batch_size(target_tokens as f64 / reference_tokens));
    let batch_ratio = total_batch_size as f64 / REFERENCE_BATCH;
    let num_iterations = iterations(inputs.budget, target_tokens, flops, total_batch_size)?;
    let total_tokens =
        total_batch_size.checked_mul(num_iterations).ok_or(PlanError::TooLong { num_iterations, total_batch_size })?;
    Ok(Derived {
        adamw_lr_scale: (model.n_embd as f64 / REFERENCE_WIDTH).powf(-0.5),
        model,
        parameters,
        flops_per_token: flops,
        target_tokens,
        reference_tokens,
        total_batch_size,
        lr_scale: batch_ratio.sqrt(),
        weight_decay: inputs.weight_decay * batch_ratio.sqrt() * (reference_tokens / target_tokens as f64),
        num_iterations,
        total_tokens,
        total_flops: u128::from(flops) * u128::from(total_tokens),
    })
}

/// The power of two nearest to the best batch size, in tokens.
fn best_batch_size(horizon_ratio: f64) -> u64 {
    let predicted = REFERENCE_BATCH * horizon_ratio.powf(BATCH_EXPONENT);
    let exponent = predicted.log2().round_ties_even().clamp(0.0, 62.0);
    1 << exponent as u32
}

/// Optimizer steps of a budget.
fn iterations(budget: BudgetPlan, target_tokens: u64, flops: u64, batch: u64) -> Result<u64, PlanError> {
    if batch == 0 {
        return Err(PlanError::EmptyBatch);
    }
    let steps = match budget {
        BudgetPlan::Iterations(steps) => steps,
        BudgetPlan::Tokens(tokens) => tokens / batch,
        BudgetPlan::Flops(total) => {
            let per_step = u128::from(flops) * u128::from(batch);
            (total / per_step as f64).round_ties_even() as u64
        }
        BudgetPlan::ParamDataRatio(_) => target_tokens / batch,
    };
    if steps == 0 { Err(PlanError::NoSteps { budget, target_tokens, total_batch_size: batch }) } else { Ok(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Depth 12 is the reference itself: nothing is scaled.
    #[test]
    fn the_reference_model_is_left_as_it_is() {
        let derived = derive(&DeriveInputs::baseline(12, 32768)).unwrap();
        assert_eq!(derived.total_batch_size, 524_288);
        assert_eq!((derived.lr_scale, derived.weight_decay), (1.0, 0.28));
        assert_eq!((derived.num_iterations, derived.target_tokens), (2520, 1_321_210_944));
        assert_eq!(derived.total_flops, 1_003_714_794_466_836_480);
    }

    /// Width 1000 isn't a multiple of 128: the next is 1024, and the FLOPs of depth 26 pass 2^64.
    #[test]
    fn width_is_nudged_up_and_flops_pass_64_bits() {
        assert_eq!(nudged_width(10, 100, 128), 1024);
        assert_eq!(nudged_width(8, 64, 128), 512);
        let derived = derive(&DeriveInputs::baseline(26, 32768)).unwrap();
        assert_eq!(derived.total_flops, 66_024_582_977_295_482_880);
        assert!(derived.total_flops > u128::from(u64::MAX));
    }

    /// FLOPs are rounded to the nearest step and half to even, tokens down, iterations taken as given.
    #[test]
    fn each_budget_gives_its_steps() {
        let inputs = |budget| DeriveInputs { budget, total_batch_size: Some(1000), ..DeriveInputs::baseline(4, 32768) };
        let steps = |budget| derive(&inputs(budget)).unwrap().num_iterations;
        let per_step = 80_216_496.0 * 1000.0;
        for (budget, expected) in [
            (BudgetPlan::Iterations(7), 7),
            (BudgetPlan::Tokens(7999), 7),
            (BudgetPlan::Flops(2.5 * per_step), 2),
            (BudgetPlan::Flops(3.5 * per_step), 4),
            (BudgetPlan::Flops(3.4 * per_step), 3),
            (BudgetPlan::ParamDataRatio(12.0), 138_412),
        ] {
            assert_eq!(steps(budget), expected, "{budget:?}");
        }
        let none = derive(&inputs(BudgetPlan::Tokens(999)));
        assert!(matches!(none, Err(PlanError::NoSteps { .. })), "{none:?}");
    }

    /// A ratio other than 12 that isn't the budget cancels out of batch size and weight decay.
    #[test]
    fn the_reference_ratio_cancels() {
        let at = |ratio| {
            let budget = BudgetPlan::Iterations(5);
            derive(&DeriveInputs { budget, reference_ratio: Some(ratio), ..DeriveInputs::baseline(20, 32768) }).unwrap()
        };
        assert_eq!(at(12.0).total_batch_size, at(20.0).total_batch_size);
        assert!((at(12.0).weight_decay / at(20.0).weight_decay - 1.0).abs() < 1e-8);
    }
}
