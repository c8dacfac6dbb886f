//! Initial weights: the baseline's distributions (`init_weights`), drawn from our own generator.
//!
//! Every parameter has a stream of its own, xoshiro256++ seeded by the SHA-256 of the run's seed and the parameter's name,
//! so that its values depend neither on the order of drawing, nor on the number of threads, nor on other parameters.
//! Uniform elements take the upper 53 bits; normal ones come in pairs by the Box–Muller transform in f64, then rounded.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::parameters::{
    BACKOUT_SCALAR, HEAD, INPUT_SCALARS, RESIDUAL_SCALARS, SMEAR_GATE, SMEAR_SCALAR, TOKEN_EMBEDDING,
};
use super::{ModelError, Parameters, parameter_shapes};
use crate::random::Xoshiro256;
use nanochat_plan::ModelShape;

/// Standard deviation of the token embedding.
const EMBEDDING_DEVIATION: f64 = 0.8;
/// Standard deviation of the output projection.
const HEAD_DEVIATION: f64 = 0.001;
/// The feed-forward layer's inputs are drawn this much narrower than attention's.
const MLP_FACTOR: f64 = 0.4;
/// Gates start in 0 … this, slightly above neutral.
const GATE_LIMIT: f64 = 0.02;
/// Initial backout.
const BACKOUT: f64 = 0.2;

/// How one parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Distribution {
    /// All entries alike.
    Constant(f64),
    /// Entries from the first to the last in equal steps: the first value, and the span it loses on the way.
    Ramp { first: f64, span: f64 },
    /// Normal with mean 0.
    Normal { deviation: f64 },
    /// Uniform in [low, high).
    Uniform { low: f64, high: f64 },
}

/// Draws all parameters of a shape, in f32.
pub(super) fn initialized(shape: &ModelShape, seed: u64, device: &Device) -> Result<Parameters, ModelError> {
    let drawn: Vec<(String, Vec<usize>, Vec<f32>)> = parameter_shapes(shape)
        .into_par_iter()
        .map(|(name, dims)| {
            let values = draw(distribution(&name, shape.n_embd), dims.iter().product(), Xoshiro256::named(seed, &name));
            (name, dims, values)
        })
        .collect();
    (drawn.into_iter()).map(|(name, dims, values)| Ok((name, Tensor::from_vec(values, dims, device)?))).collect()
}

/// The distribution of the parameter of that name.
fn distribution(name: &str, width: usize) -> Distribution {
    // Uniform with the standard deviation 1/√width, which has no outliers.
    let limit = 3f64.sqrt() / (width as f64).sqrt();
    let symmetric = |limit: f64| Distribution::Uniform { low: -limit, high: limit };
    match name {
        TOKEN_EMBEDDING => Distribution::Normal { deviation: EMBEDDING_DEVIATION },
        HEAD => Distribution::Normal { deviation: HEAD_DEVIATION },
        RESIDUAL_SCALARS => Distribution::Ramp { first: 1.15, span: 0.10 },
        INPUT_SCALARS => Distribution::Ramp { first: 0.20, span: 0.15 },
        SMEAR_SCALAR => Distribution::Constant(0.0),
        BACKOUT_SCALAR => Distribution::Constant(BACKOUT),
        SMEAR_GATE => Distribution::Uniform { low: 0.0, high: GATE_LIMIT },
        _ if name.ends_with("ve_gate.weight") => Distribution::Uniform { low: 0.0, high: GATE_LIMIT },
        _ if name.ends_with("c_proj.weight") => Distribution::Constant(0.0),
        _ if name.ends_with("c_fc.weight") => symmetric(MLP_FACTOR * limit),
        _ => symmetric(limit),
    }
}

/// `count` values of a distribution.
fn draw(distribution: Distribution, count: usize, mut stream: Xoshiro256) -> Vec<f32> {
    match distribution {
        Distribution::Constant(value) => vec![value as f32; count],
        Distribution::Ramp { first, span } => {
            let steps = count.saturating_sub(1).max(1) as f64;
            (0..count).map(|index| (first - span * index as f64 / steps) as f32).collect()
        }
        Distribution::Uniform { low, high } => {
            (0..count).map(|_| (low + (high - low) * stream.uniform()) as f32).collect()
        }
        Distribution::Normal { deviation } => {
            let mut values: Vec<f32> = (0..count.div_ceil(2))
                .flat_map(|_| stream.normal_pair())
                .map(|value| (deviation * value) as f32)
                .collect();
            values.truncate(count);
            values
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_distributions_moments() {
        let count = 200_001;
        let cases = [
            (Distribution::Normal { deviation: 0.8 }, 0.0, 0.8),
            (Distribution::Uniform { low: -0.3, high: 0.3 }, 0.0, 0.3 / 3f64.sqrt()),
            (Distribution::Uniform { low: 0.0, high: 0.02 }, 0.01, 0.01 / 3f64.sqrt()),
        ];
        for (distribution, mean, deviation) in cases {
            let values = draw(distribution, count, Xoshiro256::named(7, "moments"));
            assert_eq!(values.len(), count);
            let average = values.iter().map(|x| f64::from(*x)).sum::<f64>() / count as f64;
            let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count as f64;
            // Five standard errors.
            let error = 5.0 / (count as f64).sqrt();
            assert!((average - mean).abs() < error * deviation, "{distribution:?}: mean {average}");
            assert!((variance.sqrt() / deviation - 1.0).abs() < error, "{distribution:?}: deviation");
        }
    }

    #[test]
    fn ramps_run_from_first_to_last_layer() {
        let ramp = |count| draw(distribution(RESIDUAL_SCALARS, 64), count, Xoshiro256::named(0, ""));
        assert_eq!(ramp(3), [1.15f64 as f32, (1.15 - 0.05f64) as f32, (1.15 - 0.1f64) as f32]);
        assert_eq!(ramp(1), [1.15f64 as f32]);
    }
}
