//! Which of the algorithms that cuBLASLt proposes for a product is taken.
//!
//! It proposes several, the one first that it expects to be the fastest. That one is taken, unless a measurement found another:
//! such findings stand in [`FOUND`], by GPU, version and form. Nothing is tried out while a run goes on, so that a run
//! takes the same algorithms every time.

use nanochat_gpu::{Dtype, Product};

/// A measurement's finding.
#[derive(Debug, Clone, Copy)]
struct Found {
    gpu: &'static str,
    /// Version of cuBLASLt.
    version: &'static str,
    form: Form,
    /// The proposal's place.
    rank: usize,
}

/// What cuBLASLt chooses by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Rows, inner size and columns of the product, and how many there are.
    pub(crate) sizes: [usize; 4],
    /// Whether the left and the right operand are taken transposed.
    pub(crate) transposed: [bool; 2],
    /// How operands and result are stored.
    pub(crate) dtypes: [Dtype; 2],
}

impl Form {
    pub(crate) fn of(product: &Product) -> Self {
        let ([rows, inner], [_, columns]) = (product.a.taken(), product.b.taken());
        Self {
            sizes: [rows, inner, columns, product.count],
            transposed: [product.a.transposed, product.b.transposed],
            dtypes: [product.dtype, product.out.dtype],
        }
    }
}

/// What `nanochat bench gpu` found, one line a product; none yet.
const FOUND: &[Found] = &[];

/// The place of the proposal that is taken.
pub(crate) fn rank(gpu: &str, version: &str, form: &Form) -> usize {
    rank_in(FOUND, gpu, version, form)
}

fn rank_in(found: &[Found], gpu: &str, version: &str, form: &Form) -> usize {
    let fits = |entry: &&Found| entry.gpu == gpu && entry.version == version && entry.form == *form;
    found.iter().find(fits).map_or(0, |entry| entry.rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanochat_gpu::{Address, Operand, Output};

    #[test]
    fn a_finding_holds_for_its_gpu_version_and_form_alone() {
        let operand = |rows, columns, transposed| Operand { at: Address(256), rows, columns, transposed };
        let form = Form::of(&Product {
            dtype: Dtype::Bf16,
            a: operand(8, 16, false),
            b: operand(24, 16, true),
            c: Address(256),
            out: Output { at: Address(256), dtype: Dtype::F32 },
            count: 1,
            alpha: 1.0,
            beta: 1.0,
        });
        assert_eq!(form.sizes, [8, 16, 24, 1]);
        let found = [Found { gpu: "NVIDIA H100", version: "13.1.0", form, rank: 3 }];
        assert_eq!(rank_in(&found, "NVIDIA H100", "13.1.0", &form), 3);
        assert_eq!(rank_in(&found, "NVIDIA H200", "13.1.0", &form), 0);
        assert_eq!(rank_in(&found, "NVIDIA H100", "13.2.0", &form), 0);
        assert_eq!(rank_in(&found, "NVIDIA H100", "13.1.0", &Form { transposed: [true, true], ..form }), 0);
        assert_eq!(rank("NVIDIA H100", "13.1.0", &form), 0);
    }
}
