//! Right operands packed ahead: weights, once an optimizer step.

use half::bf16;

use super::matrix::Matrix;
use super::scratch::Bytes;
use super::{Path, by_path, product};

/// A matrix B of (K, N) packed for the products of one path. It takes K · N elements of bf16, both rounded up to whole
/// tiles (at most 32 indices and 64 columns), and keeps its memory when it is packed again.
pub struct PackedB {
    path: Path,
    rows: usize,
    columns: usize,
    memory: Bytes,
}

impl Default for PackedB {
    fn default() -> Self {
        Self::new()
    }
}

impl PackedB {
    /// An empty matrix; [`PackedB::pack`] fills it.
    pub fn new() -> Self {
        Self { path: Path::Portable, rows: 0, columns: 0, memory: Bytes::new() }
    }

    /// `b` packed for the path chosen now.
    pub fn of(b: Matrix) -> Self {
        let mut packed = Self::new();
        packed.pack(b);
        packed
    }

    /// Packs `b` for the path chosen now, on rayon's current pool, over what was there.
    pub fn pack(&mut self, b: Matrix) {
        self.pack_for(Path::chosen(), b);
    }

    pub(super) fn pack_for(&mut self, path: Path, b: Matrix) {
        assert!(path.is_available(), "the path {} isn't available here", path.name());
        (self.path, self.rows, self.columns) = (path, b.rows, b.columns);
        let len = self.len();
        self.memory.reserve(len * size_of::<bf16>());
        // SAFETY: the memory is aligned for bf16, initialised, `len` elements long, and borrowed mutably.
        let to = unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr::<bf16>(), len) };
        // SAFETY: the path is available, and `to` is as long as its packing.
        by_path!(path, K => unsafe { product::pack::<K>(&b, to, rayon::current_num_threads()) });
    }

    /// The path whose products it is packed for.
    pub fn path(&self) -> Path {
        self.path
    }

    /// K, the rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// N, the columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn len(&self) -> usize {
        by_path!(self.path, K => product::packed_len::<K>(self.rows, self.columns))
    }

    pub(super) fn elements(&self) -> &[bf16] {
        // SAFETY: aligned for bf16, initialised, and at least this long since `pack_for`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr::<bf16>(), self.len()) }
    }
}
