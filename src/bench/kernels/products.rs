//! Kernels that matrix products limit: linear layers, attention, the head, the optimizer.

use std::collections::BTreeMap;

use candle_core::{Device, Error, Tensor};

use super::{Sizes, Stopwatch, Work, elements, kept, slope_sum, tensor, variable};
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::model::{Backend, Gpt, Gradients};
use nanochat_engine::ops::reference;
use nanochat_engine::optim::{LearningRates, StepSettings};
use nanochat_kernels::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply};
use nanochat_kernels::{Scratch, Stored, attention, head};
use nanochat_plan::activations::BatchSize;
use nanochat_plan::shape::window_sizes;

/// Iterations of Muon's orthogonalisation.
const MUON_ITERATIONS: f64 = 5.0;

/// The linear layers of different sizes.
pub(super) fn linear_layers<S: Stored<Element = f32>>(
    stopwatch: &mut Stopwatch<'_>,
    sizes: &Sizes<'_>,
) -> candle_core::Result<()> {
    linear::<S>(stopwatch, sizes, "c_q", sizes.width, sizes.width)?;
    linear::<S>(stopwatch, sizes, "c_fc", sizes.hidden, sizes.width)?;
    linear::<S>(stopwatch, sizes, "mlp.c_proj", sizes.width, sizes.hidden)
}

/// Attention at each window size of the model.
pub(super) fn attention<S: Stored<Element = f32>>(
    stopwatch: &mut Stopwatch<'_>,
    sizes: &Sizes<'_>,
) -> candle_core::Result<()> {
    let mut windows = window_sizes(&sizes.model);
    windows.sort_unstable();
    windows.dedup();
    windows.into_iter().try_for_each(|window| attention_of::<S>(stopwatch, sizes, window))
}

/// The three products of a linear layer.
fn linear<S: Stored<Element = f32>>(
    stopwatch: &mut Stopwatch<'_>,
    sizes: &Sizes<'_>,
    name: &str,
    outputs: usize,
    inputs: usize,
) -> candle_core::Result<()> {
    let (tokens, compute_dtype) = (sizes.tokens, sizes.compute_dtype);
    let (x, w, dy) = (elements(tokens * inputs, 1), elements(outputs * inputs, 2), elements(tokens * outputs, 3));
    let references = [(&x, [tokens, inputs]), (&w, [outputs, inputs]), (&dy, [tokens, outputs])];
    let references =
        references.into_iter().map(|(values, dims)| tensor(values, &dims)).collect::<Result<Vec<_>, _>>()?;
    let shape = &format!("{tokens} × {inputs} → {outputs}");
    let work = Work::Flops(2.0 * (tokens * inputs * outputs) as f64);
    let (x, dy) = (kept::<S>(&x), kept::<S>(&dy));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let (xs, ws, dys) =
        (Matrix::new(&x, tokens, inputs), Matrix::new(&w, outputs, inputs), Matrix::new(&dy, tokens, outputs));
    stopwatch.case(
        &format!("linear {name} forward"),
        shape,
        work,
        || multiply(&mut y, xs, ws.transposed(), WriteMode::Overwrite, Threads::Pool, compute_dtype),
        || references[0].matmul(&references[1].t()?).map(drop),
    )?;
    stopwatch.case(
        &format!("linear {name} input gradient"),
        shape,
        work,
        || multiply(&mut dx, dys, ws, WriteMode::Overwrite, Threads::Pool, compute_dtype),
        || references[2].matmul(&references[1]).map(drop),
    )?;
    stopwatch.case(
        &format!("linear {name} weight gradient"),
        shape,
        work,
        || multiply(&mut dw, dys.transposed(), xs, WriteMode::Accumulate, Threads::Pool, compute_dtype),
        || references[2].t()?.matmul(&references[0]).map(drop),
    )
}

fn attention_of<S: Stored<Element = f32>>(
    stopwatch: &mut Stopwatch<'_>,
    sizes: &Sizes<'_>,
    window: usize,
) -> candle_core::Result<()> {
    let model = &sizes.model;
    let (length, heads, groups, size) = (model.sequence_len, model.n_head, model.n_kv_head, sizes.size);
    let shape =
        attention::Shape { rows: sizes.rows, length, heads, groups, size, window, compute_dtype: sizes.compute_dtype };
    let (stream, keys, per_head) = (sizes.tokens * sizes.width, sizes.tokens * sizes.kv, sizes.tokens * heads);
    let (q, k, v) = (elements(stream, 1), elements(keys, 2), elements(keys, 3));
    let mut scratch = Scratch::default();
    scratch.reserve(shape.workspace_elements());
    let reference = |heads: usize, values: &[f32]| variable(values, &[sizes.rows, length, heads, size]);
    let reference =
        || Ok::<_, candle_core::Error>((reference(heads, &q)?, reference(groups, &k)?, reference(groups, &v)?));
    let (tq, tk, tv) = reference()?;
    let slopes = elements(stream, 4);
    let (q, k, v, dout) = (kept::<S>(&q), kept::<S>(&k), kept::<S>(&v), kept::<S>(&slopes));
    let inputs = attention::Inputs { q: &q, k: &k, v: &v };
    let (mut out, mut lse) = (q.clone(), vec![0f32; per_head]);
    // Pairs of a query and a key that it sees, each of which takes part in 2 products forward and 5 backward.
    let pairs: usize = (0..length).map(|position| position.min(window) + 1).sum();
    let flops = 2.0 * (pairs * size * heads * sizes.rows) as f64;
    let name = &format!("{} × {length}, {heads} heads of {size}, {window} back", sizes.rows);
    stopwatch.case(
        "attention forward",
        name,
        Work::Flops(2.0 * flops),
        || attention::forward(shape, inputs, &mut out, &mut lse, &scratch),
        || reference::attention(&tq, &tk, &tv, window, ComputeDtype::Full).map(drop),
    )?;
    let (mut dq, mut dk, mut dv, delta) = (q.clone(), k.clone(), v.clone(), elements(per_head, 5));
    let sum = if stopwatch.options.references {
        let result = reference::attention(&tq, &tk, &tv, window, ComputeDtype::Full)
            .and_then(|result| slope_sum(&result, &slopes));
        Some(result?)
    } else {
        None
    };
    stopwatch.case(
        "attention backward",
        name,
        Work::Flops(5.0 * flops),
        || {
            let saved = attention::Saved { lse: &lse, dout: &dout, delta: &delta };
            let outputs = attention::Outputs { dq: &mut dq, dk: &mut dk, dv: &mut dv };
            attention::backward(shape, inputs, saved, outputs, &scratch);
        },
        || sum.as_ref().map_or(Ok(()), |sum| sum.backward().map(drop)),
    )
}

/// Projection, cap, loss, and the gradients of stream and projection.
pub(super) fn head<S: Stored<Element = f32>>(
    stopwatch: &mut Stopwatch<'_>,
    sizes: &Sizes<'_>,
) -> candle_core::Result<()> {
    let (tokens, width, vocab) = (sizes.tokens, sizes.width, sizes.model.vocab_size);
    let (x, weight) = (elements(tokens * width, 1), elements(vocab * width, 2));
    let targets: Vec<i32> = sizes.ids().into_iter().map(|id| id as i32).collect();
    let (x_values, x) = (x.clone(), kept::<S>(&x));
    let logits = head::chunk_rows(vocab).min(tokens) * vocab;
    let (mut losses, mut logits) = (vec![0f32; tokens], vec![S::default(); logits]);
    let (mut dx, mut dweight) = (x.clone(), weight.clone());
    let mut scratch = Scratch::default();
    scratch.reserve(vocab);
    let input =
        head::Head { x: &x, weight: &weight, targets: &targets, width, vocab, compute_dtype: sizes.compute_dtype };
    let reference = || {
        let (x, weight) = (variable(&x_values, &[tokens, width])?, variable(&weight, &[vocab, width])?);
        let targets = Tensor::from_iter(targets.iter().map(|target| i64::from(*target)), &Device::Cpu)?;
        let logits = reference::soft_cap(&reference::linear(&x, &weight, ComputeDtype::Full)?)?;
        reference::cross_entropy(&logits, &targets)?.sum_all()?.backward().map(drop)
    };
    stopwatch.case(
        "head, loss and gradients",
        &format!("{tokens} × {width} → {vocab}"),
        Work::Flops(6.0 * (tokens * width * vocab) as f64),
        || {
            let gradients = head::HeadGradients { factor: 1.0, dx: &mut dx, dweight: &mut dweight };
            head::cross_entropy(input, Some(gradients), &mut losses, &mut logits, &scratch);
        },
        reference,
    )
}

/// A whole step of the optimizer over the plan's model.
pub(super) fn optimizer(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> candle_core::Result<()> {
    let plan = sizes.plan;
    let rates = LearningRates { embedding: 0.2, unembedding: 0.004, matrix: 0.02, scalar: 0.5 };
    let settings = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.95, muon_weight_decay: 0.1 };
    let batch = BatchSize { rows: 1, length: 1 };
    let setup = Setup { batch, micro_steps: 1, rates, precision: plan.dtype };
    let model = Gpt::initialized(&plan.model, plan.seed, &Device::Cpu).map_err(Error::wrap)?;
    let copied = |(name, values): (&String, &Tensor)| {
        Ok((name.clone(), tensor(&elements(values.elem_count(), 9), values.dims())?))
    };
    let gradients = model.parameters().iter().map(copied).collect::<candle_core::Result<BTreeMap<_, _>>>()?;
    let gradients = Gradients::from_tensors(gradients);
    let flops = muon_flops(&model);
    let arm = |backend: Backend| {
        let mut model = model.clone();
        model.set_backend(backend);
        let mut engine = engines::open(model, &setup).map_err(Error::wrap)?;
        engine.load_gradients(&gradients).map_err(Error::wrap)?;
        Ok::<_, Error>(engine)
    };
    let mut kernels = arm(Backend::Kernels)?;
    let mut reference = if stopwatch.options.references { Some(arm(Backend::Reference)?) } else { None };
    stopwatch.case(
        "optimizer step",
        &format!("{} parameters", plan.parameters.total),
        Work::Flops(flops),
        || drop(kernels.optimizer_step(&settings)),
        || match &mut reference {
            Some(engine) => engine.optimizer_step(&settings).map_err(Error::wrap),
            None => Ok(()),
        },
    )
}

/// Operations of Muon's products over all matrices of the layers: three an iteration, on the smaller side.
fn muon_flops(model: &Gpt) -> f64 {
    let matrices =
        model.parameters().iter().filter(|(name, tensor)| name.starts_with("transformer.h.") && tensor.rank() == 2);
    matrices
        .map(|(_, tensor)| {
            let (rows, columns) = (tensor.dims()[0] as f64, tensor.dims()[1] as f64);
            let (short, long) = (rows.min(columns), rows.max(columns));
            MUON_ITERATIONS * (4.0 * short * short * long + 2.0 * short.powi(3))
        })
        .sum()
}
