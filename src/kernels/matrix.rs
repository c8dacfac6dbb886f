//! Operands of matrix products, and what is done with a product.

use super::Stored;

/// A matrix within a slice: row-major, or the transposed view of a row-major one.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from one row of the stored matrix to its next; the other stride is 1.
    pub(super) stride: usize,
    /// Whether the stored rows are this matrix's columns.
    pub(super) is_transposed: bool,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major (rows, columns) matrix at the beginning of a slice.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The first `columns` of a row-major matrix whose rows lie `stride` elements apart.
    ///
    /// # Panics
    /// If the rows overlap or the slice is too short.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
        assert!(rows <= 1 || stride >= columns, "rows of {columns} elements can't lie {stride} apart");
        assert!(data.len() >= needed, "a matrix of {rows} × {columns} needs {needed} elements, got {}", data.len());
        Self { data, rows, columns, stride, is_transposed: false }
    }

    /// The transposed matrix, over the same elements.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, is_transposed: !self.is_transposed, ..self }
    }

    /// Elements from one row to the next, and from one column to the next.
    pub(super) fn strides(&self) -> (usize, usize) {
        if self.is_transposed { (1, self.stride) } else { (self.stride, 1) }
    }
}

impl<'a, S: Stored> Matrix<'a, S> {
    /// The same matrix, where `S` is another name for `U`.
    pub(super) fn of<U: Stored>(self) -> Matrix<'a, U> {
        debug_assert_eq!(S::KIND, U::KIND, "elements are of the type that they are said to be");
        let Self { data, rows, columns, stride, is_transposed } = self;
        Matrix { data: bytemuck::cast_slice(data), rows, columns, stride, is_transposed }
    }
}

/// Whether a product overwrites its output or is accumulated into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// The product replaces what is there.
    Overwrite,
    /// The product is added to what is there.
    Accumulate,
}

/// How many threads work on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// All of the current pool.
    Pool,
    /// The calling one: for products that are themselves one of many tasks.
    One,
}
