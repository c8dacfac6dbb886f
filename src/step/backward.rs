//! Backward pass, from the gradient of the head's input to those of all parameters but the head's.

use nanochat_plan::activations::{LayerSlot, Slot};
use nanochat_plan::parameters::{LayerMatrix, Parameter};

use super::Network;
use super::ops::{Arena, Op, Ops, QueryKeyValueGradients, ValueMixGradients};

impl Network {
    /// Accumulates the gradients of everything before the head.
    pub fn backward(&self, ops: &mut impl Ops) {
        let (dstream, dx0) = (self.slot(Slot::StreamGradient), self.slot(Slot::InputGradient));
        self.backout_backward(ops);
        ops.run(&Op::Zero { out: dx0 });
        for layer in (0..self.shape.n_layer).rev() {
            if layer == self.middle() {
                ops.run(&Op::Add { from: self.slot(Slot::MiddleGradient), onto: dstream });
            }
            self.mlp_backward(ops, layer);
            self.attend_backward(ops, layer);
            self.mix_backward(ops, layer);
        }
        ops.run(&Op::Add { from: dstream, onto: dx0 });
        self.embed_backward(ops);
    }

    fn backout_backward(&self, ops: &mut impl Ops) {
        ops.run(&Op::BackoutBackward {
            dnormed: self.slot(Slot::NormedGradient),
            normed: self.slot(Slot::Normed),
            inverse: self.slot(Slot::FinalInverse),
            middle: self.slot(Slot::Stream(self.middle() + 1)),
            lambda: self.weight(Parameter::BackoutScalar),
            width: self.width(),
            dstream: self.slot(Slot::StreamGradient),
            dmiddle: self.slot(Slot::MiddleGradient),
            dlambda: self.gradient(Parameter::BackoutScalar),
        });
    }

    fn mlp_backward(&self, ops: &mut impl Ops, layer: usize) {
        let [normed, inverse, hidden] =
            [LayerSlot::MlpNormed, LayerSlot::MlpInverse, LayerSlot::Hidden].map(|slot| self.kept(layer, slot));
        let (dstream, dnormed) = (self.slot(Slot::StreamGradient), self.slot(Slot::NormedGradient));
        let (workspace, dhidden) = (self.slot(Slot::Wide), self.slot(Slot::WideGradient));
        let weight = self.matrix(Arena::Weights, layer, LayerMatrix::MlpOutput);
        let dweight = self.gradient(Parameter::Layer(layer, LayerMatrix::MlpOutput));
        ops.run(&Op::MlpOutputBackward { dout: dstream, hidden, weight, dhidden, workspace, dweight });
        let input = (layer, LayerMatrix::MlpInput);
        self.weight_gradient(ops, input, dhidden, normed);
        self.input_gradient(ops, input, dhidden, dnormed);
        ops.run(&Op::NormBackward { dnormed, normed, inverse, width: self.width(), onto: dstream });
    }

    /// Leaves the gradient of attention's normalised input in its slot.
    fn attend_backward(&self, ops: &mut impl Ops, layer: usize) {
        let (stream, keys) = (self.stream_elements(), self.key_elements());
        let (dstream, dnormed) = (self.slot(Slot::StreamGradient), self.slot(Slot::NormedGradient));
        let [workspace, dqkv] = self.slot(Slot::Wide).carve([stream, stream + 2 * keys]);
        let [qkv, attended, log_sum] =
            [LayerSlot::QueryKeyValue, LayerSlot::Attended, LayerSlot::LogSum].map(|slot| self.kept(layer, slot));
        let output = (layer, LayerMatrix::AttentionOutput);
        self.input_gradient(ops, output, dstream, dnormed);
        self.weight_gradient(ops, output, dstream, attended);
        let (shape, delta) = (self.attention(layer), self.slot(Slot::Delta));
        ops.run(&Op::AttendBackward { shape, qkv, attended, log_sum, dattended: dnormed, delta, workspace, dqkv });
        ops.run(&Op::QueryKeyValueBackward {
            layer: self.query_key_value(layer),
            dqkv,
            workspace: self.slot(Slot::WideGradient).part(0, dqkv.len),
            gradients: self.query_key_value_gradients(layer),
        });
    }

    fn query_key_value_gradients(&self, layer: usize) -> QueryKeyValueGradients {
        let matrices = [LayerMatrix::Query, LayerMatrix::Key, LayerMatrix::Value];
        let mixes = self.has(Parameter::ValueEmbedding(layer));
        QueryKeyValueGradients {
            dx: self.slot(Slot::NormedGradient),
            dweights: matrices.map(|matrix| self.gradient(Parameter::Layer(layer, matrix))),
            mix: mixes.then(|| ValueMixGradients {
                dtable: self.gradient(Parameter::ValueEmbedding(layer)),
                dgate: self.gradient(Parameter::ValueGate(layer)),
                gates: self.slot(Slot::Gates),
            }),
        }
    }

    fn mix_backward(&self, ops: &mut impl Ops, layer: usize) {
        ops.run(&Op::MixBackward {
            dnormed: self.slot(Slot::NormedGradient),
            normed: self.kept(layer, LayerSlot::Normed),
            inverse: self.kept(layer, LayerSlot::Inverse),
            x: self.slot(Slot::Stream(layer)),
            x0: self.slot(Slot::Stream(0)),
            lambdas: self.lambdas(Arena::Weights, layer),
            width: self.width(),
            dstream: self.slot(Slot::StreamGradient),
            dx0: self.slot(Slot::InputGradient),
            dlambdas: self.lambdas(Arena::Gradients, layer),
        });
    }

    /// Through the smear and the embedding's norm into the token embedding.
    fn embed_backward(&self, ops: &mut impl Ops) {
        ops.run(&Op::EmbedBackward {
            dx: self.slot(Slot::InputGradient),
            embedded: self.slot(Slot::Embedded),
            inverse: self.slot(Slot::EmbeddedInverse),
            sigma: self.slot(Slot::SmearSigma),
            smear: self.smear(),
            dtable: self.gradient(Parameter::TokenEmbedding),
            dgate: self.gradient(Parameter::SmearGate),
            dlambda: self.gradient(Parameter::SmearScalar),
            slopes: self.slot(Slot::FinalInverse),
            workspaces: [Slot::StreamGradient, Slot::NormedGradient].map(|slot| self.slot(slot)),
        });
    }
}
