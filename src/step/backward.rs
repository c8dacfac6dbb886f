//! Backward pass, from the gradient of the head's input to those of all parameters but the head's.

use nanochat_plan::activations::{LayerSlot, Slot};
use nanochat_plan::parameters::{LayerMatrix, Parameter};
use nanochat_plan::shape::VALUE_GATE_CHANNELS;

use super::Network;
use super::ops::{Arena, Matrix, Op, Ops, Region, WriteMode};

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
        let (squared, dhidden) = (self.slot(Slot::Wide), self.slot(Slot::WideGradient));
        let (input, output) = ((layer, LayerMatrix::MlpInput), (layer, LayerMatrix::MlpOutput));
        self.input_gradient(ops, output, dstream, dhidden, WriteMode::Overwrite);
        ops.run(&Op::SquaredReluBackward { x: hidden, gradient: dhidden, out: squared });
        self.weight_gradient(ops, output, dstream, squared);
        self.weight_gradient(ops, input, dhidden, normed);
        self.input_gradient(ops, input, dhidden, dnormed, WriteMode::Overwrite);
        ops.run(&Op::NormBackward { dnormed, normed, inverse, width: self.width(), onto: dstream });
    }

    /// Leaves the gradient of attention's normalised input in its slot.
    fn attend_backward(&self, ops: &mut impl Ops, layer: usize) {
        let (stream, keys, angles) = (self.stream_elements(), self.key_elements(), self.angles());
        let kept = |slot| self.kept(layer, slot);
        let (dstream, dnormed, delta) =
            (self.slot(Slot::StreamGradient), self.slot(Slot::NormedGradient), self.slot(Slot::Delta));
        let [dout, dq, dk, dv] = self.slot(Slot::Wide).carve([stream, stream, keys, keys]);
        let [dq_tokens, dk_tokens, dv_tokens] = self.slot(Slot::WideGradient).carve([stream, keys, keys]);
        let (shape, attended, normed) = (self.attention(layer), kept(LayerSlot::Attended), kept(LayerSlot::Normed));
        let output = (layer, LayerMatrix::AttentionOutput);
        self.input_gradient(ops, output, dstream, dnormed, WriteMode::Overwrite);
        self.weight_gradient(ops, output, dstream, attended);
        ops.run(&Op::AttendPrepare { shape, dattended: dnormed, attended, dout, delta });
        let qkv = [LayerSlot::Query, LayerSlot::Key, LayerSlot::Value].map(kept);
        let log_sum = kept(LayerSlot::LogSum);
        ops.run(&Op::AttendBackward { shape, qkv, log_sum, dout, delta, dqkv: [dq, dk, dv] });
        let (heads, inverse) = (self.query_heads(), kept(LayerSlot::QueryInverse));
        ops.run(&Op::RotaryBackward { dy: dq, y: qkv[0], inverse, angles, heads, dx: dq_tokens });
        let (heads, inverse) = (self.key_heads(), kept(LayerSlot::KeyInverse));
        ops.run(&Op::RotaryBackward { dy: dk, y: qkv[1], inverse, angles, heads, dx: dk_tokens });
        ops.run(&Op::ValuesBackward { dy: dv, heads, dv: dv_tokens });
        let parts = [
            (LayerMatrix::Query, dq_tokens, WriteMode::Overwrite),
            (LayerMatrix::Key, dk_tokens, WriteMode::Accumulate),
            (LayerMatrix::Value, dv_tokens, WriteMode::Accumulate),
        ];
        for (matrix, gradient, mode) in parts {
            self.weight_gradient(ops, (layer, matrix), gradient, normed);
            self.input_gradient(ops, (layer, matrix), gradient, dnormed, mode);
        }
        if self.has(Parameter::ValueEmbedding(layer)) {
            self.value_embedding_backward(ops, layer, dv, dq_tokens.part(0, keys));
        }
    }

    /// Into the value embedding and its gate; `drows` is a workspace for the gradients of the embedding's rows.
    fn value_embedding_backward(&self, ops: &mut impl Ops, layer: usize, dv: Region, drows: Region) {
        let (tokens, heads, dgates) = (self.tokens(), self.key_heads(), self.slot(Slot::Gates));
        let sigma = self.kept(layer, LayerSlot::GateSigma);
        let (mix, dx) = (self.value_mix(layer), self.slot(Slot::NormedGradient));
        ops.run(&Op::MixValuesBackward { dy: dv, mix, sigma, heads, drows, dgates, dx });
        let table = self.gradient(Parameter::ValueEmbedding(layer));
        ops.run(&Op::ScatterAdd { rows: drows, width: heads.count * heads.size, table });
        ops.run(&Op::Product {
            a: Matrix::new(dgates, tokens, heads.count).transposed(),
            b: Matrix::strided(mix.x, tokens, VALUE_GATE_CHANNELS, self.width()),
            out: self.gradient(Parameter::ValueGate(layer)),
            mode: WriteMode::Accumulate,
            full: true,
        });
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
        let (width, embedded) = (self.width(), self.slot(Slot::Embedded));
        let (dembedded, dgathered) = (self.slot(Slot::StreamGradient), self.slot(Slot::NormedGradient));
        ops.run(&Op::SmearBackward {
            dx: self.slot(Slot::InputGradient),
            embedded,
            sigma: self.slot(Slot::SmearSigma),
            gate: self.weight(Parameter::SmearGate),
            lambda: self.weight(Parameter::SmearScalar),
            length: self.activations.batch().length,
            width,
            dembedded,
            dgate: self.gradient(Parameter::SmearGate),
            dlambda: self.gradient(Parameter::SmearScalar),
            slopes: self.slot(Slot::FinalInverse),
        });
        ops.run(&Op::Zero { out: dgathered });
        let inverse = self.slot(Slot::EmbeddedInverse);
        ops.run(&Op::NormBackward { dnormed: dembedded, normed: embedded, inverse, width, onto: dgathered });
        let table = self.gradient(Parameter::TokenEmbedding);
        ops.run(&Op::ScatterAdd { rows: dgathered, width, table });
    }
}
