//! Why nothing could be measured.

use crate::run::RunError;
use nanochat_engine::generate::GenerateError;
use nanochat_engine::model::ModelError;
use nanochat_engine::train::TrainError;
use nanochat_engine::trained::TrainedError;
use nanochat_plan::ModelShape;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BenchError {
    /// Data, tokenizer, weights or device couldn't be prepared.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] RunError),
    /// Training failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Train(#[from] TrainError),
    /// The plan is shorter than what was asked for.
    #[error("the plan has {planned} steps, {asked} were asked for")]
    #[diagnostic(help("ask for fewer with --steps, or lengthen the plan with --set budget.iterations={asked}"))]
    TooManySteps {
        /// Steps of the plan.
        planned: u64,
        /// Steps asked for.
        asked: u64,
    },
    /// The evaluation failed.
    #[error("the evaluation failed: {reason}")]
    #[diagnostic(help("leave it out with --no-evaluation"))]
    Evaluation {
        /// Why.
        reason: String,
    },
    /// Kernels are the processor's.
    #[error("these kernels run on a processor, and profile `{profile}` names another device")]
    #[diagnostic(help("choose a CPU profile, or measure a GPU with `nanochat bench train`"))]
    KernelsOfProcessor {
        /// Name of the hardware profile.
        profile: String,
    },
    /// A GPU can't be measured by this binary.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Device(#[from] nanochat_engine::device::DeviceError),
    /// The plan isn't one for a GPU's kernels.
    #[cfg(feature = "cuda")]
    #[error("the GPU's kernels are measured in bf16, and profile `{profile}` is for another device or in f32")]
    #[diagnostic(help("choose a profile such as h100-x1, or add --set hardware.dtype=bf16"))]
    GpuPlan {
        /// Name of the hardware profile.
        profile: String,
    },
    /// A command of the GPU failed.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    #[diagnostic(transparent)]
    Gpu(#[from] nanochat_gpu::DeviceError),
    /// The GPU computes something else than its emulation.
    #[cfg(feature = "cuda")]
    #[error("on the GPU these commands don't give what their emulation gives: {commands}")]
    #[diagnostic(help("don't train on this GPU; report this with the output of `nanochat doctor`"))]
    GpuDiffers {
        /// Their names.
        commands: String,
    },
    /// A kernel's reference implementation can't be computed.
    #[error("the reference implementation of the kernel `{kernel}` can't be computed: {reason}")]
    #[diagnostic(help("leave the reference implementations out with --no-references"))]
    Reference {
        /// The kernel.
        kernel: &'static str,
        /// Why.
        reason: String,
    },
    /// The device's limits can't be measured.
    #[error("the limits of the device can't be measured: {0}")]
    #[diagnostic(help("see `nanochat doctor`"))]
    Limit(#[from] candle_core::Error),
    /// The model can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// Nothing could be generated.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generate(#[from] GenerateError),
    /// The checkpoint can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Trained(#[from] TrainedError),
    /// The checkpoint's model is another than the plan's.
    #[error("the checkpoint's model is {found:?}, the plan's {planned:?}")]
    #[diagnostic(help("measure the checkpoint with a spec of its shape"))]
    OtherShape {
        /// Shape of the checkpoint's.
        found: Box<ModelShape>,
        /// Shape of the plan's.
        planned: Box<ModelShape>,
    },
    /// Sizes that leave nothing to measure.
    #[error("{what} must be at least {least}, not {got}")]
    #[diagnostic(help("give a larger number with {what}"))]
    TooFew {
        /// The setting.
        what: &'static str,
        /// The least that can be measured.
        least: u64,
        /// What was asked for.
        got: u64,
    },
    /// Nothing would be left to measure.
    #[error("{steps} steps with {warmup} of warm-up leave none to measure")]
    #[diagnostic(help("ask for more with --steps"))]
    NoSteadySteps {
        /// Steps asked for.
        steps: u64,
        /// Steps of warm-up among them.
        warmup: u64,
    },
}

impl BenchError {
    /// Whether the command line or the spec asks for what can't be measured, rather than the measurement failing.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::TooManySteps { .. } | Self::NoSteadySteps { .. } | Self::TooFew { .. } | Self::OtherShape { .. }
        )
    }
}
