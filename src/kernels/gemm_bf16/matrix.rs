//! ComputeDtype and outputs: matrices within slices.

use half::bf16;

/// The elements of an operand. An f32 operand is rounded to bf16 (to nearest, ties to even) while it is packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Elements<'a> {
    Bf16(&'a [bf16]),
    F32(&'a [f32]),
}

/// An operand: a matrix within a slice, row-major or the transposed view of a row-major one.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub(super) elements: Elements<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from one row of the stored matrix to its next; the other stride is 1.
    pub(super) stride: usize,
    /// Whether the stored rows are this matrix's columns.
    pub(super) is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A row-major (rows, columns) matrix at the beginning of a slice.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn new(data: &'a [bf16], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The first `columns` of a row-major matrix whose rows lie `stride` elements apart.
    ///
    /// # Panics
    /// If the rows overlap or the slice is too short.
    pub fn strided(data: &'a [bf16], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { elements: Elements::Bf16(data), rows, columns, stride, is_transposed: false }
    }

    /// As [`Matrix::new`] of f32 elements, which are rounded to bf16 on the way into the product.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn rounded(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::rounded_strided(data, rows, columns, columns)
    }

    /// As [`Matrix::strided`] of f32 elements, which are rounded to bf16 on the way into the product.
    ///
    /// # Panics
    /// If the rows overlap or the slice is too short.
    pub fn rounded_strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { elements: Elements::F32(data), rows, columns, stride, is_transposed: false }
    }

    /// The transposed matrix, over the same elements.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, is_transposed: !self.is_transposed, ..self }
    }
}

/// Where a product goes: the first columns of a row-major matrix.
#[derive(Debug)]
pub struct Output<'a> {
    pub(super) target: Target<'a>,
    /// Elements from one row to the next; 0 stands for the product's own width.
    pub(super) stride: usize,
}

#[derive(Debug)]
pub(super) enum Target<'a> {
    Set(&'a mut [f32]),
    Add(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

impl<'a> Output<'a> {
    /// Replaces what was there.
    pub fn set(c: &'a mut [f32]) -> Self {
        Self { target: Target::Set(c), stride: 0 }
    }

    /// Adds the product to what is there.
    pub fn add(c: &'a mut [f32]) -> Self {
        Self { target: Target::Add(c), stride: 0 }
    }

    /// Rounds the f32 sums once to bf16 and replaces what was there.
    pub fn bf16(c: &'a mut [bf16]) -> Self {
        Self { target: Target::Bf16(c), stride: 0 }
    }

    /// Lays the rows `stride` elements apart instead of side by side; elements between them stay as they are.
    pub fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Checks that a product of `rows` × `columns` fits, and gives the stride.
    pub(super) fn check(&self, rows: usize, columns: usize) -> usize {
        let len = match &self.target {
            Target::Set(c) | Target::Add(c) => c.len(),
            Target::Bf16(c) => c.len(),
        };
        let stride = if self.stride == 0 { columns } else { self.stride };
        check(len, rows, columns, stride);
        stride
    }
}

fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(stride >= columns, "rows of {columns} elements can't lie {stride} apart");
    assert!(
        len >= needed,
        "a matrix of {rows} × {columns} with rows {stride} apart needs {needed} elements, got {len}"
    );
}
