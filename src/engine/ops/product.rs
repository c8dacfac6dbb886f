//! Matrix products on any device, with operands as a precision wants them.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, DType, Error, Layout, MetalStorage, Result, Shape, Tensor, cuda,
};

use nanochat_kernels::gemm::ComputeDtype;

/// `a` (…, M, K) times `b` (…, K, N): (…, M, N), sums and result of the operands' own type.
///
/// With [`ComputeDtype::Bf16`] the operands of this product are rounded, and in its gradient those of the two products that it
/// takes: the incoming gradient, and the operands again. So the kernels do it (`super::kernels::gemm`).
///
/// # Errors
/// Shapes or types that don't fit, and what the device says.
pub fn product(a: &Tensor, b: &Tensor, compute_dtype: ComputeDtype) -> Result<Tensor> {
    match compute_dtype {
        ComputeDtype::Full => plain(a)?.matmul(&plain(b)?),
        ComputeDtype::Bf16 => a.apply_op2(b, RoundedProduct),
    }
}

/// A matrix laid out row by row or column by column with nothing between, copied where it isn't: cuBLAS takes no other.
fn plain(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() || x.t()?.is_contiguous() { Ok(x.clone()) } else { x.contiguous() }
}

struct RoundedProduct;

impl CustomOp2 for RoundedProduct {
    fn name(&self) -> &'static str {
        "product of compute_dtype rounded to bf16"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        multiply_rounded(a, la, b, lb)
    }

    fn cuda_fwd(&self, a: &CudaStorage, la: &Layout, b: &CudaStorage, lb: &Layout) -> Result<(CudaStorage, Shape)> {
        // TF32 holds a number of bf16 exactly, so that tensor cores may multiply rounded operands with nothing lost; the sums
        // are of f32. The setting is the process's: products of full operands, which it would round, come after.
        cuda::set_gemm_reduced_precision_f32(true);
        let result = multiply_rounded(a, la, b, lb);
        cuda::set_gemm_reduced_precision_f32(false);
        result
    }

    fn metal_fwd(&self, a: &MetalStorage, la: &Layout, b: &MetalStorage, lb: &Layout) -> Result<(MetalStorage, Shape)> {
        multiply_rounded(a, la, b, lb)
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, slopes: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let in_a = slopes.apply_op2_no_bwd(&b.t()?, &Self)?;
        let in_b = a.t()?.apply_op2_no_bwd(slopes, &Self)?;
        Ok((Some(in_a), Some(in_b)))
    }
}

fn multiply_rounded<S: BackendStorage>(a: &S, la: &Layout, b: &S, lb: &Layout) -> Result<(S, Shape)> {
    let (batch, rows, columns, inner) = fitting(la.shape(), lb.shape())?;
    let rounded = |storage: &S, layout: &Layout| {
        let contiguous = Layout::contiguous(layout.shape());
        Ok::<_, Error>((storage.to_dtype(layout, DType::BF16)?.to_dtype(&contiguous, storage.dtype())?, contiguous))
    };
    let ((a, la), (b, lb)) = (rounded(a, la)?, rounded(b, lb)?);
    let product = a.matmul(&b, (batch, rows, columns, inner), &la, &lb)?;
    let mut dims = la.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = columns;
    }
    Ok((product, dims.into()))
}

/// Number of products, and rows, columns and inner size of each.
fn fitting(a: &Shape, b: &Shape) -> Result<(usize, usize, usize, usize)> {
    match (a.dims(), b.dims()) {
        ([batch @ .., rows, inner], [other @ .., inner_too, columns]) if batch == other && inner == inner_too => {
            Ok((batch.iter().product(), *rows, *columns, *inner))
        }
        _ => Err(Error::ShapeMismatchBinaryOp { lhs: a.clone(), rhs: b.clone(), op: "product" }),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn rounded(x: &Tensor) -> Tensor {
        x.to_dtype(DType::BF16).unwrap().to_dtype(x.dtype()).unwrap()
    }

    fn elements(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Elements that bf16 doesn't hold, and some that lie just between two that it does.
    fn pair(dtype: DType) -> (Tensor, Tensor) {
        let a: Vec<f64> = (0..2 * 3 * 5).map(|i| (f64::from(i) * 0.7).sin() + f64::from(i % 3) / 512.0).collect();
        let b: Vec<f64> = (0..2 * 4 * 5).map(|i| (f64::from(i) * 1.3).cos() * 3.0).collect();
        let tensor = |values, dims: (usize, usize, usize)| {
            Tensor::from_vec(values, dims, &Device::Cpu).and_then(|tensor| tensor.to_dtype(dtype)).unwrap()
        };
        (tensor(a, (2, 3, 5)), tensor(b, (2, 4, 5)).t().unwrap())
    }

    #[test]
    fn operands_are_rounded_and_sums_are_not() {
        for dtype in [DType::F32, DType::F64] {
            let (a, b) = pair(dtype);
            let ours = product(&a, &b, ComputeDtype::Bf16).unwrap();
            let expected = rounded(&a).matmul(&rounded(&b).contiguous().unwrap()).unwrap();
            assert_eq!((ours.dims(), ours.dtype()), (expected.dims(), dtype));
            assert_eq!(elements(&ours), elements(&expected));
            assert_ne!(elements(&ours), elements(&rounded(&ours)), "the result was rounded");
            let full = product(&a, &b, ComputeDtype::Full).unwrap();
            assert_ne!(elements(&ours), elements(&full), "the compute_dtype were not rounded");
        }
    }

    #[test]
    fn gradients_are_products_of_rounded_operands() {
        let (a, b) = pair(DType::F64);
        let (a, b) = (Var::from_tensor(&a).unwrap(), Var::from_tensor(&b.contiguous().unwrap()).unwrap());
        let result = product(a.as_tensor(), b.as_tensor(), ComputeDtype::Bf16).unwrap();
        let slopes: Vec<f64> = (0..24).map(|i| (f64::from(i) * 0.37).cos()).collect();
        let slopes = Tensor::from_vec(slopes, (2, 3, 4), &Device::Cpu).unwrap();
        let store = (result * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
        let expected_a = rounded(&slopes).matmul(&rounded(&b).t().unwrap()).unwrap();
        let expected_b = rounded(&a).t().unwrap().matmul(&rounded(&slopes)).unwrap();
        assert_eq!(elements(store.get(&a).unwrap()), elements(&expected_a));
        assert_eq!(elements(store.get(&b).unwrap()), elements(&expected_b));
    }

    #[test]
    fn where_nothing_is_rounded_gradients_are_differences() {
        // Whole elements up to 255 are exact in bf16, and a product is linear in each operand: steps of 1 give it exactly.
        let whole =
            |count: i32, factor: i32| -> Vec<f64> { (0..count).map(|i| f64::from(i * factor % 17 - 8)).collect() };
        let tensor = |values: Vec<f64>, dims: (usize, usize)| Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
        let (a, b, slopes) = (whole(6, 7), whole(12, 5), tensor(whole(8, 3), (2, 4)));
        let value = |a: &[f64], b: &[f64]| {
            let product =
                product(&tensor(a.to_vec(), (2, 3)), &tensor(b.to_vec(), (3, 4)), ComputeDtype::Bf16).unwrap();
            (product * &slopes).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let differences = |at: &[f64], value: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
            let moved = |index: usize| {
                let mut moved = at.to_vec();
                moved[index] += 1.0;
                value(&moved) - value(at)
            };
            (0..at.len()).map(moved).collect()
        };
        let variables = (tensor(a.clone(), (2, 3)), tensor(b.clone(), (3, 4)));
        let variables = (Var::from_tensor(&variables.0).unwrap(), Var::from_tensor(&variables.1).unwrap());
        let result = product(&variables.0, &variables.1, ComputeDtype::Bf16).unwrap();
        let store = (result * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(elements(store.get(&variables.0).unwrap()), differences(&a, &|a| value(a, &b)));
        assert_eq!(elements(store.get(&variables.1).unwrap()), differences(&b, &|b| value(&a, b)));
    }

    #[test]
    fn matrices_within_others_are_copied_and_transposed_ones_are_not() {
        let whole = Tensor::arange(0f64, 60.0, &Device::Cpu).and_then(|x| x.reshape((3, 4, 5))).unwrap();
        let within = whole.narrow(2, 1, 3).unwrap();
        assert!(!within.is_contiguous() && plain(&within).unwrap().is_contiguous());
        let turned = whole.t().unwrap();
        assert_eq!(plain(&turned).unwrap().stride(), turned.stride());
        let ones = Tensor::ones((3, 3, 2), DType::F64, &Device::Cpu).unwrap();
        let sums = product(&within, &ones, ComputeDtype::Full).unwrap();
        let expected = within.sum_keepdim(2).unwrap().broadcast_as((3, 4, 2)).unwrap();
        assert_eq!(elements(&sums), elements(&expected));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        for (a, b) in [(vec![2, 3], vec![4, 5]), (vec![2, 2, 3], vec![3, 3, 4]), (vec![3], vec![3, 2])] {
            assert!(product(&zeros(&a), &zeros(&b), ComputeDtype::Bf16).is_err(), "{a:?} {b:?}");
        }
    }
}
