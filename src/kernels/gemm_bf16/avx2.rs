//! AVX2 with FMA: tiles of 6 × 16 sums by fused multiply-adds on bf16 widened to f32.

use std::arch::x86_64::*;

use half::bf16;

use super::kernel::{Kernel, Left, Part, Tile, sum_tile};
use super::operands::{Source, with_elements};
use super::portable;

/// Kernels by 8 lanes of f32.
pub(super) struct Avx2;

const MR: usize = 6;
/// Registers of 8 sums to a tile's row.
const VECTORS: usize = 2;

// SAFETY: `tile` stores 6 rows of 2 × 8 sums; a step reads one number of each of 6 rows, and 16 of B.
unsafe impl Kernel for Avx2 {
    type A = f32;
    type B = f32;
    const MR: usize = MR;
    const NR: usize = 8 * VECTORS;
    const K_STEP: usize = 1;
    const K_BLOCK: usize = 256;
    const WIDENS: bool = true;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut f32) -> Left<f32> {
        // SAFETY: handed on.
        unsafe { with_elements!(a, a => portable::pack_a(a, part, MR, to)) }
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
    "avx2,fma", Tile<f32, f32>, [8 lanes, 1 indices, 8 elements of B to a register],
    sums: _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    b: _mm256_setzero_ps, |from| _mm256_loadu_ps(from),
    a: |from| _mm256_set1_ps(*from),
    sum: |sum, a, b| _mm256_fmadd_ps(a, b, sum)
}

/// [`portable::narrow`], compiled for AVX2.
///
/// # Safety
/// AVX2 is there; both pointers reach `len` elements, without overlap.
#[target_feature(enable = "avx2")]
unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
    // SAFETY: handed on.
    unsafe { portable::narrow(sums, len, to, adds) }
}

/// [`portable::widen`], compiled for AVX2.
///
/// # Safety
/// AVX2 is there; both pointers reach `len` elements, without overlap.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen(from: *const bf16, len: usize, to: *mut f32) {
    // SAFETY: handed on.
    unsafe { portable::widen(from, len, to) }
}
