//! A small step on the GPU and on its emulation: the same losses and gradients.

use nanochat_cuda::Cuda;
use nanochat_emulator::Emulator;
use nanochat_gpu::{Device, DeviceError, Dtype, GpuOps};
use nanochat_plan::ModelShape;
use nanochat_plan::activations::{BatchSize, Chunks, Pass};
use nanochat_plan::parameters::Parameter;
use nanochat_step::Network;

use super::work::{self, MICRO_STEPS};

/// Long enough for a window, small enough for a processor that emulates every thread.
const SIZE: BatchSize = BatchSize { rows: 1, length: 256 };

/// Gradients of fewer elements are sums that cancel, of which rounding leaves no digit.
const LEAST_ELEMENTS: usize = 256;

/// How far the GPU is from its emulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Distance {
    /// The largest difference of two losses.
    pub(super) loss: f64,
    /// The largest distance of a parameter's gradient, as a share of its norm.
    pub(super) gradient: f64,
    /// Whose that is.
    pub(super) parameter: Parameter,
}

impl Distance {
    /// As near as orders of summation in bf16 leave them. A wrong kernel puts them as far apart as they are large.
    pub(super) fn is_small(&self) -> bool {
        self.loss < 0.02 && self.gradient < 0.1
    }
}

fn shape() -> ModelShape {
    ModelShape {
        sequence_len: SIZE.length,
        vocab_size: 500,
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 256,
        window_pattern: "SL".into(),
    }
}

/// Losses and gradients of one step.
struct Outcome {
    losses: Vec<f32>,
    gradients: Vec<(Parameter, Vec<f32>)>,
}

fn outcome(network: &Network, device: impl Device) -> Result<Outcome, DeviceError> {
    let mut ops = GpuOps::new(device, network, MICRO_STEPS, Dtype::Bf16)?;
    work::load(network, &mut ops)?;
    network.zero_gradients(&mut ops);
    (0..MICRO_STEPS).for_each(|number| work::micro_step(network, &mut ops, number));
    ops.check()?;
    let losses = ops.read(network.mean_losses())?;
    let read = |parameter| Ok((parameter, ops.read(network.gradient(parameter))?));
    let parameters = network.parameters().entries().iter().map(|entry| entry.parameter);
    let gradients = parameters.map(read).collect::<Result<_, DeviceError>>()?;
    Ok(Outcome { losses, gradients })
}

/// Compares the two.
pub(super) fn compare() -> Result<Distance, DeviceError> {
    let network = Network::with_chunks(&shape(), SIZE, Pass::Training, MICRO_STEPS, Chunks::GPU);
    // The GPU first: what is missing there is found before anything takes long.
    let found = outcome(&network, Cuda::open(0, true)?)?;
    let expected = outcome(&network, Emulator::default())?;
    let pairs = found.losses.iter().zip(&expected.losses);
    let loss = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, worse);
    let gradients = found.gradients.iter().zip(&expected.gradients);
    let distances = gradients
        .filter(|((_, found), _)| found.len() >= LEAST_ELEMENTS)
        .map(|((parameter, a), (_, b))| Distance { loss, gradient: relative(a, b), parameter: *parameter });
    let worst = distances.max_by(|a, b| a.gradient.total_cmp(&b.gradient));
    Ok(worst.unwrap_or_else(|| unreachable!("a model has parameters")))
}

/// The larger one, or what is no number.
fn worse(a: f64, b: f64) -> f64 {
    if b.is_nan() || b > a { b } else { a }
}

/// The norm of the difference over that of the second; NaN where one is no number, which sorts above all others.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|value| f64::from(*value))).max(f64::MIN_POSITIVE)
}
