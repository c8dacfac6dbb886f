//! AVX-512F: tiles of 12 × 32 sums by fused multiply-adds on bf16 widened to f32.

use std::arch::x86_64::*;

use half::bf16;

use super::kernel::{Kernel, Part, Strides, Sums, Tile};
use super::matrix::Matrix;
use super::{pairs, portable};

/// Kernels by 16 lanes of f32.
pub(super) struct Avx512;

const MR: usize = 12;
/// Registers of 16 sums to a tile's row.
const VECTORS: usize = 2;

// SAFETY: `tile` stores 12 rows of 2 × 16 sums; a step reads one number of each of 12 rows, and 32 of B.
unsafe impl Kernel for Avx512 {
    type A = f32;
    type B = f32;
    const MR: usize = MR;
    const NR: usize = 16 * VECTORS;
    const K_STEP: usize = 1;
    const K_BLOCK: usize = 256;

    unsafe fn pack_a(a: &Matrix, part: &Part, to: *mut f32) -> Strides {
        // SAFETY: handed on.
        unsafe { portable::pack_a(a, part, MR, to) }
    }

    unsafe fn pack_b(b: &Matrix, part: &Part, to: *mut bf16) {
        // SAFETY: handed on.
        unsafe { portable::pack_b(b, part, Self::NR, to) }
    }

    fn widened(k: usize) -> usize {
        k * Self::NR
    }

    unsafe fn ready_b(panel: *const bf16, k: usize, room: *mut f32) -> *const f32 {
        // SAFETY: both hold NR · k numbers.
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

#[target_feature(enable = "avx512f")]
unsafe fn sum_tile(tile: &Tile<f32, f32>) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; MR];
    // SAFETY: 12 rows of 32 sums are readable and writable at c, k numbers of each row at a, k rows of 32 at b.
    unsafe {
        if tile.continues {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(tile.c.add(r * tile.c_stride + 16 * v));
                }
            }
        }
        let (mut a, mut b) = (tile.a, tile.b);
        for _ in 0..tile.k {
            let mut row = [_mm512_setzero_ps(); VECTORS];
            for (v, numbers) in row.iter_mut().enumerate() {
                *numbers = _mm512_loadu_ps(b.add(16 * v));
            }
            for (r, row_sums) in sums.iter_mut().enumerate() {
                let number = _mm512_set1_ps(*a.add(r * tile.strides.row));
                for (sum, b) in row_sums.iter_mut().zip(row) {
                    *sum = _mm512_fmadd_ps(number, b, *sum);
                }
            }
            a = a.add(tile.strides.step);
            b = b.add(16 * VECTORS);
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                _mm512_storeu_ps(tile.c.add(r * tile.c_stride + 16 * v), *sum);
            }
        }
    }
}

/// Widens `len` numbers.
///
/// # Safety
/// AVX-512F and BW are there; both pointers reach `len` numbers.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn widen(from: *const bf16, len: usize, to: *mut f32) {
    for start in (0..len).step_by(32) {
        let mask = pairs::mask(len - start);
        // SAFETY: only the numbers below `len` are touched.
        unsafe {
            let numbers = _mm512_maskz_loadu_epi16(mask, from.add(start).cast());
            let high = _mm512_extracti64x4_epi64::<1>(numbers);
            for (half, numbers) in [_mm512_castsi512_si256(numbers), high].into_iter().enumerate() {
                let bits = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(numbers));
                let target = to.wrapping_add(start + 16 * half);
                _mm512_mask_storeu_epi32(target.cast(), (mask >> (16 * half)) as u16, bits);
            }
        }
    }
}

/// Rounds a rectangle of sums to bf16.
///
/// # Safety
/// AVX-512F and BW are there; both pointers reach as far as the sizes say.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn narrow(sums: &Sums, to: *mut bf16, to_stride: usize) {
    for row in 0..sums.rows {
        for start in (0..sums.columns).step_by(32) {
            let mask = pairs::mask(sums.columns - start);
            // SAFETY: only the columns that exist are touched.
            unsafe {
                let numbers = <f32 as pairs::Load>::load(sums.from.add(row * sums.stride + start), mask);
                _mm512_mask_storeu_epi16(to.add(row * to_stride + start).cast(), mask, numbers);
            }
        }
    }
}
