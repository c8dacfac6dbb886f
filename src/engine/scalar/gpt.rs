//! The model's formulas, number by number.

use std::collections::BTreeMap;

use super::{Number, Tape};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{SMEAR_CHANNELS, VALUE_GATE_CHANNELS, has_value_embedding, window_sizes};

/// A vector of channels.
type Vector = Vec<Number>;

/// What one evaluation gives.
#[derive(Debug)]
pub struct Evaluation {
    /// Capped logits by row, position and vocabulary entry.
    pub logits: Vec<Vec<Vec<f64>>>,
    /// Cross-entropy by row and position, 0 where the target is −1.
    pub losses: Vec<Vec<f64>>,
    /// Mean over the targets that are not −1.
    pub loss: f64,
    /// Gradient of the mean by parameter, row-major.
    pub gradients: BTreeMap<String, Vec<f64>>,
}

/// Evaluates weights (row-major, by name) on rows of ids and targets. Panics on a missing weight or an id out of range.
pub fn evaluate(
    shape: &ModelShape,
    weights: &BTreeMap<String, Vec<f64>>,
    ids: &[Vec<u32>],
    targets: &[Vec<i64>],
) -> Evaluation {
    let mut tape = Tape::default();
    let parameters: BTreeMap<String, Vector> = (weights.iter())
        .map(|(name, values)| (name.clone(), values.iter().map(|value| tape.leaf(*value)).collect()))
        .collect();
    let mut model = Model { shape, parameters: &parameters, tape };
    let logits: Vec<Vec<Vector>> = ids.iter().map(|row| model.logits(row)).collect();
    let losses: Vec<Vec<Option<Number>>> =
        (logits.iter().zip(targets)).map(|(logits, targets)| model.losses(logits, targets)).collect();
    let counted: Vec<Number> = losses.iter().flatten().filter_map(|loss| *loss).collect();
    let total = model.tape.sum(&counted);
    let mean = model.tape.affine(total, 1.0 / counted.len() as f64, 0.0);
    let tape = model.tape;
    let gradient = tape.gradient(mean);
    let values = |vector: &Vector| vector.iter().map(|number| tape.value(*number)).collect();
    Evaluation {
        logits: logits.iter().map(|row| row.iter().map(values).collect()).collect(),
        losses: losses
            .iter()
            .map(|row| row.iter().map(|loss| loss.map_or(0.0, |loss| tape.value(loss))).collect())
            .collect(),
        loss: tape.value(mean),
        gradients: parameters
            .iter()
            .map(|(name, numbers)| (name.clone(), numbers.iter().map(|number| gradient.of(*number)).collect()))
            .collect(),
    }
}

struct Model<'a> {
    shape: &'a ModelShape,
    parameters: &'a BTreeMap<String, Vector>,
    tape: Tape,
}

impl Model<'_> {
    /// Capped logits of every position of a row.
    fn logits(&mut self, ids: &[u32]) -> Vec<Vector> {
        let embedded: Vec<Vector> = ids
            .iter()
            .map(|id| {
                let embedding = self.row("transformer.wte.weight", *id as usize, self.shape.n_embd);
                self.norm(&embedding)
            })
            .collect();
        let start: Vec<Vector> = (0..ids.len()).map(|position| self.smear(&embedded, position)).collect();
        let mut stream = start.clone();
        let mut middle = stream.clone();
        for layer in 0..self.shape.n_layer {
            stream = self.layer(layer, &stream, &start, ids);
            if layer == self.shape.n_layer / 2 {
                middle = stream.clone();
            }
        }
        let backout = self.tape.affine(self.parameters["backout_lambda"][0], -1.0, 0.0);
        stream.iter().zip(&middle).map(|(x, middle)| self.head(x, middle, backout)).collect()
    }

    /// x + middle · backout, normed, projected to the vocabulary, capped.
    fn head(&mut self, x: &Vector, middle: &Vector, backout: Number) -> Vector {
        let x = self.add_multiple(x, middle, backout);
        let x = self.norm(&x);
        let logits = self.linear("lm_head.weight", &x);
        (logits.into_iter().take(self.shape.vocab_size))
            .map(|logit| {
                let logit = self.tape.affine(logit, 1.0 / 15.0, 0.0);
                let logit = self.tape.tanh(logit);
                self.tape.affine(logit, 15.0, 0.0)
            })
            .collect()
    }

    /// Cross-entropy of every position of a row; none where the target is −1.
    fn losses(&mut self, logits: &[Vector], targets: &[i64]) -> Vec<Option<Number>> {
        (logits.iter().zip(targets))
            .map(|(logits, target)| {
                let target = logits[usize::try_from(*target).ok()?];
                let exponentials: Vector = logits.iter().map(|logit| self.tape.exp(*logit)).collect();
                let total = self.tape.sum(&exponentials);
                let total = self.tape.ln(total);
                let chosen = self.tape.affine(target, -1.0, 0.0);
                Some(self.tape.add(total, chosen))
            })
            .collect()
    }

    /// The embedding of a position with some of its predecessor's mixed in.
    fn smear(&mut self, embedded: &[Vector], position: usize) -> Vector {
        if position == 0 {
            return embedded[0].clone();
        }
        let x = &embedded[position];
        let gate = self.linear("smear_gate.weight", &x[..SMEAR_CHANNELS])[0];
        let gate = self.tape.sigmoid(gate);
        let gate = self.tape.multiply(gate, self.parameters["smear_lambda"][0]);
        self.add_multiple(x, &embedded[position - 1], gate)
    }

    /// One layer over all positions of a row.
    fn layer(&mut self, layer: usize, stream: &[Vector], start: &[Vector], ids: &[u32]) -> Vec<Vector> {
        let [keep, again] = ["resid_lambdas", "x0_lambdas"].map(|name| self.parameters[name][layer]);
        let mixed: Vec<Vector> = (stream.iter().zip(start))
            .map(|(x, x0)| {
                let kept: Vector = x.iter().map(|x| self.tape.multiply(*x, keep)).collect();
                self.add_multiple(&kept, x0, again)
            })
            .collect();
        let attended = self.attention(layer, &mixed, ids);
        (mixed.iter().zip(&attended))
            .map(|(x, attended)| {
                let x = self.add(x, attended);
                let fed = self.feed_forward(layer, &x);
                self.add(&x, &fed)
            })
            .collect()
    }

    fn feed_forward(&mut self, layer: usize, x: &Vector) -> Vector {
        let x = self.norm(x);
        let hidden = self.linear(&format!("transformer.h.{layer}.mlp.c_fc.weight"), &x);
        let hidden: Vector = hidden.into_iter().map(|x| self.tape.squared_relu(x)).collect();
        self.linear(&format!("transformer.h.{layer}.mlp.c_proj.weight"), &hidden)
    }

    /// One layer's attention over all positions of a row.
    fn attention(&mut self, layer: usize, stream: &[Vector], ids: &[u32]) -> Vec<Vector> {
        let size = self.shape.n_embd / self.shape.n_head;
        let name = |matrix: &str| format!("transformer.h.{layer}.attn.{matrix}.weight");
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = self.norm(x);
            let q = self.linear(&name("c_q"), &x);
            let k = self.linear(&name("c_k"), &x);
            let v = self.linear(&name("c_v"), &x);
            queries.push(q.chunks(size).map(|q| self.turn(q, position)).collect::<Vec<Vector>>());
            keys.push(k.chunks(size).map(|k| self.turn(k, position)).collect::<Vec<Vector>>());
            values.push(self.values(layer, &v, &x, ids[position]));
        }
        (0..stream.len())
            .map(|position| {
                let mixed: Vector = (0..self.shape.n_head)
                    .flat_map(|head| self.attend(layer, head, position, &queries, &keys, &values))
                    .collect();
                self.linear(&name("c_proj"), &mixed)
            })
            .collect()
    }

    /// The values of a position by head, with the gated value embedding where the layer has one.
    fn values(&mut self, layer: usize, v: &[Number], x: &[Number], id: u32) -> Vec<Vector> {
        let size = self.shape.n_embd / self.shape.n_head;
        let heads: Vec<Vector> = v.chunks(size).map(<[Number]>::to_vec).collect();
        if !has_value_embedding(layer, self.shape.n_layer) {
            return heads;
        }
        let gates = self.linear(&format!("transformer.h.{layer}.attn.ve_gate.weight"), &x[..VALUE_GATE_CHANNELS]);
        let embedding = self.row(&format!("value_embeds.{layer}.weight"), id as usize, size * self.shape.n_kv_head);
        (heads.iter().zip(gates).zip(embedding.chunks(size)))
            .map(|((v, gate), embedding)| {
                let gate = self.tape.sigmoid(gate);
                let gate = self.tape.affine(gate, 3.0, 0.0);
                self.add_multiple(v, embedding, gate)
            })
            .collect()
    }

    /// Rotary embedding, norm and factor of one head's query or key.
    fn turn(&mut self, x: &[Number], position: usize) -> Vector {
        let half = x.len() / 2;
        let mut turned = x.to_vec();
        for pair in 0..half {
            let angle = position as f64 / 100_000f64.powf(2.0 * pair as f64 / x.len() as f64);
            let (sine, cosine) = angle.sin_cos();
            let part = |tape: &mut Tape, along: f64, across: f64| {
                let along = tape.affine(x[pair], along, 0.0);
                let across = tape.affine(x[pair + half], across, 0.0);
                tape.add(along, across)
            };
            turned[pair] = part(&mut self.tape, cosine, sine);
            turned[pair + half] = part(&mut self.tape, -sine, cosine);
        }
        let normed = self.norm(&turned);
        normed.into_iter().map(|x| self.tape.affine(x, 1.2, 0.0)).collect()
    }

    /// What one head of one position takes from the positions it sees.
    fn attend(
        &mut self,
        layer: usize,
        head: usize,
        position: usize,
        queries: &[Vec<Vector>],
        keys: &[Vec<Vector>],
        values: &[Vec<Vector>],
    ) -> Vector {
        let group = head / (self.shape.n_head / self.shape.n_kv_head);
        let first = position.saturating_sub(window_sizes(self.shape)[layer]);
        let query = &queries[position][head];
        let weights: Vector = (first..=position)
            .map(|seen| {
                let score = self.tape.dot(query, &keys[seen][group]);
                let score = self.tape.affine(score, 1.0 / (query.len() as f64).sqrt(), 0.0);
                self.tape.exp(score)
            })
            .collect();
        let total = self.tape.sum(&weights);
        (0..query.len())
            .map(|channel| {
                let seen: Vector = (first..=position).map(|seen| values[seen][group][channel]).collect();
                let mixed = self.tape.dot(&weights, &seen);
                self.tape.divide(mixed, total)
            })
            .collect()
    }

    /// x divided by its root mean square.
    fn norm(&mut self, x: &[Number]) -> Vector {
        let squares = self.tape.dot(x, x);
        let mean = self.tape.affine(squares, 1.0 / x.len() as f64, f64::from(f32::EPSILON));
        let root = self.tape.sqrt(mean);
        x.iter().map(|x| self.tape.divide(*x, root)).collect()
    }

    /// The named matrix times x.
    fn linear(&mut self, name: &str, x: &[Number]) -> Vector {
        let parameters = self.parameters;
        parameters[name].chunks(x.len()).map(|row| self.tape.dot(row, x)).collect()
    }

    /// One row of a table with rows of `width`.
    fn row(&self, name: &str, index: usize, width: usize) -> Vector {
        self.parameters[name][index * width..(index + 1) * width].to_vec()
    }

    /// a + b, channel by channel.
    fn add(&mut self, a: &[Number], b: &[Number]) -> Vector {
        a.iter().zip(b).map(|(a, b)| self.tape.add(*a, *b)).collect()
    }

    /// a + factor · b, channel by channel.
    fn add_multiple(&mut self, a: &[Number], b: &[Number], factor: Number) -> Vector {
        (a.iter().zip(b))
            .map(|(a, b)| {
                let product = self.tape.multiply(*b, factor);
                self.tape.add(*a, product)
            })
            .collect()
    }
}
