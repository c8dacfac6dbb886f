//! Products of row-major matrices as cuBLASLt takes them, column by column.
//!
//! A row-major matrix is, read by columns, its transpose. So `C = A B` by rows is `Cᵀ = Bᵀ Aᵀ` by columns: the operands change
//! places, and nothing is moved.

use nanochat_gpu::{Address, Operand, Product};

/// A matrix read by columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Matrix {
    /// Its rows, which lie next to each other.
    pub(crate) rows: usize,
    /// Its columns.
    pub(crate) columns: usize,
    /// Whether the product takes it transposed.
    pub(crate) transposed: bool,
    /// The power of two that its address is a multiple of, at most [`MOST_ALIGNED`]; of several matrices, all addresses.
    pub(crate) alignment: u32,
}

/// No library asks for more.
const MOST_ALIGNED: u32 = 256;

impl Matrix {
    fn of(operand: &Operand, of: &Product) -> Self {
        let (rows, columns) = (operand.columns, operand.rows);
        let alignment = alignment(operand.at, of.count, rows * columns * of.dtype.bytes());
        Self { rows, columns, transposed: operand.transposed, alignment }
    }

    /// Elements from one matrix of a batch to the next.
    pub(crate) fn elements(&self) -> usize {
        self.rows * self.columns
    }
}

/// Sizes of a product by columns: left, right, what is added, result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Layouts {
    pub(crate) left: Matrix,
    pub(crate) right: Matrix,
    pub(crate) added: Matrix,
    pub(crate) out: Matrix,
}

impl Layouts {
    /// None where the operands' sizes don't meet.
    pub(crate) fn of(product: &Product) -> Option<Self> {
        let ([rows, inner], [other, columns]) = (product.a.taken(), product.b.taken());
        let bytes = rows * columns * product.out.dtype.bytes();
        let aligned = |at| alignment(at, product.count, bytes);
        let out = |at| Matrix { rows: columns, columns: rows, transposed: false, alignment: aligned(at) };
        let (left, right) = (Matrix::of(&product.b, product), Matrix::of(&product.a, product));
        let layouts = Self { left, right, added: out(product.c), out: out(product.out.at) };
        (inner == other && rows * columns * inner > 0).then_some(layouts)
    }
}

/// The power of two that the addresses of `count` matrices of so many bytes are multiples of, up to what matters.
fn alignment(at: Address, count: usize, bytes: usize) -> u32 {
    let apart = if count > 1 { bytes as u64 } else { 0 };
    // Of 0 all bits are.
    let zeros = at.0.trailing_zeros().min(apart.trailing_zeros());
    (1 << zeros.min(31)).min(MOST_ALIGNED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanochat_gpu::{Dtype, Output};

    /// An element of a matrix that is read by columns, as the product takes it.
    fn at(of: &Matrix, elements: &[f64], row: usize, column: usize) -> f64 {
        let (row, column) = if of.transposed { (column, row) } else { (row, column) };
        elements[column * of.rows + row]
    }

    #[test]
    fn by_columns_the_same_numbers_come_out() {
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            let (rows, inner, columns) = (2, 3, 4);
            let operand = |rows, columns, transposed| {
                let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
                Operand { at: Address(48), rows, columns, transposed }
            };
            let product = Product {
                dtype: Dtype::F32,
                a: operand(rows, inner, a_transposed),
                b: operand(inner, columns, b_transposed),
                c: Address::NOWHERE,
                out: Output { at: Address(4), dtype: Dtype::F32 },
                count: 1,
                alpha: 1.0,
                beta: 0.0,
            };
            let a: Vec<f64> = (0..rows * inner).map(|place| (place * place) as f64).collect();
            let b: Vec<f64> = (0..inner * columns).map(|place| (3 * place + 1) as f64).collect();
            let by_rows = |operand: &Operand, elements: &[f64], row: usize, column: usize| {
                let (row, column) = if operand.transposed { (column, row) } else { (row, column) };
                elements[row * operand.columns + column]
            };
            let layouts = Layouts::of(&product).unwrap();
            for row in 0..rows {
                for column in 0..columns {
                    let expected: f64 =
                        (0..inner).map(|i| by_rows(&product.a, &a, row, i) * by_rows(&product.b, &b, i, column)).sum();
                    // The result's row by rows is its column by columns.
                    let found: f64 =
                        (0..inner).map(|i| at(&layouts.left, &b, column, i) * at(&layouts.right, &a, i, row)).sum();
                    assert_eq!(found, expected, "{product:?}");
                }
            }
            assert_eq!((layouts.out.rows, layouts.out.columns, layouts.out.elements()), (columns, rows, 8));
            assert_eq!([layouts.left.alignment, layouts.out.alignment, layouts.added.alignment], [16, 4, 256]);
        }
    }

    #[test]
    fn of_several_matrices_all_are_aligned() {
        assert_eq!(alignment(Address(1 << 20), 1, 144), 256);
        assert_eq!(alignment(Address(1 << 20), 3, 144), 16);
        assert_eq!(alignment(Address(4), 3, 144), 4);
        assert_eq!(alignment(Address::NOWHERE, 1, 144), 256);
    }

    #[test]
    fn operands_that_dont_meet_are_refused() {
        let side = |rows, columns| Operand { at: Address(256), rows, columns, transposed: false };
        let out = Output { at: Address(256), dtype: Dtype::F32 };
        let product = |a, b| {
            let product = Product { dtype: Dtype::F32, a, b, c: Address(256), out, count: 1, alpha: 1.0, beta: 0.0 };
            Layouts::of(&product)
        };
        assert!(product(side(2, 3), side(3, 4)).is_some());
        assert_eq!(product(side(2, 3), side(4, 3)), None);
        assert_eq!(product(side(2, 0), side(0, 3)), None);
    }
}
