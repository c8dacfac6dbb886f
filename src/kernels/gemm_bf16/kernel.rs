//! What a path supplies to the blocked product: packed forms of both operands, and one tile of output.

use std::ops::Range;

use half::bf16;

use super::operands::Source;

/// The blocks of A and B that one packing covers.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Rows of A, or columns of B.
    pub outer: Range<usize>,
    /// The summation indices.
    pub inner: Range<usize>,
}

impl Part {
    /// Checks in debug builds that the part lies within a matrix.
    pub fn check(&self, outer: usize, indices: usize) {
        debug_assert!(self.outer.end <= outer && self.inner.end <= indices, "{self:?} of {outer} × {indices}");
    }
}

/// A packed block of A. Distances are in elements of type `A`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<A> {
    pub from: *const A,
    /// From one panel of `MR` rows to the next.
    pub panel: usize,
    /// From one row to the next within a panel.
    pub row: usize,
    /// From what one of the path's instructions takes along the summation index to the next.
    pub step: usize,
}

/// One tile's worth of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<A, B> {
    /// The block, from the tile's first row on.
    pub a: Left<A>,
    pub b: *const B,
    /// Summation indices, a multiple of [`Kernel::K_STEP`].
    pub k: usize,
    /// Where the upper left sum goes.
    pub c: *mut f32,
    /// Elements from one row of sums to the next.
    pub c_stride: usize,
    /// Whether to continue the sums found at `c` instead of starting at 0.
    pub continues: bool,
}

/// A path's kernels. B is packed as bf16 in panels of `NR` columns, `round_up(k) · NR · PARTS` elements each, in which the
/// part for summation indices from `k0` on begins at `k0 · NR · PARTS` when `k0` is a multiple of `K_STEP`; columns and
/// summation indices beyond the matrix are zeros. A block of A likewise is filled up with zeros to full panels and steps.
///
/// # Safety
/// An implementor's `tile` writes `MR` rows of `NR` sums and nothing else, and reads only `MR` rows and `NR` columns of
/// the packed panels over `k` summation indices.
pub(super) unsafe trait Kernel {
    /// A's packed number.
    type A;
    /// B's number as the tile reads it.
    type B;
    /// Elements of bf16 that stand for one number of B.
    const PARTS: usize = 1;
    /// Rows of a tile.
    const MR: usize;
    /// Columns of a tile.
    const NR: usize;
    /// Summation indices come in multiples of this.
    const K_STEP: usize;
    /// Summation indices to a block, a multiple of `K_STEP`: so many that a panel stays in the nearest cache.
    const K_BLOCK: usize;

    /// Packs a block of A at `to`, which has room for its rows rounded up to `MR` times its indices rounded up to `K_STEP`; or takes it
    /// as it lies, where tiles can read it so.
    ///
    /// # Safety
    /// The processor has the path's features, the part lies within `a`, and `to` has that room.
    unsafe fn pack_a(a: &Source, part: &Part, to: *mut Self::A) -> Left<Self::A>;

    /// Packs at most `NR` columns of B as one panel (or a part of it) at `to`.
    ///
    /// # Safety
    /// The processor has the path's features, the part lies within `b` and is at most `NR` columns wide, and `to` has
    /// room for `NR · PARTS` times its indices rounded up to `K_STEP`.
    unsafe fn pack_b(b: &Source, part: &Part, to: *mut bf16);

    /// Whether [`Kernel::ready_b`] makes a copy in f32.
    const WIDENS: bool;

    /// Makes a packed panel readable by tiles: the panel itself, or a copy of another type at `room`.
    ///
    /// # Safety
    /// The processor has the path's features, `panel` holds `NR · k · PARTS` elements, `room` as many if
    /// [`Kernel::WIDENS`].
    unsafe fn ready_b(panel: *const bf16, k: usize, room: *mut f32) -> *const Self::B;

    /// Sums one tile.
    ///
    /// # Safety
    /// The processor has the path's features and is within [`Kernel::begin`] and [`Kernel::end`]; the tile's pointers
    /// reach as far as its sizes say.
    unsafe fn tile(tile: &Tile<Self::A, Self::B>);

    /// Rounds `len` sums to bf16, after adding what is there if `adds`.
    ///
    /// # Safety
    /// The processor has the path's features; both pointers reach `len` elements, without overlap.
    unsafe fn narrow(sums: *const f32, len: usize, to: *mut bf16, adds: bool);

    /// Prepares the calling thread for tiles.
    ///
    /// # Safety
    /// The processor has the path's features.
    unsafe fn begin() {}

    /// Undoes [`Kernel::begin`].
    ///
    /// # Safety
    /// As for [`Kernel::begin`], which came before.
    unsafe fn end() {}
}

/// Defines `sum_tile`, which sums a tile in registers: `MR` rows of some registers of sums; for each step of the summation
/// index a row of B is loaded, and one element (or pair) of each row of A is broadcast.
macro_rules! sum_tile {
    (
        $features:literal, $tile:ty,
        [$lanes:literal lanes, $indices:literal indices, $b_elements:literal elements of B to a register],
        sums: $zero:ident, $load:ident, $store:ident,
        b: $zero_b:ident, |$b_from:ident| $load_b:expr,
        a: |$a_from:ident| $broadcast:expr,
        sum: |$sum:ident, $a:ident, $b:ident| $add:expr
    ) => {
        #[target_feature(enable = $features)]
        unsafe fn sum_tile(tile: &$tile) {
            debug_assert!(tile.k.is_multiple_of($indices), "whole steps");
            let mut sums = [[$zero(); VECTORS]; MR];
            // SAFETY: `MR` rows of `VECTORS` registers of sums are readable and writable at c; a row of A holds one element
            // or pair for each step, and B one row of `VECTORS` registers.
            unsafe {
                if tile.continues {
                    for (r, row) in sums.iter_mut().enumerate() {
                        for (v, sum) in row.iter_mut().enumerate() {
                            *sum = $load(tile.c.add(r * tile.c_stride + $lanes * v));
                        }
                    }
                }
                let (mut a, mut b) = (tile.a.from, tile.b);
                for _ in 0..tile.k / $indices {
                    let mut row = [$zero_b(); VECTORS];
                    for (v, elements) in row.iter_mut().enumerate() {
                        let $b_from = b.add($b_elements * v);
                        *elements = $load_b;
                    }
                    for (r, row_sums) in sums.iter_mut().enumerate() {
                        let $a_from = a.add(r * tile.a.row);
                        let $a = $broadcast;
                        for (to, $b) in row_sums.iter_mut().zip(row) {
                            let $sum = *to;
                            *to = $add;
                        }
                    }
                    a = a.add(tile.a.step);
                    b = b.add($b_elements * VECTORS);
                }
                for (r, row) in sums.iter().enumerate() {
                    for (v, sum) in row.iter().enumerate() {
                        $store(tile.c.add(r * tile.c_stride + $lanes * v), *sum);
                    }
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use sum_tile;
