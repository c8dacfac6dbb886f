//! Kernels of attention other than its products: rotary positions with their norm, and gated values.

use candle_core::{DType, Device, Result, Tensor};

use super::{Sizes, Stopwatch, Work, elements, kept, slope_sum, tensor, variable};
use nanochat_engine::ops::reference;
use nanochat_kernels::{Stored, rotary, value};
use nanochat_plan::shape::VALUE_GATE_CHANNELS;

pub(super) fn rotary<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let heads = sizes.query_heads();
    let count = sizes.tokens * heads.width();
    let (x, dy) = (elements(count, 1), elements(count, 2));
    let (cos, sin) = reference::rotary_table(0, heads.length, heads.size, DType::F32, &Device::Cpu)?;
    let flat = |table: &Tensor| table.flatten_all()?.to_vec1::<f32>();
    let (cos_elements, sin_elements) = (flat(&cos)?, flat(&sin)?);
    let angles = rotary::Angles { cos: &cos_elements, sin: &sin_elements };
    let tx = variable(&x, &[sizes.rows, heads.length, heads.count, heads.size])?;
    let slopes = dy.clone();
    let (x, dy, bytes) = (kept::<S>(&x), kept::<S>(&dy), count * size_of::<S>());
    let (mut y, mut inverse, mut dx) = (x.clone(), vec![0f32; sizes.tokens * heads.count], x.clone());
    let shape = &format!("{} tokens, {} heads of {}", sizes.tokens, heads.count, heads.size);
    stopwatch.case(
        "rotary, norm and scale forward",
        shape,
        Work::Bytes(2 * bytes),
        || rotary::forward(&x, angles, heads, &mut y, &mut inverse),
        || reference::rotary_norm_scale(&tx, &cos, &sin)?.transpose(1, 2)?.contiguous().map(drop),
    )?;
    let sum = slope_sum(&reference::rotary_norm_scale(&tx, &cos, &sin)?, &slopes)?;
    stopwatch.case(
        "rotary, norm and scale backward",
        shape,
        Work::Bytes(3 * bytes),
        || rotary::backward(&dy, &y, &inverse, angles, heads, &mut dx),
        || sum.backward().map(drop),
    )
}

pub(super) fn values<S: Stored<Element = f32>>(stopwatch: &mut Stopwatch<'_>, sizes: &Sizes<'_>) -> Result<()> {
    let (heads, vocab) = (sizes.key_heads(), sizes.model.vocab_size);
    let (count, channels) = (sizes.tokens * sizes.kv, VALUE_GATE_CHANNELS.min(sizes.width));
    let (v, dy, table) = (elements(count, 1), elements(count, 2), elements(vocab * sizes.kv, 3));
    let (gate, x, ids) = (elements(heads.count * channels, 4), elements(sizes.tokens * sizes.width, 5), sizes.ids());
    let dims = [sizes.rows, heads.length, heads.count, heads.size];
    let (tv, ttable) = (variable(&v, &dims)?, variable(&table, &[vocab, sizes.kv])?);
    let (tx, tgate) =
        (tensor(&x, &[sizes.rows, heads.length, sizes.width])?, variable(&gate, &[heads.count, channels])?);
    let tids = Tensor::from_slice(&ids, (sizes.rows, heads.length), &Device::Cpu)?;
    let slopes = dy.clone();
    let (v, dy, x, bytes) =
        (kept::<S>(&v), kept::<S>(&dy), kept::<S>(&x), count * (2 * size_of::<S>() + size_of::<f32>()));
    let mix = value::Mix { ids: &ids, table: &table, gate: &gate, x: &x, width: sizes.width };
    let per_head = || vec![0f32; sizes.tokens * heads.count];
    let (mut embedded, mut gates, mut dx) = (v.clone(), per_head(), x.clone());
    stopwatch.passes(
        ("gated values", &format!("{} tokens, {} heads of {}", sizes.tokens, heads.count, heads.size)),
        &mut (v.clone(), per_head()),
        (bytes, |(y, sigma)| value::forward_mixed(&v, mix, heads, y, sigma)),
        (bytes, |(_, sigma)| value::backward_mixed(&dy, mix, sigma, heads, &mut embedded, &mut gates, &mut dx)),
        || {
            let extra = reference::embedding(&ttable, &tids)?.reshape(&dims)?;
            reference::add_value_embedding(&tv, &extra, &tx, &tgate)
        },
        &slopes,
    )
}
