//! AVX-512F: tiles of 14 × 32 sums by fused multiply-adds on bf16 widened to f32.

use std::arch::x86_64::*;

use half::bf16;

use super::interleave;
use super::kernel::{Kernel, Left, Part, Tile, sum_tile};
use super::operands::{Source, with_elements};
use super::portable;

/// Kernels by 16 lanes of f32.
pub(super) struct Avx512;

/// Rows of a tile.
pub(super) const MR: usize = 14;
/// Registers of 16 sums to a tile's row.
const VECTORS: usize = 2;

// SAFETY: `tile` stores 14 rows of 2 × 16 sums; a step reads one number of each of 14 rows, and 32 of B.
unsafe impl Kernel for Avx512 {
    type A = f32;
    type B = f32;
    const MR: usize = MR;
    const NR: usize = 16 * VECTORS;
    const K_STEP: usize = 1;
    const K_BLOCK: usize = 256;
    const WIDENS: bool = true;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut f32) -> Left<f32> {
        // SAFETY: handed on.
        unsafe { with_elements!(a, a => interleave::pack_a(a, part, to)) }
    }

    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16) {
        // SAFETY: handed on.
        unsafe { with_elements!(b, b => portable::pack_b(b, part, Self::NR, to)) }
    }

    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
        // SAFETY: handed on.
        unsafe { narrow(sums, len, to, adds) }
    }

    unsafe fn ready_b(panel: *const bf16, k: usize, room: *mut f32) -> *const f32 {
        // SAFETY: both hold NR · k elements.
        unsafe { widen(panel, k * Self::NR, room) };
        room
    }

    unsafe fn tile(tile: &Tile<f32, f32>) {
        // SAFETY: handed on.
        unsafe { sum_tile(tile) }
    }
}

sum_tile! {
    "avx512f", Tile<f32, f32>, [16 lanes, 1 indices, 16 elements of B to a register],
    sums: _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    b: _mm512_setzero_ps, |from| _mm512_loadu_ps(from),
    a: |from| _mm512_set1_ps(*from),
    sum: |sum, a, b| _mm512_fmadd_ps(a, b, sum)
}

/// Widens `len` elements.
///
/// # Safety
/// AVX-512F and BW are there; both pointers reach `len` elements.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn widen(from: *const bf16, len: usize, to: *mut f32) {
    for start in (0..len).step_by(32) {
        let mask = lowest(len - start);
        // SAFETY: only the elements below `len` are touched.
        unsafe {
            let elements = _mm512_maskz_loadu_epi16(mask, from.add(start).cast());
            let high = _mm512_extracti64x4_epi64::<1>(elements);
            for (half, elements) in [_mm512_castsi512_si256(elements), high].into_iter().enumerate() {
                let bits = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(elements));
                let target = to.wrapping_add(start + 16 * half);
                _mm512_mask_storeu_epi32(target.cast(), (mask >> (16 * half)) as u16, bits);
            }
        }
    }
}

/// Rounds `len` sums to bf16, after adding what is there if `adds`.
///
/// # Safety
/// AVX-512F, BW and VL are there; both pointers reach `len` elements, without overlap.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
    for start in (0..len).step_by(16) {
        let mask = lowest(len - start) as u16;
        let to = to.wrapping_add(start).cast::<i16>();
        // SAFETY: only the elements below `len` are touched.
        unsafe {
            let mut elements = _mm512_maskz_loadu_ps(mask, sums.add(start));
            if adds {
                elements = _mm512_add_ps(elements, widened16(_mm256_maskz_loadu_epi16(mask, to)));
            }
            _mm256_mask_storeu_epi16(to, mask, round16(elements));
        }
    }
}

/// Sixteen bf16 in f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widened16(elements: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(elements)))
}

/// Rounds 16 elements to bf16, to nearest with ties to even; a NaN stays one, made quiet. Unlike `vcvtneps2bf16`, it
/// keeps elements below 2^-126.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn round16(elements: __m512) -> __m256i {
    let bits = _mm512_castps_si512(elements);
    let high = _mm512_srli_epi32::<16>(bits);
    let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(elements, elements);
    let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(is_nan, _mm512_srli_epi32::<16>(rounded), quiet))
}

/// The lowest `count` bits, at most 32.
#[inline(always)]
pub(super) fn lowest(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}
