//! Values of attention: head-major layout, with the gated value embedding mixed in where a layer has one.

use rayon::prelude::*;

use super::lanes::dot;
use super::rotary::Heads;
use super::{BLOCK_ROWS, Element, Stored, vectorized};
use crate::constants::VALUE_GATE_SCALE;

/// What a layer with a value embedding mixes in.
#[derive(Debug, Clone, Copy)]
pub struct Mix<'a, S: Stored> {
    /// Token ids, in order.
    pub ids: &'a [u32],
    /// The layer's value embedding (V × G·D).
    pub table: &'a [S::Element],
    /// The gate's weights (G × gate channels).
    pub gate: &'a [S::Element],
    /// The layer's normalised input (N × width), whose first channels the gate reads.
    pub x: &'a [S],
    /// Channels of `x`.
    pub width: usize,
}

/// Copies `v` (token-major) to `y` (head-major).
pub fn forward<S: Stored>(v: &[S], heads: Heads, y: &mut [S]) {
    let Heads { length, count, size } = heads;
    y.par_chunks_mut(length * size).enumerate().for_each(|(index, y)| {
        let start = (index / count) * length * count * size + (index % count) * size;
        for (position, y) in y.chunks_exact_mut(size).enumerate() {
            y.copy_from_slice(&v[start + position * count * size..][..size]);
        }
    });
}

/// Writes `v` (token-major) plus three times the gate times the value embedding to `y` (head-major). `sigma` (B, G, T) takes
/// the gates' sigmoids.
pub fn forward_mixed<S: Stored>(v: &[S], mix: Mix<'_, S>, heads: Heads, y: &mut [S], sigma: &mut [S::Element]) {
    let Heads { length, count, size } = heads;
    let channels = mix.gate.len() / count;
    let outputs = y.par_chunks_mut(length * size).zip(sigma.par_chunks_mut(length));
    outputs.enumerate().for_each(|(index, (y, sigma))| {
        let (row, head) = (index / count, index % count);
        let gate = &mix.gate[head * channels..][..channels];
        vectorized!({
            for (position, (y, sigma)) in y.chunks_exact_mut(size).zip(sigma).enumerate() {
                let token = row * length + position;
                *sigma = dot(gate, &mix.x[token * mix.width..][..channels]).sigmoid();
                let weight = *sigma * S::Element::of(VALUE_GATE_SCALE);
                let at = head * size;
                let v = &v[token * count * size + at..][..size];
                let extra = &mix.table[mix.ids[token] as usize * count * size + at..][..size];
                for ((y, v), extra) in y.iter_mut().zip(v).zip(extra) {
                    *y = S::store(v.load() + weight * *extra);
                }
            }
        });
    });
}

/// Adds three times the gate times the value embedding to one token's values `v` (G × D), on this thread alone: for decoding.
pub fn mix_token<T: Element>(v: &mut [T], mix: Mix<'_, T>, size: usize) {
    let (width, channels) = (v.len(), mix.gate.len() / (v.len() / size));
    vectorized!({
        for (head, (v, gate)) in v.chunks_exact_mut(size).zip(mix.gate.chunks_exact(channels)).enumerate() {
            let weight = dot(gate, &mix.x[..channels]).sigmoid() * T::of(VALUE_GATE_SCALE);
            let extra = &mix.table[mix.ids[0] as usize * width + head * size..][..size];
            for (v, extra) in v.iter_mut().zip(extra) {
                *v += weight * *extra;
            }
        }
    });
}

/// Copies the gradient `dy` (head-major) to `dv` (token-major).
pub fn backward<S: Stored>(dy: &[S], heads: Heads, dv: &mut [S]) {
    let Heads { length, count, size } = heads;
    dv.par_chunks_mut(BLOCK_ROWS * count * size).enumerate().for_each(|(block, dv)| {
        for (offset, dv) in dv.chunks_exact_mut(count * size).enumerate() {
            let token = block * BLOCK_ROWS + offset;
            let (row, position) = (token / length, token % length);
            for (head, dv) in dv.chunks_exact_mut(size).enumerate() {
                let at = (row * count + head) * length + position;
                dv.copy_from_slice(&dy[at * size..][..size]);
            }
        }
    });
}

/// From the gradient `dy` of the mixed values (head-major): that of the embedding rows, `embedded` (token-major), and that
/// of the gates before their sigmoid, `gates` (N × G), which is also carried on to the first channels of `dx` (N × width).
pub fn backward_mixed<S: Stored>(
    dy: &[S],
    mix: Mix<'_, S>,
    sigma: &[S::Element],
    heads: Heads,
    embedded: &mut [S],
    gates: &mut [S::Element],
    dx: &mut [S],
) {
    let Heads { length, count, size } = heads;
    let channels = mix.gate.len() / count;
    let outputs = embedded.par_chunks_mut(BLOCK_ROWS * count * size).zip(gates.par_chunks_mut(BLOCK_ROWS * count));
    outputs.zip(dx.par_chunks_mut(BLOCK_ROWS * mix.width)).enumerate().for_each(|(block, ((embedded, gates), dx))| {
        vectorized!({
            let rows = embedded.chunks_exact_mut(count * size).zip(gates.chunks_exact_mut(count));
            for (offset, ((embedded, gates), dx)) in rows.zip(dx.chunks_exact_mut(mix.width)).enumerate() {
                let token = block * BLOCK_ROWS + offset;
                let (row, position) = (token / length, token % length);
                for (head, (embedded, gate_slope)) in embedded.chunks_exact_mut(size).zip(gates).enumerate() {
                    let at = (row * count + head) * length + position;
                    let (dy, sigma) = (&dy[at * size..][..size], sigma[at]);
                    let table = &mix.table[mix.ids[token] as usize * count * size + head * size..][..size];
                    let scale = S::Element::of(VALUE_GATE_SCALE);
                    *gate_slope = dot(dy, table) * scale * sigma * (S::Element::ONE - sigma);
                    for (embedded, dy) in embedded.iter_mut().zip(dy) {
                        *embedded = S::store(dy.load() * scale * sigma);
                    }
                    for (dx, gate) in dx.iter_mut().zip(&mix.gate[head * channels..][..channels]) {
                        *dx = dx.plus(*gate_slope * *gate);
                    }
                }
            }
        });
    });
}
