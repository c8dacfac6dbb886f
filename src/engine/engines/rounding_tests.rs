//! How far bf16 takes gradients from the true ones: the engines for GPU and processor against the baseline's model as PyTorch computes it
//! operation by operation, which rounds every result.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use half::bf16;

use super::{Engine, GpuEngine, KernelEngine, Setup};
use crate::data::Batch;
use crate::model::Gpt;
use crate::model::testing::{entries, random_batch, random_model, shape};
use crate::ops::reference::{
    QK_SCALE, add_value_embedding, cross_entropy, embedding, linear, residual_mix, rms_norm, rotary, rotary_table,
    smear, soft_cap, squared_relu,
};
use crate::optim::LearningRates;
use nanochat_emulator::Emulator;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_plan::activations::BatchSize;
use nanochat_plan::shape::{has_value_embedding, head_dim, window_sizes};
use nanochat_plan::{ModelShape, Precision};
use nanochat_step::{Arena, Batch as Ids, Cpu, Network};

use crate::model::{load_angles, load_weights};
use nanochat_plan::activations::Pass;

const SIZE: BatchSize = BatchSize { rows: 2, length: 16 };
const SEEDS: u64 = 10;
/// How much further from the truth the engine may be: the spread of ten seeds.
const MARGIN: f64 = 1.05;

/// The baseline's model in bf16: weights cast where they are used, every operation's result rounded; norms, softmax and loss in
/// f32 within.
struct Eager<'a> {
    shape: &'a ModelShape,
    weights: &'a BTreeMap<String, Var>,
}

impl Eager<'_> {
    fn weight(&self, name: &str) -> Result<Tensor> {
        self.weights[name].as_tensor().to_dtype(DType::BF16)
    }

    fn matrix(&self, layer: usize, name: &str) -> Result<Tensor> {
        self.weight(&format!("transformer.h.{layer}.{name}.weight"))
    }

    fn project(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        linear(x, weight, ComputeDtype::Full)
    }

    /// The sum of losses.
    fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let x = norm(&embedding(&self.weight("transformer.wte.weight")?, ids)?)?;
        let x0 = smear(&x, None, &self.weight("smear_gate.weight")?, &self.weight("smear_lambda")?)?;
        let (mut x, mut middle) = (x0.clone(), None);
        for layer in 0..self.shape.n_layer {
            let [lambda, lambda0] = ["resid_lambdas", "x0_lambdas"].map(|name| self.weight(name)?.narrow(0, layer, 1));
            x = residual_mix(&x, &x0, &lambda?, &lambda0?)?;
            x = (&x + self.attention(layer, &norm(&x)?, ids)?)?;
            let hidden = squared_relu(&self.project(&norm(&x)?, &self.matrix(layer, "mlp.c_fc")?)?)?;
            x = (&x + self.project(&hidden, &self.matrix(layer, "mlp.c_proj")?)?)?;
            if layer == self.shape.n_layer / 2 {
                middle = Some(x.clone());
            }
        }
        let middle = middle.unwrap_or_else(|| x.clone());
        x = (&x - middle.broadcast_mul(&self.weight("backout_lambda")?)?)?;
        let logits = self.project(&norm(&x)?, &self.weight("lm_head.weight")?)?;
        let logits = logits.narrow(D::Minus1, 0, self.shape.vocab_size)?.to_dtype(DType::F32)?;
        cross_entropy(&soft_cap(&logits.flatten(0, 1)?)?, &targets.flatten_all()?)?.sum_all()
    }

    fn attention(&self, layer: usize, x: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let (rows, length, width) = x.dims3()?;
        let (groups, size) = (self.shape.n_kv_head, head_dim(self.shape));
        let heads = |name: &str, count: usize| {
            self.project(x, &self.matrix(layer, name)?)?.reshape((rows, length, count, size))
        };
        let (cos, sin) = rotary_table(0, length, size, DType::F32, &Device::Cpu)?;
        let (cos, sin) = (cos.to_dtype(DType::BF16)?, sin.to_dtype(DType::BF16)?);
        let turned = |x: Tensor| norm(&rotary(&x, &cos, &sin)?)?.affine(QK_SCALE, 0.0);
        let (q, k) = (turned(heads("attn.c_q", self.shape.n_head)?)?, turned(heads("attn.c_k", groups)?)?);
        let mut v = heads("attn.c_v", groups)?;
        if has_value_embedding(layer, self.shape.n_layer) {
            let extra = embedding(&self.weight(&format!("value_embeds.{layer}.weight"))?, ids)?;
            v = add_value_embedding(&v, &extra.reshape(v.dims())?, x, &self.matrix(layer, "attn.ve_gate")?)?;
        }
        // The fused kernel keeps scores in f32, and rounds the weights and the result.
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        let y = fused_attention(&wide(&q)?, &wide(&k)?, &wide(&v)?, window_sizes(self.shape)[layer])?;
        self.project(&y.to_dtype(DType::BF16)?.reshape((rows, length, width))?, &self.matrix(layer, "attn.c_proj")?)
    }
}

/// In f32 within, rounded once.
fn norm(x: &Tensor) -> Result<Tensor> {
    rms_norm(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

fn fused_attention(q: &Tensor, k: &Tensor, v: &Tensor, window: usize) -> Result<Tensor> {
    crate::ops::reference::attention(q, k, v, window, ComputeDtype::Full)
}

fn batch(shape: &ModelShape, seed: u64) -> (Batch, Tensor, Tensor) {
    let (ids, targets) = random_batch(shape, SIZE.rows, SIZE.length, seed);
    let in_vocabulary = |tensor: &Tensor| tensor.to_dtype(DType::I64).unwrap().flatten_all().unwrap();
    let list = |tensor: &Tensor| -> Vec<i32> {
        in_vocabulary(tensor).to_vec1::<i64>().unwrap().into_iter().map(|id| id.max(0) as i32).collect()
    };
    let (inputs, goals) = (list(&ids), list(&targets));
    let dims = (SIZE.rows, SIZE.length);
    let tensor = |list: &[i32]| {
        let ids: Vec<u32> = list.iter().map(|id| *id as u32).collect();
        Tensor::from_vec(ids, dims, &Device::Cpu).unwrap()
    };
    let (ids, targets) = (tensor(&inputs), tensor(&goals));
    let batch = Batch { inputs, targets: goals, batch_size: SIZE.rows, sequence_len: SIZE.length };
    (batch, ids, targets)
}

type Gradients = BTreeMap<String, Vec<f64>>;

/// In f64, of the weights as they are.
fn exact(model: &Gpt, batch: &Batch) -> Gradients {
    let network = Network::new(model.shape(), SIZE, Pass::Training, 1);
    let mut cpu = Cpu::<f64>::new(&network.arenas(), ComputeDtype::Full);
    let wide = model.parameters().iter().map(|(name, weight)| (name.clone(), weight.to_dtype(DType::F64).unwrap()));
    load_weights(&mut cpu, &network, &wide.collect()).unwrap();
    load_angles(&mut cpu, &network).unwrap();
    network.micro_step(&mut cpu, Ids { ids: &batch.inputs, targets: &batch.targets, number: 0 }, 1.0);
    let entries = network.parameters().entries().iter();
    let region = |entry: &nanochat_plan::parameters::Entry| nanochat_step::Region::new(Arena::Gradients, entry.span);
    entries.map(|entry| (entry.parameter.name(), cpu.read(region(entry)).to_vec())).collect()
}

fn eager(model: &Gpt, ids: &Tensor, targets: &Tensor) -> Gradients {
    let weights: BTreeMap<String, Var> =
        model.parameters().iter().map(|(name, weight)| (name.clone(), Var::from_tensor(weight).unwrap())).collect();
    let loss = Eager { shape: model.shape(), weights: &weights }.loss(ids, targets).unwrap();
    let gradients = loss.backward().unwrap();
    weights.iter().map(|(name, weight)| (name.clone(), entries(gradients.get(weight).unwrap()))).collect()
}

fn setup() -> Setup {
    let rates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };
    Setup { batch: SIZE, micro_steps: 1, rates, precision: Precision::Bf16 }
}

fn on_gpu(model: &Gpt) -> Box<dyn Engine> {
    Box::new(GpuEngine::new(Emulator::default(), model, &setup()).unwrap())
}

fn on_processor(model: &Gpt) -> Box<dyn Engine> {
    Box::new(KernelEngine::<bf16>::new(model, &setup()).unwrap())
}

fn gradients_of(mut engine: Box<dyn Engine>, batch: &Batch) -> Gradients {
    engine.zero_gradients().unwrap();
    engine.micro_step(batch, 0, SIZE.tokens() as f64, &mut |_| {}).unwrap();
    let gradients = engine.gradients().unwrap();
    gradients.iter().map(|(name, stored)| (name.clone(), entries(&stored.to_tensor().unwrap()))).collect()
}

/// Per tensor, the root mean square over ten seeds of the distance to the truth.
fn rounds_no_more_than_the_baseline(open: fn(&Gpt) -> Box<dyn Engine>) {
    let mut squares: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for seed in 0..SEEDS {
        let shape = shape(SIZE.length, 64, 3, (4, 2), 64, "SSL");
        let model = random_model(&shape, seed);
        let (batch, ids, targets) = batch(&shape, 100 + seed);
        let truth = exact(&model, &batch);
        for (which, found) in [gradients_of(open(&model), &batch), eager(&model, &ids, &targets)].iter().enumerate() {
            for (name, truth) in &truth {
                let off: f64 = found[name].iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum();
                squares.entry(name.clone()).or_default()[which] += off;
            }
        }
    }
    let ratios = squares.iter().map(|(name, [ours, theirs])| (name, (ours / theirs).sqrt()));
    let above: Vec<_> = ratios.clone().filter(|(_, ratio)| *ratio > MARGIN).collect();
    assert!(above.is_empty(), "{above:?} of {:?}", ratios.collect::<Vec<_>>());
}

#[test]
fn the_engine_rounds_no_more_than_the_baseline() {
    rounds_no_more_than_the_baseline(on_gpu);
}

#[test]
fn activations_in_bf16_on_the_processor_round_no_more_than_the_baseline() {
    rounds_no_more_than_the_baseline(on_processor);
}
