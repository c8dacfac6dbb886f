//! Why nothing could be measured.

use crate::run::RunError;
use nanochat_engine::generate::GenerateError;
use nanochat_engine::model::ModelError;
use nanochat_engine::train::TrainError;
use nanochat_engine::trained::TrainedError;
use nanochat_plan::ModelShape;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Data, tokenizer, weights or device couldn't be prepared.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The plan is shorter than what was asked for.
    #[error(
        "the plan has {planned} steps, {asked} were asked for; ask for fewer with --steps, or lengthen the plan with --set budget.iterations={asked}"
    )]
    TooManySteps {
        /// Steps of the plan.
        planned: u64,
        /// Steps asked for.
        asked: u64,
    },
    /// The evaluation failed.
    #[error("the evaluation failed: {reason}; leave it out with --no-evaluation")]
    Evaluation {
        /// Why.
        reason: String,
    },
    /// Kernels are the processor's.
    #[error(
        "profile `{profile}` is no processor's, and these kernels are; choose a CPU profile, or see `nanochat bench train` for what a \
         GPU does"
    )]
    KernelsOfProcessor {
        /// Name of the hardware profile.
        profile: String,
    },
    /// A kernel's reference implementation can't be computed.
    #[error(
        "the reference of the kernel `{kernel}` can't be computed: {reason}; leave the references out with --no-references"
    )]
    Twin {
        /// The kernel.
        kernel: String,
        /// Why.
        reason: String,
    },
    /// What the device does at best can't be measured.
    #[error("what the device does at best can't be measured: {0}; see `nanochat doctor`")]
    Limit(#[from] candle_core::Error),
    /// The model can't be put to work.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Nothing could be generated.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The checkpoint can't be read.
    #[error(transparent)]
    Trained(#[from] TrainedError),
    /// The checkpoint's model is another than the plan's.
    #[error("the checkpoint's model is {found:?}, the plan's {planned:?}; measure it on a spec of its shape")]
    OtherShape {
        /// Shape of the checkpoint's.
        found: Box<ModelShape>,
        /// Shape of the plan's.
        planned: Box<ModelShape>,
    },
    /// Sizes that leave nothing to measure.
    #[error("{what} must be at least {least}, not {got}")]
    TooFew {
        /// The setting.
        what: &'static str,
        /// The least that can be measured.
        least: u64,
        /// What was asked for.
        got: u64,
    },
    /// Nothing would be left to measure.
    #[error("{steps} steps with {warmup} of warm-up leave none to measure; ask for more with --steps")]
    NoSteadySteps {
        /// Steps asked for.
        steps: u64,
        /// Steps of warm-up among them.
        warmup: u64,
    },
}
