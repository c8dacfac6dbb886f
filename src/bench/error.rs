//! Why nothing could be measured.

use crate::run::RunError;
use crate::train::TrainError;

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
    /// A kernel's twin can't be computed.
    #[error("the twin of the kernel `{kernel}` can't be computed: {reason}; leave the twins out with --no-twins")]
    Twin {
        /// The kernel.
        kernel: String,
        /// Why.
        reason: String,
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
