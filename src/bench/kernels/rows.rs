//! Kernels that work row by row on the stream: norm, mixes, smear, squared ReLU, embedding.

use std::hint::black_box;

use candle_core::{Device, Result, Tensor};

use super::{Sizes, Stopwatch, elements, kept, variable};
use nanochat_engine::ops::reference;
use nanochat_kernels::{Stored, embedding, norm, residual, smear, squared_relu};
use nanochat_plan::shape::SMEAR_CHANNELS;

/// Factors of the residual mix.
const LAMBDAS: [f32; 2] = [0.9, 0.1];

pub(super) fn norm<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let (tokens, width) = (sizes.tokens, sizes.width);
    let count = tokens * width;
    let (x, dy) = (elements(count, 1), elements(count, 2));
    let (tx, slopes) = (variable(&x, &[tokens, width])?, dy.clone());
    let (x, dy, bytes) = (kept::<S>(&x), kept::<S>(&dy), count * size_of::<S>());
    stopwatch.passes(
        ("norm", &format!("{tokens} × {width}")),
        &mut (x.clone(), vec![0f32; tokens], x.clone()),
        (2 * bytes, |(y, inverse, _)| norm::forward(&x, width, y, inverse)),
        (4 * bytes, |(y, inverse, dx)| norm::backward_add(&dy, y, inverse, width, dx)),
        || reference::rms_norm(&tx),
        &slopes,
    )
}

/// The residual mix and the norm after it.
pub(super) fn mix<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let (tokens, width) = (sizes.tokens, sizes.width);
    let count = tokens * width;
    let (x, x0, dnormed) = (elements(count, 1), elements(count, 2), elements(count, 3));
    let (tx, tx0) = (variable(&x, &[tokens, width])?, variable(&x0, &[tokens, width])?);
    let (lambda, lambda0) = (variable(&LAMBDAS[..1], &[1])?, variable(&LAMBDAS[1..], &[1])?);
    let slopes = dnormed.clone();
    let (x, x0, dnormed, bytes) = (kept::<S>(&x), kept::<S>(&x0), kept::<S>(&dnormed), count * size_of::<S>());
    let (mut stream, mut dx0) = (x.clone(), x.clone());
    stopwatch.passes(
        ("residual mix and norm", &format!("{tokens} × {width}")),
        &mut (x.clone(), x.clone(), vec![0f32; tokens]),
        (4 * bytes, |(mixed, normed, inverse)| residual::mix(&x, &x0, LAMBDAS, width, mixed, normed, inverse)),
        (8 * bytes, |(_, normed, inverse)| {
            let at = residual::Mixed { dnormed: &dnormed, normed, inverse, x: &x, x0: &x0, lambdas: LAMBDAS };
            black_box(residual::mix_backward(at, width, &mut stream, &mut dx0));
        }),
        || reference::rms_norm(&reference::residual_mix(&tx, &tx0, &lambda, &lambda0)?),
        &slopes,
    )
}

pub(super) fn squared_relu<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let count = sizes.tokens * sizes.hidden;
    let (x, dy) = (elements(count, 1), elements(count, 2));
    let (tx, slopes) = (variable(&x, &[sizes.tokens, sizes.hidden])?, dy.clone());
    let (x, dy, bytes) = (kept::<S>(&x), kept::<S>(&dy), count * size_of::<S>());
    stopwatch.passes(
        ("squared ReLU", &format!("{} × {}", sizes.tokens, sizes.hidden)),
        &mut (x.clone(), x.clone(), dy.clone()),
        (3 * bytes, |(x, y, _)| squared_relu::forward(x, y)),
        (4 * bytes, |(x, y, dy)| squared_relu::backward(x, dy, y)),
        || reference::squared_relu(&tx),
        &slopes,
    )
}

pub(super) fn smear<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let (tokens, width, length) = (sizes.tokens, sizes.width, sizes.model.sequence_len);
    let (count, channels) = (tokens * width, SMEAR_CHANNELS.min(width));
    let (e, dx, gate, lambda) = (elements(count, 1), elements(count, 2), elements(channels, 3), 0.3f32);
    let te = variable(&e, &[sizes.rows, length, width])?;
    let (tgate, tlambda) = (variable(&gate, &[1, channels])?, variable(&[lambda], &[1])?);
    let back = dx.clone();
    let (e, dx, bytes) = (kept::<S>(&e), kept::<S>(&dx), count * size_of::<S>());
    let at = smear::Smear { length, width, gate: &gate, lambda };
    let (mut de, mut dgate, mut slopes) = (e.clone(), gate.clone(), vec![0f32; tokens]);
    stopwatch.passes(
        ("smear", &format!("{tokens} × {width}")),
        &mut (e.clone(), vec![0f32; tokens]),
        (2 * bytes, |(x, sigma)| smear::forward(&e, at, x, sigma)),
        (3 * bytes, |(_, sigma)| {
            black_box(smear::backward(&dx, &e, at, sigma, &mut de, &mut dgate, &mut slopes));
        }),
        || reference::smear(&te, None, &tgate, &tlambda),
        &back,
    )
}

pub(super) fn embedding<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let (tokens, width, vocab) = (sizes.tokens, sizes.width, sizes.model.vocab_size);
    let (table, slopes, ids) = (elements(vocab * width, 1), elements(tokens * width, 2), sizes.ids());
    let (rows, count) = (kept::<S>(&slopes), tokens * width);
    let ttable = variable(&table, &[vocab, width])?;
    let tids = Tensor::from_slice(&ids, (sizes.rows, tokens / sizes.rows.max(1)), &Device::Cpu)?;
    stopwatch.passes(
        ("embedding", &format!("{tokens} of {vocab} × {width}")),
        &mut (table, rows.clone()),
        (count * (size_of::<f32>() + size_of::<S>()), |(table, rows)| embedding::gather(table, &ids, width, rows)),
        (count * (2 * size_of::<f32>() + size_of::<S>()), |(table, _)| {
            embedding::scatter_add(&rows, &ids, width, table)
        }),
        || reference::embedding(&ttable, &tids),
        &slopes,
    )
}
