//! Matrix products by cuBLASLt.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, cublasLtReductionScheme_t, cudaDataType,
};
use nanochat_gpu::{Address, DeviceError, Dtype, Product};
use nanochat_plan::gpu::PRODUCT_WORKSPACE as WORKSPACE;

use crate::gpu::Gpu;
use crate::layout::{Layouts, Matrix};
use crate::ranks::{self, Form};
use crate::versions;

/// Most algorithms that are asked for.
const MOST_PROPOSALS: usize = 16;
/// `cublasOperation_t`: as it is, and transposed.
const OPERATIONS: [i32; 2] = [0, 1];

/// What descriptions are made for, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    layouts: Layouts,
    dtype: Dtype,
    out: Dtype,
    count: usize,
}

/// A product's descriptions, and the algorithms that cuBLASLt proposes, the best first.
#[derive(Debug)]
struct Prepared {
    product: Description,
    left: Layout,
    right: Layout,
    added: Layout,
    out: Layout,
    proposals: Vec<cublasLtMatmulHeuristicResult_t>,
    rank: usize,
}

/// cuBLASLt with its workspace.
#[derive(Debug)]
pub(crate) struct Products {
    handle: Handle,
    workspace: Address,
    gpu: String,
    version: String,
    prepared: HashMap<Key, Prepared>,
}

impl Products {
    /// The library must be there.
    pub(crate) fn new(gpu: &mut Gpu) -> Result<Self, DeviceError> {
        let handle = Handle(result::create_handle().map_err(|error| failed("opening cuBLASLt", error))?);
        let workspace = gpu.allocate(WORKSPACE)?;
        Ok(Self { handle, workspace, gpu: gpu.name.clone(), version: version(), prepared: HashMap::new() })
    }

    /// Version of cuBLASLt.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Multiplies in the stream's order.
    pub(crate) fn multiply(&mut self, gpu: &Gpu, product: &Product) -> Result<(), DeviceError> {
        let rank = self.prepare(product)?.rank;
        self.multiply_by(gpu, product, rank)
    }

    /// How many algorithms there are for a product.
    pub(crate) fn proposals(&mut self, product: &Product) -> Result<usize, DeviceError> {
        Ok(self.prepare(product)?.proposals.len())
    }

    /// Multiplies by the algorithm of that rank.
    pub(crate) fn multiply_by(&mut self, gpu: &Gpu, product: &Product, rank: usize) -> Result<(), DeviceError> {
        let (handle, workspace) = (self.handle.0, self.workspace);
        let prepared = self.prepare(product)?;
        let Some(proposal) = prepared.proposals.get(rank) else {
            let reason = format!("there are {} algorithms, not {}", prepared.proposals.len(), rank + 1);
            return Err(DeviceError::Failed { command: name(product), reason });
        };
        // Not read with a factor of 0, and then perhaps nowhere.
        let added = if product.beta == 0.0 { product.out.at } else { product.c };
        let at = |address: Address| address.0 as *const c_void;
        // SAFETY: descriptions and handle live as long as this. The matrices are the caller's, of the sizes that the layouts
        // tell; the workspace is as large as was said when the algorithm was asked for, and of one stream alone. Both factors
        // are read before this returns.
        unsafe {
            result::matmul(
                handle,
                prepared.product.0,
                (&raw const product.alpha).cast(),
                (&raw const product.beta).cast(),
                at(product.b.at),
                prepared.left.0,
                at(product.a.at),
                prepared.right.0,
                at(added),
                prepared.added.0,
                at(product.out.at).cast_mut(),
                prepared.out.0,
                &raw const proposal.algo,
                workspace.0 as *mut c_void,
                WORKSPACE,
                gpu.stream().cast(),
            )
        }
        .map_err(|error| failed(name(product), error))
    }

    fn prepare(&mut self, product: &Product) -> Result<&Prepared, DeviceError> {
        let layouts = Layouts::of(product).ok_or_else(|| DeviceError::Shape {
            what: format!("a product of {:?} and {:?} elements", product.a.taken(), product.b.taken()),
        })?;
        let key = Key { layouts, dtype: product.dtype, out: product.out.dtype, count: product.count };
        if !self.prepared.contains_key(&key) {
            let rank = ranks::rank(&self.gpu, &self.version, &Form::of(product));
            let made = Prepared::new(self.handle.0, &key, rank).map_err(|error| failed(name(product), error))?;
            self.prepared.insert(key, made);
        }
        Ok(&self.prepared[&key])
    }
}

impl Prepared {
    fn new(handle: cublasLtHandle_t, key: &Key, rank: usize) -> Result<Self, CublasError> {
        let Layouts { left, right, added, out } = key.layouts;
        let product = Description::new(&left, &right)?;
        let left_layout = Layout::new(&left, key.dtype, key.count)?;
        let right_layout = Layout::new(&right, key.dtype, key.count)?;
        let [added_layout, out_layout] =
            [Layout::new(&added, key.out, key.count)?, Layout::new(&out, key.out, key.count)?];
        let preference = Preference::new(&key.layouts)?;
        let layouts = [&left_layout, &right_layout, &added_layout, &out_layout].map(|layout| layout.0);
        let proposals = propose(handle, &product, layouts, &preference)?;
        // A finding of a rank that isn't proposed is of no use.
        let rank = if rank < proposals.len() { rank } else { 0 };
        Ok(Self {
            product,
            left: left_layout,
            right: right_layout,
            added: added_layout,
            out: out_layout,
            proposals,
            rank,
        })
    }
}

/// The algorithms that cuBLASLt proposes; at least one.
fn propose(
    handle: cublasLtHandle_t,
    product: &Description,
    [left, right, added, out]: [cublasLtMatrixLayout_t; 4],
    preference: &Preference,
) -> Result<Vec<cublasLtMatmulHeuristicResult_t>, CublasError> {
    let mut proposals = Vec::with_capacity(MOST_PROPOSALS);
    let mut count = 0;
    // SAFETY: all descriptions are alive; the library writes at most as many proposals as there is room for.
    unsafe {
        sys::cublasLtMatmulAlgoGetHeuristic(
            handle,
            product.0,
            left,
            right,
            added,
            out,
            preference.0,
            MOST_PROPOSALS as i32,
            proposals.as_mut_ptr(),
            &raw mut count,
        )
        .result()?;
        proposals.set_len(usize::try_from(count).unwrap_or(0).min(MOST_PROPOSALS));
    }
    proposals.retain(|proposal| proposal.state.result().is_ok());
    if proposals.is_empty() {
        Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED))
    } else {
        Ok(proposals)
    }
}

/// The library's handle.
#[derive(Debug)]
struct Handle(cublasLtHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created once by its owner, which has waited for the stream.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// A matrix by columns; several lie one after the other.
#[derive(Debug)]
struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    fn new(of: &Matrix, dtype: Dtype, count: usize) -> Result<Self, CublasError> {
        let (rows, columns) = (of.rows as u64, of.columns as u64);
        let layout = Self(result::create_matrix_layout(data_type(dtype), rows, columns, of.rows as i64)?);
        if count > 1 {
            use cublasLtMatrixLayoutAttribute_t as A;
            layout.set(A::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &(count as i32))?;
            layout.set(A::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &(of.elements() as i64))?;
        }
        Ok(layout)
    }

    fn set<T>(&self, what: cublasLtMatrixLayoutAttribute_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the layout is alive, and the library copies as many bytes as the value has.
        unsafe { result::set_matrix_layout_attribute(self.0, what, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created once by `new`.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// How a product computes: operands as they are or transposed, sums in f32 without rounding operands (TF32 is off).
#[derive(Debug)]
struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn new(left: &Matrix, right: &Matrix) -> Result<Self, CublasError> {
        let compute = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Self(result::create_matmul_desc(compute, cudaDataType::CUDA_R_32F)?);
        use cublasLtMatmulDescAttributes_t as A;
        description.set(A::CUBLASLT_MATMUL_DESC_TRANSA, &OPERATIONS[usize::from(left.transposed)])?;
        description.set(A::CUBLASLT_MATMUL_DESC_TRANSB, &OPERATIONS[usize::from(right.transposed)])?;
        Ok(description)
    }

    fn set<T>(&self, what: cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the description is alive, and the library copies as many bytes as the value has.
        unsafe { result::set_matmul_desc_attribute(self.0, what, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created once by `new`.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// What algorithms must keep to.
#[derive(Debug)]
struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn new(layouts: &Layouts) -> Result<Self, CublasError> {
        let preference = Self(result::create_matmul_pref()?);
        use cublasLtMatmulPreferenceAttributes_t as A;
        preference.set(A::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        // Parts of a sum are added in f32, apart from the result, so that it is rounded once.
        let apart = cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(A::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &apart)?;
        preference.set(A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &layouts.left.alignment)?;
        preference.set(A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &layouts.right.alignment)?;
        preference.set(A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &layouts.added.alignment)?;
        preference.set(A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &layouts.out.alignment)?;
        Ok(preference)
    }

    fn set<T>(&self, what: cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the preference is alive, and the library copies as many bytes as the value has.
        unsafe { result::set_matmul_pref_attribute(self.0, what, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created once by `new`.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn data_type(dtype: Dtype) -> cudaDataType {
    match dtype {
        Dtype::F32 => cudaDataType::CUDA_R_32F,
        Dtype::Bf16 => cudaDataType::CUDA_R_16BF,
    }
}

fn name(product: &Product) -> String {
    let ([rows, inner], [_, columns]) = (product.a.taken(), product.b.taken());
    let count = if product.count == 1 { String::new() } else { format!("{} times ", product.count) };
    format!("the product {count}{rows} × {inner} × {columns}")
}

fn failed(command: impl Into<String>, error: CublasError) -> DeviceError {
    // SAFETY: the library gives a text that ends in a NUL and stays.
    let text = unsafe { CStr::from_ptr(sys::cublasLtGetStatusString(error.0)) };
    DeviceError::Failed { command: command.into(), reason: format!("cuBLASLt: {}", text.to_string_lossy()) }
}

fn version() -> String {
    // SAFETY: the library is there, and gives a number.
    versions::version(unsafe { sys::cublasLtGetVersion() })
}
