//! The blocked product that all paths share: blocks of the output to threads, blocks of the summation index in order.
//!
//! Summation indices are cut into blocks of a fixed size, and every output element adds its blocks in order within one
//! task; where rows and columns are cut changes no element's arithmetic. So the bits don't depend on the number of
//! threads, although the cuts do.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::kernel::{Kernel, Part, Strides, Sums, Tile};
use super::matrix::{Matrix, Output, Target};
use super::scratch::{Bytes, Scratch, with_scratch};

/// The right operand: packed ahead for this kernel, or to be packed block by block.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Packed(*const bf16),
    Plain(&'a Matrix<'a>),
}

/// Sizes of a product: (rows, depth) · (depth, columns).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// The output of one product, shared by tasks that write disjoint rectangles of it.
#[derive(Clone, Copy)]
struct Destination {
    goal: Goal,
    stride: usize,
}

#[derive(Clone, Copy)]
enum Goal {
    F32 { c: *mut f32, add: bool },
    Bf16(*mut bf16),
}

/// Everything that the tasks of one product share.
struct Product<'a> {
    a: &'a Matrix<'a>,
    b: Right<'a>,
    c: Destination,
    sizes: Sizes,
}

// SAFETY: the pointers are to the operands, which are only read, and to the output, of which each task writes its own
// rectangle; all are borrowed for as long as the product lives.
unsafe impl Sync for Product<'_> {}

/// Room for the sums of one tile, of any path.
#[repr(align(64))]
struct TileSums {
    _numbers: [f32; 1024],
}

/// Carries out a product on rayon's current pool, or on this thread alone.
///
/// # Safety
/// The processor has `K`'s features. A packed `b` has been packed for `K` from a matrix of these sizes.
pub(super) unsafe fn run<K: Kernel>(a: &Matrix, b: Right, c: Output, sizes: Sizes, on_this_thread: bool) {
    let stride = c.check(sizes.rows, sizes.columns);
    if sizes.rows == 0 || sizes.columns == 0 {
        return;
    }
    if sizes.depth == 0 {
        return clear(c, sizes, stride);
    }
    let goal = match c.target {
        Target::Set(c) => Goal::F32 { c: c.as_mut_ptr(), add: false },
        Target::Add(c) => Goal::F32 { c: c.as_mut_ptr(), add: true },
        Target::Bf16(c) => Goal::Bf16(c.as_mut_ptr()),
    };
    let product = Product { a, b, c: Destination { goal, stride }, sizes };
    let threads = if on_this_thread { 1 } else { rayon::current_num_threads() };
    let (rows, columns) = block_sizes::<K>(sizes, matches!(b, Right::Packed(_)), threads);
    let row_blocks = sizes.rows.div_ceil(rows);
    let tasks = row_blocks * sizes.columns.div_ceil(columns);
    // Neighbouring tasks share columns, so that a block of B stays in a core's cache.
    let task = |i: usize| {
        let (row, column) = (i % row_blocks * rows, i / row_blocks * columns);
        let rows = row..(row + rows).min(sizes.rows);
        let columns = column..(column + columns).min(sizes.columns);
        // SAFETY: as the caller promises; the ranges lie within the output and belong to this task alone.
        with_scratch(|scratch| unsafe { product.block::<K>(rows, columns, scratch) });
    };
    match threads == 1 || tasks == 1 {
        true => (0..tasks).for_each(task),
        false => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}

/// Rows and columns of the output blocks, in whole tiles.
///
/// One core's cache (taken as 2 MiB) shall hold the block of A, the block of B for one stretch of the summation index,
/// and, if there are several stretches, the sums. Blocks shrink until every thread has a few.
fn block_sizes<K: Kernel>(sizes: Sizes, is_packed: bool, threads: usize) -> (usize, usize) {
    let Sizes { rows: m, columns: n, depth: k } = sizes;
    let (mut rows, mut columns) = match is_packed && k <= 1024 {
        true => (128, (512 << 10) / k.max(128)),
        false if n <= 256 => (512, 256),
        false => (256, 512),
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

/// The product over an empty index: zeros.
fn clear(c: Output, sizes: Sizes, stride: usize) {
    let rows = |len: usize| (0..sizes.rows).map(move |r| r * stride..(r * stride + sizes.columns).min(len));
    match c.target {
        Target::Set(c) => rows(c.len()).for_each(|row| c[row].fill(0.0)),
        Target::Add(_) => {}
        Target::Bf16(c) => rows(c.len()).for_each(|row| c[row].fill(bf16::ZERO)),
    }
}

/// A stretch of the summation index, packed.
struct Stretch {
    inner: Range<usize>,
    /// Its length in whole steps.
    padded: usize,
    is_first: bool,
    is_last: bool,
    strides: Strides,
}

impl Product<'_> {
    /// Computes one rectangle of the output.
    ///
    /// # Safety
    /// As for [`run`]; the ranges lie within the output, and no other thread touches that rectangle.
    unsafe fn block<K: Kernel>(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let k = self.sizes.depth;
        let longest = k.min(K::K_BLOCK).next_multiple_of(K::K_STEP);
        let (padded_rows, padded_columns) = (rows.len().next_multiple_of(K::MR), columns.len().next_multiple_of(K::NR));
        scratch.a.reserve(padded_rows * longest * size_of::<K::A>());
        scratch.widened.reserve(K::widened(longest) * size_of::<f32>());
        if matches!(self.b, Right::Plain(_)) {
            scratch.b.reserve(padded_columns * longest * size_of::<bf16>());
        }
        if matches!(self.c.goal, Goal::Bf16(_)) && k > K::K_BLOCK {
            scratch.sums.reserve(padded_rows * padded_columns * size_of::<f32>());
        }
        // SAFETY: the features are there.
        unsafe { K::begin() };
        for start in (0..k).step_by(K::K_BLOCK) {
            let inner = start..(start + K::K_BLOCK).min(k);
            // SAFETY: the part lies within the operands, and the scratch has room for it.
            unsafe {
                let part = Part { outer: rows.clone(), inner: inner.clone() };
                let strides = K::pack_a(self.a, &part, scratch.a.as_mut_ptr());
                let padded = inner.len().next_multiple_of(K::K_STEP);
                let stretch = Stretch { is_first: start == 0, is_last: inner.end == k, inner, padded, strides };
                self.panels::<K>(&rows, &columns, &stretch, scratch);
            }
        }
        // SAFETY: follows `begin`.
        unsafe { K::end() };
    }

    /// Adds one stretch of the summation index to a rectangle, panel by panel.
    unsafe fn panels<K: Kernel>(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        stretch: &Stretch,
        scratch: &mut Scratch,
    ) {
        let padded_columns = columns.len().next_multiple_of(K::NR);
        for column in columns.clone().step_by(K::NR) {
            let width = (columns.end - column).min(K::NR);
            // SAFETY: the panel is packed for these columns and this stretch; the tile stays within the rectangle.
            unsafe {
                let panel = self.panel::<K>(column..column + width, stretch, &mut scratch.b);
                let b = K::ready_b(panel, stretch.padded, scratch.widened.as_mut_ptr());
                for (i, row) in rows.clone().step_by(K::MR).enumerate() {
                    let a = scratch.a.as_ptr::<K::A>().add(i * stretch.strides.panel);
                    let tile = Tile {
                        a,
                        b,
                        strides: stretch.strides,
                        k: stretch.padded,
                        c: std::ptr::null_mut(),
                        c_stride: 0,
                        continues: !stretch.is_first,
                    };
                    let place = Place { row, column, height: (rows.end - row).min(K::MR), width };
                    let sums = scratch.sums.as_mut_ptr::<f32>();
                    let kept = sums.wrapping_add((row - rows.start) * padded_columns + column - columns.start);
                    self.tile::<K>(tile, &place, stretch, (kept, padded_columns));
                }
            }
        }
    }

    /// The packed panel of these columns over this stretch.
    unsafe fn panel<K: Kernel>(&self, columns: Range<usize>, stretch: &Stretch, room: &mut Bytes) -> *const bf16 {
        match self.b {
            Right::Packed(packed) => {
                let whole = self.sizes.depth.next_multiple_of(K::K_STEP) * K::NR;
                packed.wrapping_add(columns.start / K::NR * whole + stretch.inner.start * K::NR)
            }
            Right::Plain(b) => {
                let part = Part { outer: columns, inner: stretch.inner.clone() };
                // SAFETY: the part lies within b, and the room is for all columns of the rectangle.
                unsafe { K::pack_b(b, &part, room.as_mut_ptr()) };
                room.as_ptr()
            }
        }
    }

    /// Adds one stretch of the summation index to one tile; `kept` is where sums stay between stretches, and their
    /// stride, when the output is bf16.
    unsafe fn tile<K: Kernel>(
        &self,
        tile: Tile<K::A, K::B>,
        place: &Place,
        stretch: &Stretch,
        kept: (*mut f32, usize),
    ) {
        let offset = place.row * self.c.stride + place.column;
        let is_whole = place.height == K::MR && place.width == K::NR;
        let mut local = std::mem::MaybeUninit::<TileSums>::uninit();
        let local = local.as_mut_ptr().cast::<f32>();
        let rectangle =
            |from: *const f32, stride: usize| Sums { from, stride, rows: place.height, columns: place.width };
        // SAFETY: MR · NR is at most 1024, so a tile fits in `local`; a whole tile fits at its place in the output; kept
        // sums have room for whole tiles. Copies and roundings cover only what exists.
        unsafe {
            match self.c.goal {
                Goal::F32 { c, add } if is_whole => {
                    let continues = tile.continues || add;
                    K::tile(&Tile { c: c.add(offset), c_stride: self.c.stride, continues, ..tile });
                }
                Goal::F32 { c, add } => {
                    let continues = tile.continues || add;
                    let c = c.add(offset);
                    local.write_bytes(0, K::MR * K::NR);
                    if continues {
                        copy(&rectangle(c, self.c.stride), local, K::NR);
                    }
                    K::tile(&Tile { c: local, c_stride: K::NR, continues, ..tile });
                    copy(&rectangle(local, K::NR), c, self.c.stride);
                }
                Goal::Bf16(c) => {
                    let (sums, sums_stride) = if stretch.is_first && stretch.is_last { (local, K::NR) } else { kept };
                    K::tile(&Tile { c: sums, c_stride: sums_stride, ..tile });
                    if stretch.is_last {
                        K::narrow(&rectangle(sums, sums_stride), c.add(offset), self.c.stride);
                    }
                }
            }
        }
    }
}

/// Where a tile lies in the output, and how much of it exists.
struct Place {
    row: usize,
    column: usize,
    height: usize,
    width: usize,
}

/// Copies a rectangle.
///
/// # Safety
/// Both pointers reach as far as the sizes say, without overlap.
unsafe fn copy(from: &Sums, to: *mut f32, to_stride: usize) {
    for row in 0..from.rows {
        // SAFETY: row < rows.
        unsafe { from.from.add(row * from.stride).copy_to_nonoverlapping(to.add(row * to_stride), from.columns) };
    }
}

/// Numbers that a whole matrix packed for `K` takes.
pub(super) fn packed_len<K: Kernel>(depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(K::NR) * depth.next_multiple_of(K::K_STEP)
}

/// Packs a whole matrix for `K`, panels to threads.
///
/// # Safety
/// The processor has `K`'s features; `to` holds [`packed_len`] numbers.
pub(super) unsafe fn pack<K: Kernel>(b: &Matrix, to: &mut [bf16]) {
    let panel = b.rows.next_multiple_of(K::K_STEP) * K::NR;
    if panel == 0 {
        return;
    }
    let pack = |(i, panel): (usize, &mut [bf16])| {
        let columns = i * K::NR..((i + 1) * K::NR).min(b.columns);
        // SAFETY: the part lies within b, and the panel has room for its columns over all indices.
        unsafe { K::pack_b(b, &Part { outer: columns, inner: 0..b.rows }, panel.as_mut_ptr()) };
    };
    to.par_chunks_mut(panel).enumerate().for_each(pack);
}
