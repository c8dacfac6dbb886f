//! Products of matrices, in f32.

use nanochat_gpu::{Operand, Product};
use nanochat_kernels::gemm::{ComputeDtype, Matrix, Threads, WriteMode, multiply as multiply_f32};

use crate::memory::Memory;

pub(crate) fn multiply(memory: &mut Memory, product: &Product) {
    let Product { dtype, a, b, c, out, count, alpha, beta } = *product;
    let ([rows, inner], [inner_b, columns]) = (a.taken(), b.taken());
    assert_eq!(inner, inner_b, "a product of {a:?} and {b:?}");
    let size = rows * columns;
    for number in 0..count {
        let read = |operand: Operand| {
            let elements = operand.rows * operand.columns;
            memory.read(operand.at.plus(number * elements * dtype.bytes()), elements, dtype)
        };
        let (left, right) = (read(a), read(b));
        let mut sums = vec![0.0f32; size];
        let taken = |elements, operand: Operand| {
            let matrix = Matrix::new(elements, operand.rows, operand.columns);
            if operand.transposed { matrix.transposed() } else { matrix }
        };
        let (left, right) = (taken(&left, a), taken(&right, b));
        multiply_f32(&mut sums, left, right, WriteMode::Overwrite, Threads::One, ComputeDtype::Full);
        let offset = number * size * out.dtype.bytes();
        if beta == 0.0 {
            sums.iter_mut().for_each(|sum| *sum *= alpha);
        } else {
            let added = memory.read(c.plus(offset), size, out.dtype);
            sums.iter_mut().zip(added).for_each(|(sum, added)| *sum = alpha * *sum + beta * added);
        }
        memory.write(out.at.plus(offset), &sums, out.dtype);
    }
}
