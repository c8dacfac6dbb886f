//! What a path supplies to the blocked product: packed forms of both operands, and one tile of output.

use std::ops::Range;

use half::bf16;

use super::matrix::Matrix;

/// The blocks of A and B that one packing covers.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Rows of A, or columns of B.
    pub outer: Range<usize>,
    /// The summation indices.
    pub inner: Range<usize>,
}

/// A block of A as tiles read it: packed, or where it was. Distances are in elements of type `A`.
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

    /// Makes a block of A readable by tiles, packed at `to` (which has room for its rows rounded up to `MR` times its
    /// indices rounded up to `K_STEP`) unless it can be read where it is.
    ///
    /// # Safety
    /// The processor has the path's features, the part lies within `a`, and `to` has that room.
    unsafe fn pack_a(a: &Matrix, part: &Part, to: *mut Self::A) -> Left<Self::A>;

    /// Packs at most `NR` columns of B as one panel (or a part of it) at `to`.
    ///
    /// # Safety
    /// The processor has the path's features, the part lies within `b` and is at most `NR` columns wide, and `to` has
    /// room for `NR · PARTS` times its indices rounded up to `K_STEP`.
    unsafe fn pack_b(b: &Matrix, part: &Part, to: *mut bf16);

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

    /// Writes `rows` × `columns` of sums, rounded to bf16.
    ///
    /// # Safety
    /// The processor has the path's features; both pointers reach as far as the sizes say.
    unsafe fn narrow(sums: &Sums, to: *mut bf16, to_stride: usize);

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

/// A rectangle of f32 sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub from: *const f32,
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}
