//! AMX-BF16: 2 × 2 tiles of 16 × 16 sums, by `tdpbf16ps` on tiles of 16 rows × 32 bf16.
//!
//! The intrinsics aren't stable, hence inline assembly; the tile registers are named in its text, and the compiler uses
//! none of its own. Both operands are packed so that a step of 32 summation indices is 2 KiB in one piece: two tiles of A
//! (16 rows × 32 indices each) or two of B (16 pairs of indices × 16 columns each).
//!
//! Arithmetic (Intel SDM, TDPBF16PS): per element and instruction two chains of 16 fused multiply-adds over even and odd
//! indices, their sum, and one addition to the accumulator, each rounded to nearest even; denormals are read as zero and
//! flushed to zero, whatever MXCSR says.

use std::arch::asm;
use std::arch::x86_64::_mm512_storeu_si512;

use half::bf16;

use super::avx512;
use super::kernel::{Kernel, Left, Part, Tile};
use super::operands::{Source, with_elements};
use super::pairs::{self, Packed, Square};
use crate::matrix::Matrix;

/// Kernels by AMX tiles.
pub(super) struct Amx;

/// Bytes of one tile, 16 rows of 64.
pub(super) const TILE: usize = 1024;

/// Palette 1: all eight tiles 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = Configuration({
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    bytes
});

/// Sums 2 × 2 tiles: `$step` takes 32 summation indices from A and B, whose registers `$operand` name.
macro_rules! sum_tile {
    ($tile:expr, [$($step:literal),* $(,)?], $($operand:tt)*) => {{
        let stride = $tile.c_stride * 4;
        let lower = $tile.c.wrapping_byte_add(16 * stride);
        asm!(
            "test {continues:e}, {continues:e}",
            "jnz 3f",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "jmp 4f",
            "3:",
            "tileloadd tmm0, [{upper} + {stride}]", "tileloadd tmm1, [{upper} + {stride} + 64]",
            "tileloadd tmm2, [{lower} + {stride}]", "tileloadd tmm3, [{lower} + {stride} + 64]",
            "4:",
            "test {steps}, {steps}",
            "jz 5f",
            ".p2align 5",
            "2:",
            $($step,)*
            "dec {steps}",
            "jnz 2b",
            "5:",
            "tilestored [{upper} + {stride}], tmm0", "tilestored [{upper} + {stride} + 64], tmm1",
            "tilestored [{lower} + {stride}], tmm2", "tilestored [{lower} + {stride} + 64], tmm3",
            $($operand)*
            steps = inout(reg) $tile.k / 32 => _,
            upper = in(reg) $tile.c,
            lower = in(reg) lower,
            stride = in(reg) stride,
            continues = in(reg) u32::from($tile.continues),
            options(nostack),
        );
    }};
}
pub(super) use sum_tile;

// SAFETY: `tile` stores 2 × 2 tiles of 16 × 16 sums, so MR rows of NR, and loads 2 KiB a step from each panel.
unsafe impl Kernel for Amx {
    type A = bf16;
    type B = bf16;
    const MR: usize = 32;
    const NR: usize = 32;
    const K_STEP: usize = 32;
    const K_BLOCK: usize = 512;
    const WIDENS: bool = false;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut bf16) -> Left<bf16> {
        // SAFETY: handed on; the path's features include those of the packers.
        unsafe { with_elements!(a, a => pack_a(a, part, to.cast())) };
        let step = Self::MR * Self::K_STEP;
        Left { from: to, panel: step * part.inner.len().div_ceil(Self::K_STEP), row: Self::K_STEP, step }
    }

    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
        // SAFETY: handed on; every processor with AMX has AVX-512 VL.
        unsafe { avx512::narrow(sums, len, to, adds) }
    }

    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16) {
        let layout = pairs::Layout { groups: 1, step: 2 * TILE, group: 0, half: TILE, row: 64, row_multiple: 16 };
        // SAFETY: handed on; a step's two tiles are the 2 KiB that NR · K_STEP elements take.
        unsafe { with_elements!(b, b => pairs::pack_b(b, part, to.cast(), layout)) }
    }

    unsafe fn ready_b(panel: *const bf16, _: usize, _: *mut f32) -> *const bf16 {
        panel
    }

    #[inline]
    unsafe fn tile(tile: &Tile<bf16, bf16>) {
        debug_assert!(tile.k.is_multiple_of(Self::K_STEP), "whole steps");
        // SAFETY: the tiles are configured since `begin`; the loop reads k / 32 times 2 × 16 rows of 64 bytes of A and 2 KiB
        // of B, and the sums' rows are 2 × 64 bytes each, 32 of them `stride` bytes apart. No flag, stack or register but
        // those named changes; tile registers hold nothing of the compiler's.
        unsafe {
            sum_tile!(
                tile,
                [
                    "tileloadd tmm4, [{a} + {a_row}]",
                    "tileloadd tmm6, [{b} + {b_row}]",
                    "tileloadd tmm7, [{b} + {b_row} + 1024]",
                    "tileloadd tmm5, [{a_lower} + {a_row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, {a_step}",
                    "add {a_lower}, {a_step}",
                    "add {b}, 2048",
                ],
                a = inout(reg) tile.a.from => _,
                a_lower = inout(reg) tile.a.from.wrapping_add(16 * tile.a.row) => _,
                a_row = in(reg) 2 * tile.a.row,
                a_step = in(reg) 2 * tile.a.step,
                b = inout(reg) tile.b => _,
                b_row = in(reg) 64usize,
            );
        }
    }

    #[inline]
    unsafe fn begin() {
        // SAFETY: the process has the permission for tile state, and the configuration is one that palette 1 allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, preserves_flags)) };
    }

    #[inline]
    unsafe fn end() {
        // SAFETY: returns the tiles to their initial state, so that switching threads needn't save them.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// Packs panels of 32 rows, step by step, each step as two tiles of 16 rows × 32 indices.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_a<P: Packed>(a: &Matrix<P>, part: &Part, to: *mut u8) {
    let (panels, steps) = (part.outer.len().div_ceil(32), part.inner.len().div_ceil(32));
    // The stored rows from end to end, as memory likes it.
    for i in 0..panels * steps {
        let (panel, step) = if a.is_transposed { (i % panels, i / panels) } else { (i / steps, i % steps) };
        let (row, index) = (part.outer.start + 32 * panel, part.inner.start + 32 * step);
        let (existing, indices) = ((part.outer.end - row).min(32), (part.inner.end - index).min(32));
        let (line, number) = if a.is_transposed { (index, row) } else { (row, index) };
        let (lines, length) = if a.is_transposed { (indices, existing) } else { (existing, indices) };
        let square =
            Square { from: a.data.as_ptr().wrapping_add(line * a.stride + number), stride: a.stride, lines, length };
        // SAFETY: the square holds what exists of the part; `to` has room for 2 KiB a panel and step.
        unsafe {
            let target = to.add((panel * steps + step) * 2 * TILE);
            match a.is_transposed {
                true => {
                    let [upper, lower] = square.pairs();
                    pairs::store(&pairs::transpose(&upper), target, 64);
                    pairs::store(&pairs::transpose(&lower), target.add(TILE), 64);
                }
                false => {
                    for line in 0..32 {
                        _mm512_storeu_si512(target.add(line * 64).cast(), square.line(line));
                    }
                }
            }
        }
    }
}
