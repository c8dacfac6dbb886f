//! Forward pass, from the batch's ids to the losses of its targets.

use nanochat_plan::activations::{LayerSlot, Pass, Slot};
use nanochat_plan::parameters::{LayerMatrix, Parameter};

use super::ops::{Arena, HeadGradients, Op, Ops, WriteMode};
use super::{Batch, Network};

impl Network {
    /// Sets all gradients to zero, before the first micro-step of a step.
    pub fn zero_gradients(&self, ops: &mut impl Ops) {
        ops.run(&Op::Zero { out: self.gradients() });
    }

    /// The losses of a batch, and of a training pass their mean, and the gradients of `factor` times their sum, accumulated.
    pub fn micro_step(&self, ops: &mut impl Ops, batch: Batch<'_>, factor: f64) {
        self.load(ops, batch, factor);
        self.forward(ops);
        self.head(ops);
        if self.activations.pass() == Pass::Training {
            self.backward(ops);
        }
    }

    /// Takes the batch of the next passes, with a factor on the gradient of every loss.
    pub fn load(&self, ops: &mut impl Ops, batch: Batch<'_>, factor: f64) {
        debug_assert_eq!(batch.ids.len(), self.tokens(), "the network is for batches of another size");
        debug_assert_eq!(batch.targets.len(), self.tokens(), "the network is for batches of another size");
        ops.load_batch(batch, factor);
    }

    /// From ids to the normalised input of the head.
    pub fn forward(&self, ops: &mut impl Ops) {
        self.embed(ops);
        for layer in 0..self.shape.n_layer {
            self.mix(ops, layer);
            self.attend(ops, layer);
            self.mlp(ops, layer);
        }
        ops.run(&Op::Backout {
            last: self.slot(Slot::Stream(self.shape.n_layer)),
            middle: self.slot(Slot::Stream(self.middle() + 1)),
            lambda: self.weight(Parameter::BackoutScalar),
            width: self.width(),
            normed: self.slot(Slot::Normed),
            inverse: self.slot(Slot::FinalInverse),
        });
    }

    /// Normalised embeddings, and the first stream: the same smeared.
    fn embed(&self, ops: &mut impl Ops) {
        ops.run(&Op::Embed {
            table: self.weight(Parameter::TokenEmbedding),
            smear: self.smear(),
            embedded: self.slot(Slot::Embedded),
            inverse: self.slot(Slot::EmbeddedInverse),
            out: self.slot(Slot::Stream(0)),
            sigma: self.slot(Slot::SmearSigma),
        });
    }

    /// The stream with some of the smeared embeddings, and its norm.
    fn mix(&self, ops: &mut impl Ops, layer: usize) {
        ops.run(&Op::Mix {
            x: self.slot(Slot::Stream(layer)),
            x0: self.slot(Slot::Stream(0)),
            lambdas: self.lambdas(Arena::Weights, layer),
            width: self.width(),
            mixed: self.slot(Slot::Stream(layer + 1)),
            normed: self.kept(layer, LayerSlot::Normed),
            inverse: self.kept(layer, LayerSlot::Inverse),
        });
    }

    /// Adds attention to the stream.
    fn attend(&self, ops: &mut impl Ops, layer: usize) {
        let workspace = self.slot(Slot::Wide);
        ops.run(&Op::QueryKeyValue { layer: self.query_key_value(layer), workspace });
        let [qkv, attended, log_sum] =
            [LayerSlot::QueryKeyValue, LayerSlot::Attended, LayerSlot::LogSum].map(|slot| self.kept(layer, slot));
        let workspace = workspace.part(0, self.stream_elements());
        ops.run(&Op::Attend { shape: self.attention(layer), qkv, workspace, out: attended, log_sum });
        let out = self.slot(Slot::Stream(layer + 1));
        self.project(ops, (layer, LayerMatrix::AttentionOutput), attended, out, WriteMode::Accumulate);
    }

    /// Adds the MLP to the stream.
    fn mlp(&self, ops: &mut impl Ops, layer: usize) {
        let (stream, wide) = (self.slot(Slot::Stream(layer + 1)), self.slot(Slot::Wide));
        let [normed, inverse, hidden] =
            [LayerSlot::MlpNormed, LayerSlot::MlpInverse, LayerSlot::Hidden].map(|slot| self.kept(layer, slot));
        ops.run(&Op::Norm { x: stream, width: self.width(), normed, inverse });
        self.project(ops, (layer, LayerMatrix::MlpInput), normed, hidden, WriteMode::Overwrite);
        let weight = self.matrix(Arena::Weights, layer, LayerMatrix::MlpOutput);
        ops.run(&Op::MlpOutput { hidden, weight, workspace: wide, out: stream });
    }

    /// Losses; of a training pass also their mean, and the gradients of the head's input and of the projection.
    pub fn head(&self, ops: &mut impl Ops) {
        let training = self.activations.pass() == Pass::Training;
        let gradients = training
            .then(|| HeadGradients { dx: self.slot(Slot::NormedGradient), dweight: self.gradient(Parameter::Head) });
        ops.run(&Op::Head {
            x: self.slot(Slot::Normed),
            weight: self.weight(Parameter::Head),
            width: self.width(),
            vocab: self.shape.vocab_size,
            losses: self.slot(Slot::Losses),
            logits: self.slot(Slot::Logits),
            gradients,
        });
        if training {
            ops.run(&Op::MeanLoss { losses: self.slot(Slot::Losses), means: self.mean_losses() });
        }
    }
}
