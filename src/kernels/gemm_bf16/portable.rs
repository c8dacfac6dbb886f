//! The plain-Rust path, and the packing that all paths with f32 lanes share.
//!
//! Products of two bf16 have 16 significant bits and are exact in f32, so a fused multiply-add rounds as a multiplication
//! and an addition do: this path, AVX2 and AVX-512F give the same bits (except for products below 2^-126 in magnitude,
//! which aren't exact).

use half::bf16;

use super::kernel::{Kernel, Left, Part, Tile};
use super::operands::{Source, with_elements};
use crate::element::{Stored, round, widened};
use crate::matrix::Matrix;

/// Kernels in plain Rust.
pub(super) struct Portable;

// SAFETY: `tile` writes the first NR elements of MR rows of c, and reads MR · k elements of a and k · NR of b.
unsafe impl Kernel for Portable {
    type A = f32;
    type B = f32;
    const MR: usize = 4;
    const NR: usize = 16;
    const K_STEP: usize = 1;
    const K_BLOCK: usize = 256;
    const WIDENS: bool = true;

    unsafe fn pack_a(a: &Source, part: &Part, to: *mut f32) -> Left<f32> {
        // SAFETY: the caller's promises are those that pack_a asks for.
        unsafe { with_elements!(a, a => pack_a(a, part, Self::MR, to)) }
    }

    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16) {
        // SAFETY: the caller's promises are those that pack_b asks for.
        unsafe { with_elements!(b, b => pack_b(b, part, Self::NR, to)) }
    }

    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
        // SAFETY: handed on.
        unsafe { narrow(sums, len, to, adds) }
    }

    unsafe fn ready_b(panel: *const bf16, k: usize, room: *mut f32) -> *const f32 {
        // SAFETY: both hold NR · k elements, and scratch never overlaps an operand.
        unsafe { widen(panel, k * Self::NR, room) };
        room
    }

    unsafe fn tile(tile: &Tile<f32, f32>) {
        let mut sums = [[0f32; Self::NR]; Self::MR];
        for (r, row) in sums.iter_mut().enumerate().filter(|_| tile.continues) {
            // SAFETY: row r < MR of c has NR elements.
            unsafe { tile.c.add(r * tile.c_stride).cast::<[f32; Self::NR]>().copy_to(row, 1) };
        }
        for step in 0..tile.k {
            // SAFETY: step < k, and b has NR elements a step.
            let b = unsafe { tile.b.add(step * Self::NR).cast::<[f32; Self::NR]>().read() };
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: r < MR and step < k.
                let a = unsafe { *tile.a.from.add(r * tile.a.row + step * tile.a.step) };
                row.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            // SAFETY: row r < MR of c has room for NR elements.
            unsafe { tile.c.add(r * tile.c_stride).cast::<[f32; Self::NR]>().copy_from(row, 1) };
        }
    }
}

/// Packs a block of A as f32: in panels of whole rows where rows are stored, else index by index over the block.
///
/// # Safety
/// As for [`Kernel::pack_a`], with panels of `mr` rows.
pub(super) unsafe fn pack_a<S: Stored<Element = f32>>(
    a: &Matrix<S>,
    part: &Part,
    mr: usize,
    to: *mut f32,
) -> Left<f32> {
    let (rows, k) = (part.outer.len(), part.inner.len());
    let padded = rows.next_multiple_of(mr);
    let (left, lines, length, filled_lines, filled_length) = match a.is_transposed {
        false => (Left { from: to, panel: mr * k, row: k, step: 1 }, padded, k, rows, k),
        true => (Left { from: to, panel: mr, row: 1, step: padded }, k, padded, k, rows),
    };
    let (first_line, first) =
        if a.is_transposed { (part.inner.start, part.outer.start) } else { (part.outer.start, part.inner.start) };
    for line in 0..lines {
        // SAFETY: `lines · length` is the room the caller promises; a filled line lies within the matrix.
        unsafe {
            let target = std::slice::from_raw_parts_mut(to.add(line * length), length);
            let filled = if line < filled_lines { filled_length } else { 0 };
            let (copied, rest) = target.split_at_mut(filled);
            if filled > 0 {
                let source =
                    std::slice::from_raw_parts(a.data.as_ptr().add((first_line + line) * a.stride + first), filled);
                copied.iter_mut().zip(source).for_each(|(to, from)| *to = widened(round(from.load())));
            }
            rest.fill(0.0);
        }
    }
    left
}

/// Packs a panel of `nr` columns of B, index by index.
///
/// # Safety
/// As for [`Kernel::pack_b`], with a step of 1.
pub(super) unsafe fn pack_b<S: Stored<Element = f32>>(b: &Matrix<S>, part: &Part, nr: usize, to: *mut bf16) {
    let (columns, k) = (part.outer.len(), part.inner.len());
    // SAFETY: the panel has room for nr · k elements, and every index read lies within the part, so within the matrix.
    unsafe {
        let panel = std::slice::from_raw_parts_mut(to, nr * k);
        for (step, line) in panel.chunks_exact_mut(nr).enumerate() {
            line[columns..].fill(bf16::ZERO);
            if !b.is_transposed {
                let from = b.data.as_ptr().add((part.inner.start + step) * b.stride + part.outer.start);
                let source = std::slice::from_raw_parts(from, columns);
                line.iter_mut().zip(source).for_each(|(to, from)| *to = round(from.load()));
            }
        }
        for column in (0..columns).filter(|_| b.is_transposed) {
            let from = b.data.as_ptr().add((part.outer.start + column) * b.stride + part.inner.start);
            let source = std::slice::from_raw_parts(from, k);
            panel.chunks_exact_mut(nr).zip(source).for_each(|(line, from)| line[column] = round(from.load()));
        }
    }
}

/// Rounds `len` sums, after adding what is there if `adds`.
///
/// # Safety
/// Both pointers reach `len` elements, without overlap.
#[inline(always)]
pub(super) unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool) {
    // SAFETY: as the caller promises.
    let (sums, to) = unsafe { (std::slice::from_raw_parts(sums, len), std::slice::from_raw_parts_mut(to, len)) };
    match adds {
        true => to.iter_mut().zip(sums).for_each(|(to, sum)| *to = round(widened(*to) + *sum)),
        false => to.iter_mut().zip(sums).for_each(|(to, sum)| *to = round(*sum)),
    }
}

/// Widens `len` elements.
///
/// # Safety
/// Both pointers reach `len` elements, without overlap.
#[inline(always)]
pub(super) unsafe fn widen(from: *const bf16, len: usize, to: *mut f32) {
    // SAFETY: as the caller promises.
    let (from, to) = unsafe { (std::slice::from_raw_parts(from, len), std::slice::from_raw_parts_mut(to, len)) };
    to.iter_mut().zip(from).for_each(|(to, from)| *to = widened(*from));
}
