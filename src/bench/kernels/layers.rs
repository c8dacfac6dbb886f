//! What attention needs beside its products: rotary positions with their norm, and gated values.

use candle_core::{DType, Device, Tensor};

use super::{Bench, Sizes, Work, elements, slope_sum, tensor, variable};
use crate::bench::BenchError;
use nanochat_engine::ops::reference;
use nanochat_kernels::{rotary, value};
use nanochat_plan::shape::VALUE_GATE_CHANNELS;

pub(super) fn measure(bench: &mut Bench<'_>, sizes: &Sizes) -> Result<(), BenchError> {
    let failed = |error: candle_core::Error| BenchError::Twin { kernel: "layer".into(), reason: error.to_string() };
    rotary(bench, sizes, failed)?;
    values(bench, sizes, failed)
}

fn rotary(
    bench: &mut Bench<'_>,
    sizes: &Sizes,
    failed: impl Fn(candle_core::Error) -> BenchError + Copy,
) -> Result<(), BenchError> {
    let heads = sizes.query_heads();
    let count = sizes.tokens * heads.width();
    let (x, dy) = (elements(count, 1), elements(count, 2));
    let (cos, sin) = reference::rotary_table(0, heads.length, heads.size, DType::F32, &Device::Cpu).map_err(failed)?;
    let flat = |table: &Tensor| table.flatten_all().and_then(|table| table.to_vec1::<f32>());
    let (cos_numbers, sin_numbers) = (flat(&cos).map_err(failed)?, flat(&sin).map_err(failed)?);
    let angles = rotary::Angles { cos: &cos_numbers, sin: &sin_numbers };
    let (mut y, mut inverse, mut dx) = (vec![0f32; count], vec![0f32; sizes.tokens * heads.count], x.clone());
    let reference = variable(&x, &[sizes.rows, heads.length, heads.count, heads.size]).map_err(failed)?;
    let shape = format!("{} tokens, {} heads of {}", sizes.tokens, heads.count, heads.size);
    bench.case(
        "rotary, norm and scale forward",
        shape.clone(),
        Work::Elements(2 * count),
        || rotary::forward(&x, angles, heads, &mut y, &mut inverse),
        || reference::rotary_norm_scale(&reference, &cos, &sin)?.transpose(1, 2)?.contiguous().map(drop),
    )?;
    let turned = reference::rotary_norm_scale(&reference, &cos, &sin).map_err(failed)?;
    let sum = slope_sum(&turned, &dy).map_err(failed)?;
    bench.case(
        "rotary, norm and scale backward",
        shape,
        Work::Elements(3 * count),
        || rotary::backward(&dy, &y, &inverse, angles, heads, &mut dx),
        || sum.backward().map(drop),
    )
}

fn values(
    bench: &mut Bench<'_>,
    sizes: &Sizes,
    failed: impl Fn(candle_core::Error) -> BenchError + Copy,
) -> Result<(), BenchError> {
    let (heads, vocab) = (sizes.key_heads(), sizes.model.vocab_size);
    let (count, channels) = (sizes.tokens * sizes.kv, VALUE_GATE_CHANNELS.min(sizes.width));
    let (v, dy, table) = (elements(count, 1), elements(count, 2), elements(vocab * sizes.kv, 3));
    let (gate, x, ids) = (elements(heads.count * channels, 4), elements(sizes.tokens * sizes.width, 5), sizes.ids());
    let mix = value::Mix { ids: &ids, table: &table, gate: &gate, x: &x, width: sizes.width };
    let per_head = sizes.tokens * heads.count;
    let (mut y, mut sigma, mut embedded, mut gates) =
        (v.clone(), vec![0f32; per_head], v.clone(), vec![0f32; per_head]);
    let mut dx = x.clone();
    let dims = [sizes.rows, heads.length, heads.count, heads.size];
    let build = || {
        let variables = (
            variable(&v, &dims)?,
            variable(&table, &[vocab, sizes.kv])?,
            tensor(&x, &[sizes.rows, heads.length, sizes.width])?,
            variable(&gate, &[heads.count, channels])?,
        );
        let ids = Tensor::from_slice(&ids, (sizes.rows, heads.length), &Device::Cpu)?;
        Ok::<_, candle_core::Error>((variables, ids))
    };
    let ((tv, ttable, tx, tgate), tids) = build().map_err(failed)?;
    let reference = || {
        let extra = reference::embedding(&ttable, &tids)?.reshape(&dims)?;
        reference::add_value_embedding(&tv, &extra, &tx, &tgate)
    };
    let shape = format!("{} tokens, {} heads of {}", sizes.tokens, heads.count, heads.size);
    bench.case(
        "gated values forward",
        shape.clone(),
        Work::Elements(3 * count),
        || value::forward_mixed(&v, mix, heads, &mut y, &mut sigma),
        || reference().map(drop),
    )?;
    let sum = reference().and_then(|result| slope_sum(&result, &dy)).map_err(failed)?;
    bench.case(
        "gated values backward",
        shape,
        Work::Elements(3 * count),
        || value::backward_mixed(&dy, mix, &sigma, heads, &mut embedded, &mut gates, &mut dx),
        || sum.backward().map(drop),
    )
}
