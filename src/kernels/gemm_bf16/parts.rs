//! Packing of f32 as three bf16 each, by AVX-512, 16 × 16 elements at a time.
//!
//! A step of 32 summation indices takes three parts one after the other, each as two tiles of 1 KiB: of A, 16 rows by 32
//! indices; of B, 16 pairs of indices by 16 columns.

use std::arch::x86_64::*;

use super::amx::TILE;
use super::avx512::lowest;
use super::kernel::Part;
use super::pairs::transpose;
use crate::matrix::Matrix;

/// Bytes of a step of 32 indices.
const STEP: usize = 6 * TILE;

/// Sixteen elements in their parts, each an f32 whose upper half is the bf16; the last one's lower half is of no account.
type Parts = [__m512i; 3];

/// Rounds to bf16 as often as there are parts, ties away from 0, and takes the remainder, which is exact, to the next.
///
/// Infinities and NaNs stay such in the first part (save NaNs whose 16 highest bits of payload are all ones, which no
/// arithmetic makes).
#[inline]
#[target_feature(enable = "avx512f")]
fn split(elements: __m512) -> Parts {
    let half = _mm512_set1_epi32(0x8000);
    let upper = _mm512_set1_epi32(!0xffff);
    let first = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(elements), half), upper);
    let rest = _mm512_sub_ps(elements, _mm512_castsi512_ps(first));
    let second = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(rest), half), upper);
    let rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(second));
    [first, second, _mm512_add_epi32(_mm512_castps_si512(rest), half)]
}

/// Sixteen stored rows of at most 16 elements.
#[derive(Clone, Copy)]
struct Square {
    from: *const f32,
    stride: usize,
    /// Stored rows that exist, at most 16.
    lines: usize,
    /// Which elements of a stored row exist.
    mask: u16,
}

impl Square {
    /// The 16 × 16 elements of a matrix from (row, column) on, in stored order; none from the part's ends on.
    fn of(matrix: &Matrix<f32>, (row, column): (usize, usize), (row_end, column_end): (usize, usize)) -> Self {
        let (rows, columns) = (row_end.saturating_sub(row).min(16), column_end.saturating_sub(column).min(16));
        let (line, number, lines, length) =
            if matrix.is_transposed { (column, row, columns, rows) } else { (row, column, rows, columns) };
        let from = matrix.data.as_ptr().wrapping_add(line * matrix.stride + number);
        Self { from, stride: matrix.stride, lines, mask: lowest(length) as u16 }
    }

    /// Stored row `line`, zeros where there is none.
    ///
    /// # Safety
    /// AVX-512F is there; what exists is readable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn line(&self, line: usize) -> __m512 {
        let mask = if line < self.lines { self.mask } else { 0 };
        // SAFETY: masked-out elements aren't touched.
        unsafe { _mm512_maskz_loadu_ps(mask, self.from.wrapping_add(line * self.stride)) }
    }

    /// The rows of the matrix: the stored ones, or their columns.
    ///
    /// # Safety
    /// As for [`Square::line`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn rows(&self, is_transposed: bool) -> [__m512i; 16] {
        let mut rows = [_mm512_setzero_si512(); 16];
        for (line, row) in rows.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            *row = _mm512_castps_si512(unsafe { self.line(line) });
        }
        if is_transposed { transpose(&rows) } else { rows }
    }
}

/// Packs panels of 32 rows, step by step.
///
/// # Safety
/// AVX-512F and BW are there; the part lies within `a`; `to` has room for its rows rounded up to 32
/// times its indices rounded up to 32, of 6 bytes each.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_a(a: &Matrix<f32>, part: &Part, to: *mut u8) {
    let (panels, steps) = (part.outer.len().div_ceil(32), part.inner.len().div_ceil(32));
    let ends = (part.outer.end, part.inner.end);
    // The stored rows from end to end, as memory likes it.
    for i in 0..2 * panels * steps {
        let (i, half) = (i / 2, i % 2);
        let (panel, step) = if a.is_transposed { (i % panels, i / panels) } else { (i / steps, i % steps) };
        let (row, index) = (part.outer.start + 32 * panel + 16 * half, part.inner.start + 32 * step);
        let low = Square::of(a, (row, index), ends);
        let high = Square::of(a, (row, index + 16), ends);
        // SAFETY: the squares hold what exists of the part; each row of a part's tile takes 64 bytes of the room.
        unsafe {
            let target = to.add((panel * steps + step) * STEP + half * TILE);
            if a.is_transposed {
                let (low, high) = (low.rows(true), high.rows(true));
                for row in 0..16 {
                    let (low, high) = (_mm512_castsi512_ps(low[row]), _mm512_castsi512_ps(high[row]));
                    store_row(low, high, target.add(row * 64));
                }
            } else {
                for row in 0..16 {
                    store_row(low.line(row), high.line(row), target.add(row * 64));
                }
            }
        }
    }
}

/// Stores 32 elements of a row in their parts, two tiles apart.
///
/// # Safety
/// AVX-512F and BW are there; 64 bytes at each of the three places are writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store_row(low: __m512, high: __m512, to: *mut u8) {
    // Odd 16-bit halves of two vectors, one after the other: the upper halves of 32 elements.
    let order = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9,
        7, 5, 3, 1,
    );
    let (low, high) = (split(low), split(high));
    for part in 0..3 {
        let elements = _mm512_permutex2var_epi16(low[part], order, high[part]);
        // SAFETY: as the caller promises.
        unsafe { _mm512_storeu_si512(to.add(part * 2 * TILE).cast(), elements) };
    }
}

/// Packs a panel of at most 32 columns, step by step.
///
/// # Safety
/// AVX-512F and BW are there; the part lies within `b`; `to` has room for 32 times its indices
/// rounded up to 32, of 6 bytes each.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_b(b: &Matrix<f32>, part: &Part, to: *mut u8) {
    for index in (0..part.inner.len().next_multiple_of(32)).step_by(16) {
        for half in 0..2 {
            let place = (part.inner.start + index, part.outer.start + 16 * half);
            let square = Square::of(b, place, (part.inner.end, part.outer.end));
            // SAFETY: the square holds what exists of the part; each row of pairs of a part's tile takes 64 bytes of the room.
            unsafe {
                let target = to.add(index / 32 * STEP + half * TILE + index % 32 / 2 * 64);
                let rows = square.rows(b.is_transposed);
                for pair in 0..8 {
                    let (even, odd) = (_mm512_castsi512_ps(rows[2 * pair]), _mm512_castsi512_ps(rows[2 * pair + 1]));
                    store_pairs(even, odd, target.add(pair * 64));
                }
            }
        }
    }
}

/// Stores pairs of elements of two rows in their parts, two tiles apart.
///
/// # Safety
/// AVX-512F and BW are there; 64 bytes at each of the three places are writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store_pairs(even: __m512, odd: __m512, to: *mut u8) {
    let (even, odd) = (split(even), split(odd));
    for part in 0..3 {
        let pairs = _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(even[part]), odd[part]);
        // SAFETY: as the caller promises.
        unsafe { _mm512_storeu_si512(to.add(part * 2 * TILE).cast(), pairs) };
    }
}
