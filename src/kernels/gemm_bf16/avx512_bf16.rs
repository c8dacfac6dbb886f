//! AVX512-BF16: tiles of 6 × 64 sums by `vdpbf16ps`.
//!
//! B lies in rows of pairs, 64 columns to a panel; A as rows of whole pairs, which rows of bf16 are as they lie, or, where it is
//! stored along the other index, interleaved like B. A lane adds the two products of a pair one after the other, each addition rounded to
//! nearest even; denormals are read as zero and flushed to zero, whatever MXCSR says.

use std::arch::x86_64::*;

use half::bf16;

use super::avx512::{self, lowest};
use super::kernel::{Kernel, Left, Part, Tile, sum_tile};
use super::operands::{Source, with_elements};
use super::pairs::{self, Packed, Square};
use crate::matrix::Matrix;

/// Kernels by pairs of bf16 in 512-bit registers.
pub(super) struct Avx512Bf16;

const MR: usize = 6;
/// Registers of 16 sums to a tile's row.
const VECTORS: usize = 4;

// SAFETY: `tile` stores 6 rows of 4 × 16 sums; a step reads one pair of each of 6 rows, and 256 bytes of B.
unsafe impl Kernel for Avx512Bf16 {
    type A = u32;
    type B = bf16;
    const MR: usize = MR;
    const NR: usize = 16 * VECTORS;
    const K_STEP: usize = 2;
    const K_BLOCK: usize = 512;
    const WIDENS: bool = false;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut u32) -> Left<u32> {
        match a {
            // SAFETY: handed on.
            Source::F32(a) => unsafe { pack_a(a, part, to) },
            // SAFETY: handed on.
            Source::Bf16(a) => as_it_lies(a, part).unwrap_or_else(|| unsafe { pack_a(a, part, to) }),
        }
    }

    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16) {
        let layout = pairs::Layout { groups: 2, step: 16 * 256, group: 128, half: 64, row: 256, row_multiple: 1 };
        // SAFETY: handed on; a row of pairs is the 256 bytes that NR · K_STEP elements take.
        unsafe { with_elements!(b, b => pairs::pack_b(b, part, to.cast(), layout)) }
    }

    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
        // SAFETY: handed on; every processor with AVX512-BF16 has AVX-512 VL.
        unsafe { avx512::narrow(sums, len, to, adds) }
    }

    unsafe fn ready_b(panel: *const bf16, _: usize, _: *mut f32) -> *const bf16 {
        panel
    }

    unsafe fn tile(tile: &Tile<u32, bf16>) {
        // SAFETY: handed on.
        unsafe { sum_tile(tile) }
    }
}

sum_tile! {
    "avx512f,avx512bf16", Tile<u32, bf16>, [16 lanes, 2 indices, 32 elements of B to a register],
    sums: _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    b: _mm512_setzero_si512, |from| _mm512_loadu_si512(from.cast()),
    a: |from| _mm512_set1_epi32(from.cast::<i32>().read_unaligned()),
    sum: |sum, a, b| _mm512_dpbf16_ps(sum, as_bf16(a), as_bf16(b))
}

/// The same bits as 32 bf16.
#[inline(always)]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which any bits are valid.
    unsafe { std::mem::transmute(bits) }
}

/// Rows of whole pairs that need no packing: whole tiles of rows, whole pairs of indices, and rows an even number of elements apart.
fn as_it_lies(a: &Matrix<bf16>, part: &Part) -> Option<Left<u32>> {
    let whole = part.outer.len().is_multiple_of(MR) && part.inner.len().is_multiple_of(2) && a.stride.is_multiple_of(2);
    (whole && !a.is_transposed).then(|| {
        let from = a.data.as_ptr().wrapping_add(part.outer.start * a.stride + part.inner.start).cast();
        Left { from, panel: MR * a.stride / 2, row: a.stride / 2, step: 1 }
    })
}

/// Packs rows of pairs where rows are stored; where the summation index is, interleaves the whole block.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_a<P: Packed>(a: &Matrix<P>, part: &Part, to: *mut u32) -> Left<u32> {
    let (rows, k) = (part.outer.len(), part.inner.len());
    let (padded, pairs) = (rows.next_multiple_of(MR), k.div_ceil(2));
    let first = |line: usize, number: usize| a.data.as_ptr().wrapping_add(line * a.stride + number);
    if !a.is_transposed {
        for row in 0..padded {
            for number in (0..k).step_by(32) {
                let from = first(part.outer.start + row, part.inner.start + number);
                let length = if row < rows { (k - number).min(32) } else { 0 };
                // SAFETY: only the row's existing elements are loaded, and only whole pairs of this row stored.
                unsafe {
                    let elements = P::load(from, lowest(length));
                    let stored = lowest(pairs - number / 2) as u16;
                    _mm512_mask_storeu_epi32(to.add(row * pairs + number / 2).cast(), stored, elements);
                }
            }
        }
        return Left { from: to, panel: MR * pairs, row: pairs, step: 1 };
    }
    for pair in 0..pairs {
        for column in (0..padded).step_by(32) {
            let length = rows.saturating_sub(column).min(32);
            let from = first(part.inner.start + 2 * pair, part.outer.start + column);
            let square = Square { from, stride: a.stride, lines: (k - 2 * pair).min(2), length };
            // SAFETY: the square holds what exists; only this row's pairs are stored.
            unsafe {
                let (low, high) = pairs::interleave(square.line(0), square.line(1));
                let target = to.add(pair * padded + column).cast::<i32>();
                let stored = lowest(padded - column);
                _mm512_mask_storeu_epi32(target, stored as u16, low);
                _mm512_mask_storeu_epi32(target.wrapping_add(16), (stored >> 16) as u16, high);
            }
        }
    }
    Left { from: to, panel: MR, row: 1, step: padded }
}
