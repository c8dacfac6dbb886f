//! Packing by AVX-512 for the paths whose instructions take bf16 in pairs of neighbouring summation indices.
//!
//! A matrix stored along the other index is interleaved: rows k and k + 1 become one row of pairs. Where 16 rows by 16
//! pairs lie the wrong way round, they are transposed in registers as 32-bit elements.

use std::arch::x86_64::*;

use half::bf16;

use super::avx512::lowest;
use super::kernel::Part;
use crate::matrix::Matrix;

/// What operands are kept in.
pub(super) trait Packed: Copy {
    /// Loads the 32 elements that `mask` names, rounded to bf16, with zeros elsewhere.
    ///
    /// # Safety
    /// AVX-512F, BW and BF16 are there; the masked elements are readable.
    unsafe fn load(from: *const Self, mask: u32) -> __m512i;
}

impl Packed for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn load(from: *const f32, mask: u32) -> __m512i {
        // SAFETY: masked-out elements aren't touched; the second half is only reached where its mask says so.
        let (low, high) = unsafe {
            let high = from.wrapping_add(16);
            (_mm512_maskz_loadu_ps(mask as u16, from), _mm512_maskz_loadu_ps((mask >> 16) as u16, high))
        };
        round32(low, high)
    }
}

impl Packed for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn load(from: *const bf16, mask: u32) -> __m512i {
        // SAFETY: masked-out elements aren't touched.
        unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) }
    }
}

/// Rounds 32 elements to bf16, to nearest with ties to even; denormals become zero, as the products would read them.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round32(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 64 bytes of which any bits are valid.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Interleaves 32 elements of two rows: the pairs of columns 0 to 15, then those of columns 16 to 31.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn interleave(even: __m512i, odd: __m512i) -> (__m512i, __m512i) {
    // Unpacking works within 128-bit lanes: first give lane i the quarters i and i + 4 of the row.
    let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    let (even, odd) = (_mm512_permutexvar_epi64(order, even), _mm512_permutexvar_epi64(order, odd));
    (_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd))
}

/// Transposes 16 × 16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // quads[4 i + j], lane l: column 4 l + j of rows 4 i to 4 i + 3.
    let mut quads = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        for j in 0..2 {
            quads[4 * i + 2 * j] = _mm512_unpacklo_epi64(pairs[4 * i + j], pairs[4 * i + 2 + j]);
            quads[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[4 * i + j], pairs[4 * i + 2 + j]);
        }
    }
    let mut columns = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(quads[j], quads[4 + j]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(quads[j], quads[4 + j]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(quads[8 + j], quads[12 + j]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(quads[8 + j], quads[12 + j]);
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    columns
}

/// A block stored along the summation index: `lines` rows of at most 32 elements `stride` apart, zeros beyond.
#[derive(Clone, Copy)]
pub(super) struct Square<P> {
    pub from: *const P,
    pub stride: usize,
    /// Stored rows that exist, at most 32.
    pub lines: usize,
    /// Elements in a stored row that exist, at most 32.
    pub length: usize,
}

impl<P: Packed> Square<P> {
    /// Stored row `line`, or zeros when there is none.
    ///
    /// # Safety
    /// AVX-512F, BW and BF16 are there; the elements that exist are readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn line(&self, line: usize) -> __m512i {
        match line < self.lines {
            // SAFETY: the row exists, and only its existing elements are loaded.
            true => unsafe { P::load(self.from.add(line * self.stride), lowest(self.length)) },
            false => _mm512_setzero_si512(),
        }
    }

    /// With stored rows as summation indices: 16 rows of pairs, of columns 0 to 15 and of columns 16 to 31.
    ///
    /// # Safety
    /// As for [`Square::line`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn pairs(&self) -> [[__m512i; 16]; 2] {
        let (mut low, mut high) = ([_mm512_setzero_si512(); 16], [_mm512_setzero_si512(); 16]);
        for (pair, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
            // SAFETY: as the caller promises.
            (*low, *high) = unsafe { interleave(self.line(2 * pair), self.line(2 * pair + 1)) };
        }
        [low, high]
    }

    /// With stored rows as columns: 16 rows of pairs, of stored rows 0 to 15 and of stored rows 16 to 31.
    ///
    /// # Safety
    /// As for [`Square::line`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn transposed_pairs(&self) -> [[__m512i; 16]; 2] {
        let mut halves = [[_mm512_setzero_si512(); 16]; 2];
        for line in 0..32 {
            // SAFETY: as the caller promises.
            halves[line / 16][line % 16] = unsafe { self.line(line) };
        }
        [transpose(&halves[0]), transpose(&halves[1])]
    }
}

/// Stores 16 rows of 64 bytes, `stride` bytes apart.
///
/// # Safety
/// AVX-512F, BW and BF16 are there; the rows are writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn store(rows: &[__m512i; 16], to: *mut u8, stride: usize) {
    for (i, row) in rows.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe { _mm512_storeu_si512(to.add(i * stride).cast(), *row) };
    }
}

/// Packs a panel of B of `32 · GROUPS` columns as rows of pairs. `offset` gives where row of pairs 0 of columns
/// `32 · group + 16 · half` of step `step` (32 indices) goes, in bytes, and `row` the bytes between rows of pairs.
///
/// # Safety
/// AVX-512F, BW and BF16 are there; the part lies within `b`; the addresses that `layout` gives lie in the panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_b<P: Packed>(b: &Matrix<P>, part: &Part, to: *mut u8, layout: Layout) {
    let (columns, k) = (part.outer.len(), part.inner.len());
    for step in 0..k.div_ceil(32) {
        let indices = (k - 32 * step).min(32);
        for group in 0..layout.groups {
            let width = columns.saturating_sub(32 * group).min(32);
            let (first_index, first_column) = (part.inner.start + 32 * step, part.outer.start + 32 * group);
            let (line, number) =
                if b.is_transposed { (first_column, first_index) } else { (first_index, first_column) };
            let (lines, length) = if b.is_transposed { (width, indices) } else { (indices, width) };
            let square = Square {
                from: b.data.as_ptr().wrapping_add(line * b.stride + number),
                stride: b.stride,
                lines,
                length,
            };
            let rows = indices.div_ceil(2).next_multiple_of(layout.row_multiple);
            // SAFETY: the square holds what exists of the part; the layout's addresses lie in the panel.
            unsafe {
                let halves = if b.is_transposed { square.transposed_pairs() } else { square.pairs() };
                for (half, pairs) in halves.iter().enumerate() {
                    let start = to.add(step * layout.step + group * layout.group + half * layout.half);
                    for (row, pairs) in pairs.iter().enumerate().take(rows) {
                        _mm512_storeu_si512(start.add(row * layout.row).cast(), *pairs);
                    }
                }
            }
        }
    }
}

/// Where [`pack_b`] puts rows of pairs, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Groups of 32 columns in a panel.
    pub groups: usize,
    /// From one step of 32 indices to the next.
    pub step: usize,
    /// From one group of 32 columns to the next.
    pub group: usize,
    /// From a group's first 16 columns to its last 16.
    pub half: usize,
    /// From one row of pairs to the next.
    pub row: usize,
    /// Rows of pairs are stored in multiples of this, those beyond the matrix as zeros.
    pub row_multiple: usize,
}
