//! Products of f32 by AMX-BF16: each number as the sum of three bf16, which hold all 24 bits of its significand.
//!
//! With `a = a0 + a1 + a2` (each part what rounding the rest to 8 bits gives, so that `|a1| ≤ 2^-8 |a|`, `|a2| ≤ 2^-16 |a|`,
//! and nothing is left), the six products a0·b0, a0·b1, a1·b0, a1·b1, a0·b2 and a2·b0 give a·b to within `2^-23 |a·b|` and
//! a little at worst, and some `2^-27 |a·b|` as a rule, where one rounding to f32 may cost `2^-24 |a·b|`.
//!
//! Beyond what [`super::amx`] says of its arithmetic: parts below 2^-126 are read as zero, so elements below about 2^-100
//! carry fewer bits; a number that rounds to infinity as bf16, above 3.39e38, gives NaN.

use std::arch::asm;

use half::bf16;

use super::amx::{Amx, sum_tile};
use super::kernel::{Kernel, Left, Part, Tile};
use super::operands::Source;
use super::parts;
use crate::matrix::Matrix;

/// Kernels by AMX tiles for operands in f32.
pub(super) struct AmxParts;

/// An operand that isn't rounded.
fn in_full<'a>(source: &'a Source<'a>) -> &'a Matrix<'a, f32> {
    match source {
        Source::F32(matrix) => matrix,
        Source::Bf16(_) => unreachable!("products by parts are of f32"),
    }
}

// SAFETY: `tile` stores 2 × 2 tiles of 16 × 16 sums, so MR rows of NR, and loads 6 KiB a step from each panel: NR or MR times
// K_STEP elements in three parts.
unsafe impl Kernel for AmxParts {
    type A = [bf16; 3];
    type B = bf16;
    const PARTS: usize = 3;
    const MR: usize = 32;
    const NR: usize = 32;
    const K_STEP: usize = 32;
    const K_BLOCK: usize = 256;
    const WIDENS: bool = false;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut [bf16; 3]) -> Left<[bf16; 3]> {
        // SAFETY: handed on; the path's features include those of the packers.
        unsafe { parts::pack_a(in_full(a), part, to.cast()) };
        let step = Self::MR * Self::K_STEP;
        Left { from: to, panel: step * part.inner.len().div_ceil(Self::K_STEP), row: Self::K_STEP, step }
    }

    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
        // SAFETY: handed on.
        unsafe { Amx::narrow(sums, len, to, adds) }
    }

    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16) {
        // SAFETY: handed on; a step's six tiles are the 6 KiB that NR · K_STEP elements take in three parts.
        unsafe { parts::pack_b(in_full(b), part, to.cast()) };
    }

    unsafe fn ready_b(panel: *const bf16, _: usize, _: *mut f32) -> *const bf16 {
        panel
    }

    #[inline]
    unsafe fn tile(tile: &Tile<[bf16; 3], bf16>) {
        debug_assert!(tile.k.is_multiple_of(Self::K_STEP), "whole steps");
        // SAFETY: the tiles are configured since `begin`; the loop reads k / 32 times 6 KiB of A and of B, and the sums' rows
        // are 2 × 64 bytes each, 32 of them `stride` bytes apart. No flag, stack or register but those named changes; tile
        // registers hold nothing of the compiler's. The order is such that each pair of parts shares one with the next.
        unsafe {
            sum_tile!(
                tile,
                [
                    "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm6, [{b} + {row} + 4096]",
                    "tileloadd tmm7, [{b} + {row} + 5120]", "tileloadd tmm5, [{a} + {row} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [{b} + {row} + 2048]", "tileloadd tmm7, [{b} + {row} + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [{a} + {row} + 2048]", "tileloadd tmm5, [{a} + {row} + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [{b} + {row}]", "tileloadd tmm7, [{b} + {row} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [{a} + {row} + 4096]", "tileloadd tmm5, [{a} + {row} + 5120]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm5, [{a} + {row} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 6144",
                    "add {b}, 6144",
                ],
                a = inout(reg) tile.a.from => _,
                b = inout(reg) tile.b => _,
                row = in(reg) 64usize,
            );
        }
    }

    #[inline]
    unsafe fn begin() {
        // SAFETY: handed on.
        unsafe { Amx::begin() };
    }

    #[inline]
    unsafe fn end() {
        // SAFETY: handed on.
        unsafe { Amx::end() };
    }
}
