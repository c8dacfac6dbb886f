//! Elements of candle tensors as slices.

use std::cell::RefCell;
use std::marker::PhantomData;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use nanochat_kernels as kernels;

/// A float type of the kernels that candle stores.
pub trait Element: kernels::Element {
    /// The type as candle names it.
    const DTYPE: DType;

    /// The elements of a storage of this type.
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    /// The elements of a storage of this type, to be changed.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored_by_candle {
    ($type:ty, $name:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$name;

            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$name(values) = storage { Some(values) } else { None }
            }

            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$name(values) = storage { Some(values) } else { None }
            }
        }
    };
}

stored_by_candle!(f32, F32);
stored_by_candle!(f64, F64);

/// Calls `work` with the elements of contiguous CPU tensors.
pub fn with_slices<T: Element, R>(tensors: &[&Tensor], work: impl FnOnce(&[&[T]]) -> R) -> Result<R> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let slices: Vec<&[T]> = (guards.iter())
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => contiguous(T::slice(storage), layout),
            _ => bail!("a kernel for the CPU got a tensor of another device"),
        })
        .collect::<Result<_>>()?;
    Ok(work(&slices))
}

/// Calls `work` with the elements of a contiguous CPU tensor, to be changed in place.
pub fn update<T: Element, R>(tensor: &Tensor, work: impl FnOnce(&mut [T]) -> R) -> Result<R> {
    let update = Update { work: RefCell::new(Some(work)), result: RefCell::new(None), element: PhantomData::<T> };
    tensor.inplace_op1(&update)?;
    match update.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!("an in-place operation was not carried out"),
    }
}

/// The part of a storage that a contiguous layout names.
fn contiguous<'a, T>(elements: Option<&'a [T]>, layout: &Layout) -> Result<&'a [T]> {
    match (elements, layout.contiguous_offsets()) {
        (Some(elements), Some((start, end))) => Ok(&elements[start..end]),
        (None, _) => bail!("a kernel got a tensor of another type"),
        (_, None) => bail!("a kernel needs a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// An in-place operation that runs a closure once.
struct Update<T, F, R> {
    work: RefCell<Option<F>>,
    result: RefCell<Option<R>>,
    element: PhantomData<T>,
}

impl<T: Element, R, F: FnOnce(&mut [T]) -> R> InplaceOp1 for Update<T, F, R> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a kernel needs a contiguous tensor, got strides {:?}", layout.stride());
        };
        match (T::slice_mut(storage), self.work.take()) {
            (Some(elements), Some(work)) => self.result.replace(Some(work(&mut elements[start..end]))),
            _ => bail!("a kernel got a tensor of another type"),
        };
        Ok(())
    }
}
