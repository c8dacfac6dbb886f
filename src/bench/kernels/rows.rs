//! What works row by row on the stream: norm, mixes, smear, squared ReLU, embedding.

use candle_core::{Device, Tensor};

use super::{Bench, Sizes, Work, elements, slope_sum, variable};
use crate::bench::BenchError;
use nanochat_engine::ops::reference;
use nanochat_kernels::{embedding, norm, residual, smear, squared_relu};
use nanochat_plan::shape::SMEAR_CHANNELS;

/// Factors of the residual mix.
const LAMBDAS: [f32; 2] = [0.9, 0.1];

pub(super) fn measure(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    norm(bench, sizes)?;
    mix(bench, sizes)?;
    squared_relu(bench, sizes)?;
    smear(bench, sizes)?;
    embedding(bench, sizes)
}

fn failed(kernel: &str) -> impl Fn(candle_core::Error) -> BenchError + Copy + '_ {
    move |error| BenchError::Twin { kernel: kernel.to_string(), reason: error.to_string() }
}

fn norm(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let (tokens, width) = (sizes.tokens, sizes.width);
    let count = tokens * width;
    let (x, dy) = (elements(count, 1), elements(count, 2));
    let (mut y, mut inverse, mut dx) = (x.clone(), vec![0f32; tokens], x.clone());
    let reference = variable(&x, &[tokens, width]).map_err(failed("norm"))?;
    let shape = format!("{tokens} × {width}");
    bench.case(
        "norm forward",
        shape.clone(),
        Work::Elements(2 * count),
        || norm::forward(&x, width, &mut y, &mut inverse),
        || reference::rms_norm(&reference).map(drop),
    )?;
    let sum = reference::rms_norm(&reference).and_then(|y| slope_sum(&y, &dy)).map_err(failed("norm"))?;
    bench.case(
        "norm backward",
        shape,
        Work::Elements(4 * count),
        || norm::backward_add(&dy, &y, &inverse, width, &mut dx),
        || sum.backward().map(drop),
    )
}

/// The residual mix and the norm after it.
fn mix(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let (tokens, width) = (sizes.tokens, sizes.width);
    let count = tokens * width;
    let (x, x0, dnormed) = (elements(count, 1), elements(count, 2), elements(count, 3));
    let (mut mixed, mut normed, mut inverse) = (x.clone(), x.clone(), vec![0f32; tokens]);
    let (mut stream, mut dx0) = (x.clone(), x.clone());
    let build = || {
        let [lambda, lambda0] = [variable(&LAMBDAS[..1], &[1])?, variable(&LAMBDAS[1..], &[1])?];
        Ok::<_, candle_core::Error>((
            variable(&x, &[tokens, width])?,
            variable(&x0, &[tokens, width])?,
            lambda,
            lambda0,
        ))
    };
    let (tx, tx0, lambda, lambda0) = build().map_err(failed("residual mix"))?;
    let reference = || reference::rms_norm(&reference::residual_mix(&tx, &tx0, &lambda, &lambda0)?);
    let shape = format!("{tokens} × {width}");
    bench.case(
        "residual mix and norm forward",
        shape.clone(),
        Work::Elements(4 * count),
        || residual::mix(&x, &x0, LAMBDAS, width, &mut mixed, &mut normed, &mut inverse),
        || reference().map(drop),
    )?;
    let sum = reference().and_then(|y| slope_sum(&y, &dnormed)).map_err(failed("residual mix"))?;
    let at =
        residual::Mixed { dnormed: &dnormed, normed: &normed, inverse: &inverse, x: &x, x0: &x0, lambdas: LAMBDAS };
    bench.case(
        "residual mix and norm backward",
        shape,
        Work::Elements(8 * count),
        || {
            std::hint::black_box(residual::mix_backward(at, width, &mut stream, &mut dx0));
        },
        || sum.backward().map(drop),
    )
}

fn squared_relu(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let count = sizes.tokens * sizes.hidden;
    let (values, slopes) = (elements(count, 1), elements(count, 2));
    let (mut x, mut y, mut dy) = (values.clone(), values.clone(), slopes.clone());
    let reference = variable(&values, &[sizes.tokens, sizes.hidden]).map_err(failed("squared ReLU"))?;
    let shape = format!("{} × {}", sizes.tokens, sizes.hidden);
    bench.case(
        "squared ReLU forward",
        shape.clone(),
        Work::Elements(3 * count),
        || squared_relu::forward(&mut x, &mut y),
        || reference::squared_relu(&reference).map(drop),
    )?;
    let sum =
        reference::squared_relu(&reference).and_then(|y| slope_sum(&y, &slopes)).map_err(failed("squared ReLU"))?;
    bench.case(
        "squared ReLU backward",
        shape,
        Work::Elements(4 * count),
        || squared_relu::backward(&x, &mut dy, &mut y),
        || sum.backward().map(drop),
    )
}

fn smear(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let (tokens, width, length) = (sizes.tokens, sizes.width, sizes.model.sequence_len);
    let count = tokens * width;
    let channels = SMEAR_CHANNELS.min(width);
    let (e, dx, gate, lambda) = (elements(count, 1), elements(count, 2), elements(channels, 3), 0.3f32);
    let at = smear::Smear { length, width, gate: &gate, lambda };
    let (mut x, mut de, mut dgate) = (e.clone(), e.clone(), gate.clone());
    let (mut sigma, mut slopes) = (vec![0f32; tokens], vec![0f32; tokens]);
    let build = || {
        let e = variable(&e, &[sizes.rows, length, width])?;
        Ok::<_, candle_core::Error>((e, variable(&gate, &[1, channels])?, variable(&[lambda], &[1])?))
    };
    let (te, tgate, tlambda) = build().map_err(failed("smear"))?;
    let reference = || reference::smear(&te, None, &tgate, &tlambda);
    let shape = format!("{tokens} × {width}");
    bench.case(
        "smear forward",
        shape.clone(),
        Work::Elements(2 * count),
        || smear::forward(&e, at, &mut x, &mut sigma),
        || reference().map(drop),
    )?;
    let sum = reference().and_then(|y| slope_sum(&y, &dx)).map_err(failed("smear"))?;
    bench.case(
        "smear backward",
        shape,
        Work::Elements(3 * count),
        || {
            std::hint::black_box(smear::backward(&dx, &e, at, &sigma, &mut de, &mut dgate, &mut slopes));
        },
        || sum.backward().map(drop),
    )
}

fn embedding(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let (tokens, width, vocab) = (sizes.tokens, sizes.width, sizes.model.vocab_size);
    let (mut table, mut rows, ids) = (elements(vocab * width, 1), elements(tokens * width, 2), sizes.ids());
    let slopes = rows.clone();
    let build = || {
        let ids = Tensor::from_slice(&ids, (sizes.rows, tokens / sizes.rows.max(1)), &Device::Cpu)?;
        Ok::<_, candle_core::Error>((variable(&table, &[vocab, width])?, ids))
    };
    let (ttable, tids) = build().map_err(failed("embedding"))?;
    let shape = format!("{tokens} of {vocab} × {width}");
    bench.case(
        "embedding forward",
        shape.clone(),
        Work::Elements(2 * tokens * width),
        || embedding::gather(&table, &ids, width, &mut rows),
        || reference::embedding(&ttable, &tids).map(drop),
    )?;
    let sum = reference::embedding(&ttable, &tids).and_then(|y| slope_sum(&y, &slopes)).map_err(failed("embedding"))?;
    bench.case(
        "embedding backward",
        shape,
        Work::Elements(3 * tokens * width),
        || embedding::scatter_add(&slopes, &ids, width, &mut table),
        || sum.backward().map(drop),
    )
}
