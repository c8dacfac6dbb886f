//! Packing by AVX-512F for kernels with 16 lanes of f32.
//!
//! A is interleaved, the elements of a panel's rows side by side for every summation index, so that a tile reads it from
//! end to end; where it is stored by rows, 16 × 16 elements at a time are transposed in registers.

use std::arch::x86_64::*;

use half::bf16;

use super::avx512::{MR, lowest, round16, widened16};
use super::kernel::{Left, Part};
use super::pairs;
use crate::matrix::Matrix;

/// What operands are kept in.
pub(super) trait Interleaved: Copy {
    /// Loads the elements that `mask` names, rounded to bf16, with zeros elsewhere.
    ///
    /// # Safety
    /// AVX-512F, BW and VL are there; the masked elements are readable.
    unsafe fn load(from: *const Self, mask: u16) -> __m512;
}

impl Interleaved for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const f32, mask: u16) -> __m512 {
        // SAFETY: masked-out elements aren't touched.
        widened16(round16(unsafe { _mm512_maskz_loadu_ps(mask, from) }))
    }
}

impl Interleaved for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const bf16, mask: u16) -> __m512 {
        // SAFETY: masked-out elements aren't touched.
        widened16(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
    }
}

/// Packs a block of A in panels of [`MR`] rows.
///
/// # Safety
/// AVX-512F, BW and VL are there; else as for [`super::kernel::Kernel::pack_a`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack_a<E: Interleaved>(a: &Matrix<E>, part: &Part, to: *mut f32) -> Left<f32> {
    let (rows, k) = (part.outer.len(), part.inner.len());
    let panels = rows.div_ceil(MR);
    let at = |line: usize, number: usize| a.data.as_ptr().wrapping_add(line * a.stride + number);
    let whole = lowest(MR) as u16;
    let existing = |panel: usize| (rows - panel * MR).min(MR);
    // The stored rows from end to end, as memory likes it.
    for index in (0..k).filter(|_| a.is_transposed) {
        for panel in 0..panels {
            let from = at(part.inner.start + index, part.outer.start + panel * MR);
            // SAFETY: only existing rows are loaded; the panel has room for MR elements an index.
            unsafe {
                let elements = E::load(from, lowest(existing(panel)) as u16);
                _mm512_mask_storeu_ps(to.add((panel * k + index) * MR), whole, elements);
            }
        }
    }
    for panel in (0..panels).filter(|_| !a.is_transposed) {
        for index in (0..k).step_by(16) {
            let length = (k - index).min(16);
            let from = at(part.outer.start + panel * MR, part.inner.start + index);
            // SAFETY: only existing rows and indices are loaded; the panel has room for MR elements an index.
            unsafe {
                let columns = transposed(from, a.stride, existing(panel), length);
                for (i, elements) in columns.iter().enumerate().take(length) {
                    _mm512_mask_storeu_ps(to.add((panel * k + index + i) * MR), whole, _mm512_castsi512_ps(*elements));
                }
            }
        }
    }
    Left { from: to, panel: MR * k, row: 1, step: MR }
}

/// Sixteen stored rows of 16 elements, of which `lines` and `length` exist, transposed: zeros elsewhere.
///
/// # Safety
/// AVX-512F, BW and VL are there; the elements that exist are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn transposed<E: Interleaved>(from: *const E, stride: usize, lines: usize, length: usize) -> [__m512i; 16] {
    let mut rows = [_mm512_setzero_si512(); 16];
    for (line, row) in rows.iter_mut().enumerate().take(lines) {
        // SAFETY: the line exists, and only its existing elements are loaded.
        *row = _mm512_castps_si512(unsafe { E::load(from.add(line * stride), lowest(length) as u16) });
    }
    pairs::transpose(&rows)
}
