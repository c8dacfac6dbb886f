//! AVX2 with FMA: tiles of 6 × 16 sums by fused multiply-adds on bf16 widened to f32.

use std::arch::x86_64::*;

use half::bf16;

use super::kernel::{Kernel, Left, Part, Sums, Tile};
use super::matrix::Matrix;
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

    unsafe fn pack_a(a: &Matrix, part: &Part, to: *mut f32) -> Left<f32> {
        // SAFETY: handed on.
        unsafe { portable::pack_a(a, part, MR, to) }
    }

    unsafe fn pack_b(b: &Matrix, part: &Part, to: *mut bf16) {
        // SAFETY: handed on.
        unsafe { portable::pack_b(b, part, Self::NR, to) }
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

    unsafe fn narrow(sums: &Sums, to: *mut bf16, to_stride: usize) {
        // SAFETY: handed on.
        unsafe { narrow(sums, to, to_stride) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn sum_tile(tile: &Tile<f32, f32>) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; MR];
    // SAFETY: 6 rows of 16 sums are readable and writable at c, k elements of each row at a, k rows of 16 at b.
    unsafe {
        if tile.continues {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(tile.c.add(r * tile.c_stride + 8 * v));
                }
            }
        }
        let (mut a, mut b) = (tile.a.from, tile.b);
        for _ in 0..tile.k {
            let mut row = [_mm256_setzero_ps(); VECTORS];
            for (v, elements) in row.iter_mut().enumerate() {
                *elements = _mm256_loadu_ps(b.add(8 * v));
            }
            for (r, row_sums) in sums.iter_mut().enumerate() {
                let number = _mm256_set1_ps(*a.add(r * tile.a.row));
                for (sum, b) in row_sums.iter_mut().zip(row) {
                    *sum = _mm256_fmadd_ps(number, b, *sum);
                }
            }
            a = a.add(tile.a.step);
            b = b.add(8 * VECTORS);
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                _mm256_storeu_ps(tile.c.add(r * tile.c_stride + 8 * v), *sum);
            }
        }
    }
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

/// [`portable::narrow`], compiled for AVX2.
///
/// # Safety
/// AVX2 is there; both pointers reach as far as the sizes say, without overlap.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn narrow(sums: &Sums, to: *mut bf16, to_stride: usize) {
    // SAFETY: handed on.
    unsafe { portable::narrow(sums, to, to_stride) }
}
