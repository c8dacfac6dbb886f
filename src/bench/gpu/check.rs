//! A small step, command by command, on a device and on its emulation.

use std::collections::BTreeMap;

use nanochat_emulator::Emulator;
use nanochat_gpu::{Device, DeviceError, Dtype, GpuOps};
use nanochat_plan::ModelShape;
use nanochat_plan::activations::{BatchSize, Chunks, Pass, Slot};
use nanochat_step::{Network, StepSettings};

use super::compared::Compared;
use super::work::{self, MICRO_STEPS};

/// Two windows, grouped queries, value embeddings, a vocabulary that is padded.
fn shape(length: usize, width: usize) -> ModelShape {
    ModelShape {
        sequence_len: length,
        vocab_size: 300,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 1,
        n_embd: width,
        window_pattern: "SL".into(),
    }
}

/// How far the device is from its emulation in a model of that width, by command.
pub(super) fn distances(
    device: impl Device,
    size: BatchSize,
    width: usize,
) -> Result<BTreeMap<String, f64>, DeviceError> {
    let network = Network::with_chunks(&shape(size.length, width), size, Pass::Training, MICRO_STEPS, Chunks::GPU);
    let compared = Compared::new(device, Emulator::default());
    let mut ops = GpuOps::new(compared, &network, MICRO_STEPS, Dtype::Bf16)?;
    let activations = ops.memory().at(network.slot(Slot::Embedded));
    let compared = ops.device_mut();
    compared.is_bf16(activations);
    // The copies of the weights.
    compared.are_bf16(2 * network.parameters().elements());
    work::load(&network, &mut ops)?;
    network.zero_gradients(&mut ops);
    (0..MICRO_STEPS).for_each(|number| work::micro_step(&network, &mut ops, number));
    let at = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.9, muon_weight_decay: 0.1 };
    work::optimizer(&network).step(&mut ops, &at, 1);
    ops.check()?;
    Ok(ops.device().distances().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another order of threads changes no bit, so all of a step's commands are found, and no distance.
    #[test]
    fn an_emulation_equals_itself() {
        let distances = distances(Emulator::with_order(3), BatchSize { rows: 2, length: 9 }, 32).unwrap();
        assert!(distances.values().all(|distance| *distance == 0.0), "{distances:?}");
        let commands = ["embed_bf16", "cross_entropy_bf16", "muon_update_bf16", "product to f32, added"];
        let passes = ["attention, window", "attention backward, window"];
        for command in commands.into_iter().chain(passes) {
            assert!(distances.keys().any(|name| name.starts_with(command)), "{command}: {:?}", distances.keys());
        }
    }
}
