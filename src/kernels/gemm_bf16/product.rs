//! The blocked product that all paths share: blocks of the output to threads, blocks of the summation index in order.
//!
//! Summation indices are cut into blocks of a fixed size, and every output element adds its blocks in order within one
//! task; where rows and columns are cut changes no element's arithmetic. So the bits don't depend on the number of
//! threads, although the cuts do. An output in bf16 is written once, after the last stretch of the summation index: until then
//! its sums are in f32, in the task's scratch.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::kernel::{Kernel, Left, Part, Tile};
use super::operands::{Output, Place, Source};
use super::scratch::{Scratch, with_scratch, with_shared};
use crate::matrix::{Threads, WriteMode};

/// From so many rows on, B is packed once for all tasks of a product; fewer rows are one task's anyway.
const SHARED_ROWS: usize = 128;

/// The right operand: packed ahead for this kernel, or to be packed block by block.
#[derive(Clone, Copy)]
enum Right<'a> {
    Packed(*const bf16),
    Plain(&'a Source<'a>),
}

/// Sizes of a product: (rows, depth) · (depth, columns).
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: usize,
    columns: usize,
    depth: usize,
}

/// Everything that the tasks of one product share.
struct Product<'a> {
    a: &'a Source<'a>,
    b: Right<'a>,
    /// The output, of which tasks write disjoint rectangles.
    c: Place,
    mode: WriteMode,
    sizes: Sizes,
}

// SAFETY: the pointers are to the operands, which are only read, and to the output, of which each task writes its own
// rectangle; all are borrowed for as long as the product lives.
unsafe impl Sync for Product<'_> {}

/// Carries out a product: `c` (row-major) becomes a · b, overwritten or accumulated.
///
/// # Panics
/// If the sizes don't fit together or C is too short.
///
/// # Safety
/// The processor has `K`'s features.
pub(super) unsafe fn run<K: Kernel>(a: &Source, b: &Source, c: Output, mode: WriteMode, threads: Threads) {
    let sizes = Sizes { rows: a.rows(), columns: b.columns(), depth: a.columns() };
    assert_eq!(a.columns(), b.rows(), "A's columns must be B's rows");
    let needed = sizes.rows * sizes.columns;
    assert!(
        c.len() >= needed,
        "a product of {} × {} needs {needed} elements, got {}",
        sizes.rows,
        sizes.columns,
        c.len()
    );
    if needed == 0 {
        return;
    }
    if sizes.depth == 0 {
        if mode == WriteMode::Overwrite {
            c.clear(needed);
        }
        return;
    }
    let threads = if threads == Threads::One { 1 } else { rayon::current_num_threads() };
    let c = c.place();
    let tasks = |b: Right| {
        // SAFETY: as the caller promises; C has room for the output, as asserted.
        unsafe { Product { a, b, c, mode, sizes }.carry_out::<K>(threads) }
    };
    if sizes.rows <= SHARED_ROWS {
        return tasks(Right::Plain(b));
    }
    // Several tasks need all of B: it is packed once for them.
    let len = packed_len::<K>(sizes.depth, sizes.columns);
    with_shared(len * size_of::<bf16>(), |memory| {
        // SAFETY: the memory is aligned for bf16, initialised, `len` elements long, and borrowed mutably; the processor
        // has `K`'s features.
        unsafe {
            let to = std::slice::from_raw_parts_mut(memory.as_mut_ptr::<bf16>(), len);
            pack::<K>(b, to, threads);
        }
        tasks(Right::Packed(memory.as_ptr()));
    });
}

/// Rows and columns of the output blocks, in whole tiles.
///
/// One core's cache (taken as 2 MiB) shall hold the block of A, the block of B for one stretch of the summation index,
/// and, if there are several stretches, the sums. Blocks shrink until every thread has a few.
fn block_sizes<K: Kernel>(sizes: Sizes, is_packed: bool, threads: usize) -> (usize, usize) {
    let Sizes { rows: m, columns: n, depth: k } = sizes;
    let (mut rows, mut columns) = match is_packed && k <= 1024 {
        true => (128, (512 << 10) / (k.max(128) * K::PARTS)),
        false if K::PARTS > 1 => (128, 512),
        false => (512, 512),
    };
    rows = rows.min(m).next_multiple_of(K::MR);
    columns = columns.min(n).next_multiple_of(K::NR);
    let tasks = |rows: usize, columns: usize| m.div_ceil(rows) * n.div_ceil(columns);
    while threads > 1 && tasks(rows, columns) < 3 * threads && rows * columns > 64 * 64 {
        match rows >= columns && rows > K::MR {
            true => rows = (rows / 2).next_multiple_of(K::MR),
            false if columns > K::NR => columns = (columns / 2).next_multiple_of(K::NR),
            false => break,
        }
    }
    let even = |size: usize, block: usize, tile: usize| size.div_ceil(size.div_ceil(block)).next_multiple_of(tile);
    (even(m, rows, K::MR), even(n, columns, K::NR))
}

/// A rectangle of the output, and a stretch of the summation index packed for it.
struct Block<A> {
    rows: Range<usize>,
    columns: Range<usize>,
    inner: Range<usize>,
    /// The stretch's length in whole steps.
    padded: usize,
    a: Left<A>,
}

impl<A> Block<A> {
    /// Packs the block's part of B, panel by panel.
    ///
    /// # Safety
    /// The processor has `K`'s features, the block lies within `b`, and `to` has room for whole panels.
    unsafe fn pack_b<K: Kernel>(&self, b: &Source, to: *mut bf16) {
        for (i, column) in self.columns.clone().step_by(K::NR).enumerate() {
            let columns = column..(column + K::NR).min(self.columns.end);
            let part = Part { outer: columns, inner: self.inner.clone() };
            part.check(b.columns(), b.rows());
            // SAFETY: as the caller promises.
            unsafe { K::pack_b(b, &part, to.add(i * self.padded * K::NR * K::PARTS)) };
        }
    }
}

impl Product<'_> {
    /// Computes the whole output, rectangles to threads.
    ///
    /// # Safety
    /// As for [`run`].
    unsafe fn carry_out<K: Kernel>(&self, threads: usize) {
        let sizes = self.sizes;
        let (rows, columns) = block_sizes::<K>(sizes, matches!(self.b, Right::Packed(_)), threads);
        let row_blocks = sizes.rows.div_ceil(rows);
        let tasks = row_blocks * sizes.columns.div_ceil(columns);
        // Neighbouring tasks share columns, so that a block of B stays in a core's cache.
        let task = |i: usize| {
            let (row, column) = (i % row_blocks * rows, i / row_blocks * columns);
            let rows = row..(row + rows).min(sizes.rows);
            let columns = column..(column + columns).min(sizes.columns);
            // SAFETY: as the caller promises; the ranges lie within the output and belong to this task alone.
            with_scratch(|scratch| unsafe { self.block::<K>(rows, columns, scratch) });
        };
        match threads == 1 || tasks == 1 {
            true => (0..tasks).for_each(task),
            false => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
        }
    }

    /// Computes one rectangle of the output.
    ///
    /// # Safety
    /// As for [`run`]; the ranges lie within the output, and no other thread touches that rectangle.
    unsafe fn block<K: Kernel>(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let k = self.sizes.depth;
        let longest = k.min(K::K_BLOCK).next_multiple_of(K::K_STEP);
        let (padded_rows, padded_columns) = (rows.len().next_multiple_of(K::MR), columns.len().next_multiple_of(K::NR));
        scratch.a.reserve(padded_rows * longest * size_of::<K::A>());
        scratch.widened.reserve(if K::WIDENS { K::NR * longest * size_of::<f32>() } else { 0 });
        if matches!(self.b, Right::Plain(_)) {
            scratch.b.reserve(padded_columns * longest * K::PARTS * size_of::<bf16>());
        }
        // An output in bf16 is written after the last of several stretches.
        let keeps_sums = matches!(self.c, Place::Bf16(_)) && k > K::K_BLOCK;
        let sums = if keeps_sums { padded_rows * padded_columns } else { K::MR * K::NR };
        scratch.sums.reserve(sums * size_of::<f32>());
        // SAFETY: the features are there.
        unsafe { K::begin() };
        for start in (0..k).step_by(K::K_BLOCK) {
            let inner = start..(start + K::K_BLOCK).min(k);
            let part = Part { outer: rows.clone(), inner: inner.clone() };
            part.check(self.a.rows(), self.a.columns());
            // SAFETY: the part lies within the operands, and the scratch has room for it.
            unsafe {
                let a = K::pack_a(self.a, &part, scratch.a.as_mut_ptr());
                let padded = inner.len().next_multiple_of(K::K_STEP);
                let block = Block { rows: rows.clone(), columns: columns.clone(), inner, padded, a };
                if let Right::Plain(b) = self.b {
                    block.pack_b::<K>(b, scratch.b.as_mut_ptr());
                }
                self.tiles::<K>(&block, scratch);
            }
        }
        // SAFETY: follows `begin`.
        unsafe { K::end() };
    }

    /// Adds a block's stretch of the summation index to its tiles.
    ///
    /// # Safety
    /// As for [`Product::block`], with the block packed in `scratch`.
    unsafe fn tiles<K: Kernel>(&self, block: &Block<K::A>, scratch: &mut Scratch) {
        let (widened, room) = (scratch.widened.as_mut_ptr::<f32>(), scratch.sums.as_mut_ptr::<f32>());
        let (rows, columns) = (block.rows.len().div_ceil(K::MR), block.columns.len().div_ceil(K::NR));
        for i in 0..rows * columns {
            // Along the output's rows, so that they are written in order; but a panel that is widened is used up first.
            let (row, column) = if K::WIDENS { (i % rows, i / rows) } else { (i / columns, i % columns) };
            // SAFETY: the panels exist, packed, and `widened` has room for one; the tile lies within the block.
            unsafe {
                let b = match K::WIDENS && row > 0 {
                    true => widened.cast_const().cast(),
                    false => K::ready_b(self.panel::<K>(block, column, scratch), block.padded, widened),
                };
                self.tile::<K>(block, (row, column), b, room);
            }
        }
    }

    /// Panel `column` of the block, packed over its stretch.
    fn panel<K: Kernel>(&self, block: &Block<K::A>, column: usize, scratch: &Scratch) -> *const bf16 {
        match self.b {
            Right::Packed(packed) => {
                let whole = self.sizes.depth.next_multiple_of(K::K_STEP) * K::NR * K::PARTS;
                let before = block.inner.start * K::NR * K::PARTS;
                packed.wrapping_add((block.columns.start / K::NR + column) * whole + before)
            }
            Right::Plain(_) => scratch.b.as_ptr::<bf16>().wrapping_add(column * block.padded * K::NR * K::PARTS),
        }
    }

    /// Adds a block's stretch of the summation index to one of its tiles (row, column).
    ///
    /// # Safety
    /// As for [`Product::tiles`], with `b` the panel of the column, the tile within the block, and `room` for a whole tile, or, where the
    /// output is in bf16 and there are several stretches, for the sums of all of the block's tiles.
    unsafe fn tile<K: Kernel>(
        &self,
        block: &Block<K::A>,
        (row, column): (usize, usize),
        b: *const K::B,
        room: *mut f32,
    ) {
        let (row_from, column_from) = (block.rows.start + row * K::MR, block.columns.start + column * K::NR);
        let height = (block.rows.end - row_from).min(K::MR);
        let width = (block.columns.end - column_from).min(K::NR);
        let a = Left { from: block.a.from.wrapping_add(row * block.a.panel), ..block.a };
        let tile = Tile { a, b, k: block.padded, c: room, c_stride: K::NR, continues: block.inner.start > 0 };
        let stride = self.sizes.columns;
        let place = row_from * stride + column_from;
        // SAFETY: as the caller promises; what exists of the tile lies within the output, where no other task writes.
        unsafe {
            match self.c {
                Place::F32(c) => {
                    let continues = tile.continues || self.mode == WriteMode::Accumulate;
                    into_f32::<K>(Tile { continues, ..tile }, (height, width), c.add(place), stride);
                }
                Place::Bf16(c) => {
                    let is_last = block.inner.end == self.sizes.depth;
                    let mut tile = tile;
                    if !(is_last && block.inner.start == 0) {
                        tile.c_stride = block.columns.len().next_multiple_of(K::NR);
                        tile.c = room.add(row * K::MR * tile.c_stride + column * K::NR);
                    }
                    K::tile(&tile);
                    for row in (0..height).filter(|_| is_last) {
                        let sums = tile.c.add(row * tile.c_stride);
                        K::narrow(sums, width, c.add(place + row * stride), self.mode == WriteMode::Accumulate);
                    }
                }
            }
        }
    }
}

/// Sums a tile at its place in an output in f32; one at the output's edge, of which `height` rows and `width` columns exist, in the tile's
/// own room.
///
/// # Safety
/// As for [`Kernel::tile`]; what exists of the tile is readable and writable at `c`.
unsafe fn into_f32<K: Kernel>(tile: Tile<K::A, K::B>, (height, width): (usize, usize), c: *mut f32, stride: usize) {
    let room = tile.c;
    // SAFETY: a whole tile fits at its place in the output, and in the room. Copies cover only what exists.
    unsafe {
        if (height, width) == (K::MR, K::NR) {
            return K::tile(&Tile { c, c_stride: stride, ..tile });
        }
        room.write_bytes(0, K::MR * K::NR);
        for row in (0..height).filter(|_| tile.continues) {
            c.add(row * stride).copy_to_nonoverlapping(room.add(row * K::NR), width);
        }
        K::tile(&tile);
        for row in 0..height {
            room.add(row * K::NR).copy_to_nonoverlapping(c.add(row * stride), width);
        }
    }
}

/// Elements that a whole matrix packed for `K` takes.
fn packed_len<K: Kernel>(depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(K::NR) * depth.next_multiple_of(K::K_STEP) * K::PARTS
}

/// Summation indices that one task packs of a matrix stored along its columns.
const PACKED_INDICES: usize = 256;

/// Packs a whole matrix for `K`, by one thread or by rayon's current pool.
///
/// # Safety
/// The processor has `K`'s features; `to` holds [`packed_len`] elements.
unsafe fn pack<K: Kernel>(b: &Source, to: &mut [bf16], threads: usize) {
    let (b_rows, b_columns) = (b.rows(), b.columns());
    assert!(to.len() >= packed_len::<K>(b_rows, b_columns), "no room for the packed matrix");
    let panel = b_rows.next_multiple_of(K::K_STEP) * K::NR * K::PARTS;
    // Stored rows from end to end, as memory likes it: a task has some panels' whole columns, or some rows of all panels.
    let (panels, indices) = if b.is_transposed() { (1, b_rows) } else { (b_columns.div_ceil(K::NR), PACKED_INDICES) };
    let row_tasks = b_rows.div_ceil(indices.max(1));
    let tasks = row_tasks * b_columns.div_ceil(K::NR).div_ceil(panels.max(1));
    let to = Room(to.as_mut_ptr());
    let task = |i: usize| {
        let (first, start) = (i / row_tasks * panels, i % row_tasks * indices);
        let last = (first + panels).min(b_columns.div_ceil(K::NR));
        for number in first..last {
            let columns = number * K::NR..((number + 1) * K::NR).min(b_columns);
            let part = Part { outer: columns, inner: start..(start + indices).min(b_rows) };
            part.check(b_columns, b_rows);
            // SAFETY: the part lies within b; its place in its panel is its own, and `to` holds all panels.
            unsafe { K::pack_b(b, &part, to.at(number * panel + start * K::NR * K::PARTS)) };
        }
    };
    match threads == 1 || tasks == 1 {
        true => (0..tasks).for_each(task),
        false => (0..tasks).into_par_iter().for_each(task),
    }
}

/// Where a matrix is packed to, by tasks that write disjoint parts of it.
#[derive(Clone, Copy)]
struct Room(*mut bf16);

impl Room {
    /// The number at `offset`.
    fn at(self, offset: usize) -> *mut bf16 {
        self.0.wrapping_add(offset)
    }
}

// SAFETY: the pointer is to memory that is borrowed mutably for as long as tasks run, and no two write the same part.
unsafe impl Send for Room {}
// SAFETY: as above.
unsafe impl Sync for Room {}
