//! What products take and give: operands in f32 or in bf16, and sums that are kept in f32 or rounded to bf16.

use half::bf16;

use crate::Stored;
use crate::element::Kind;
use crate::matrix::Matrix;

/// An operand.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// To be rounded while it is packed.
    F32(Matrix<'a, f32>),
    /// As it is multiplied.
    Bf16(Matrix<'a, bf16>),
}

impl<'a> Source<'a> {
    /// A matrix of f32 or bf16.
    pub fn of<S: Stored>(matrix: Matrix<'a, S>) -> Self {
        match S::KIND {
            Kind::F32 => Self::F32(matrix.of()),
            Kind::Bf16 => Self::Bf16(matrix.of()),
            Kind::F64 => unreachable!("products of f64 are in f64"),
        }
    }

    pub fn rows(&self) -> usize {
        match self {
            Self::F32(matrix) => matrix.rows,
            Self::Bf16(matrix) => matrix.rows,
        }
    }

    pub fn columns(&self) -> usize {
        match self {
            Self::F32(matrix) => matrix.columns,
            Self::Bf16(matrix) => matrix.columns,
        }
    }

    pub fn is_transposed(&self) -> bool {
        match self {
            Self::F32(matrix) => matrix.is_transposed,
            Self::Bf16(matrix) => matrix.is_transposed,
        }
    }
}

/// Evaluates an expression for the matrix of an operand, whichever its type is.
macro_rules! with_elements {
    ($source:expr, $matrix:ident => $work:expr) => {
        match $source {
            $crate::gemm_bf16::operands::Source::F32($matrix) => $work,
            $crate::gemm_bf16::operands::Source::Bf16($matrix) => $work,
        }
    };
}
pub(super) use with_elements;

/// Where a product is written, row-major.
#[derive(Debug)]
pub enum Output<'a> {
    /// In full.
    F32(&'a mut [f32]),
    /// Rounded once.
    Bf16(&'a mut [bf16]),
}

impl<'a> Output<'a> {
    /// Elements of f32 or bf16.
    pub fn of<S: Stored>(elements: &'a mut [S]) -> Self {
        match S::KIND {
            Kind::F32 => Self::F32(bytemuck::cast_slice_mut(elements)),
            Kind::Bf16 => Self::Bf16(bytemuck::cast_slice_mut(elements)),
            Kind::F64 => unreachable!("products of f64 are in f64"),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::F32(elements) => elements.len(),
            Self::Bf16(elements) => elements.len(),
        }
    }

    /// Sets the first elements to 0.
    pub fn clear(self, count: usize) {
        match self {
            Self::F32(elements) => elements[..count].fill(0.0),
            Self::Bf16(elements) => elements[..count].fill(bf16::ZERO),
        }
    }

    /// Where it begins.
    pub fn place(self) -> Place {
        match self {
            Self::F32(elements) => Place::F32(elements.as_mut_ptr()),
            Self::Bf16(elements) => Place::Bf16(elements.as_mut_ptr()),
        }
    }
}

/// The first element of an output, of which tasks write disjoint rectangles.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    F32(*mut f32),
    Bf16(*mut bf16),
}
