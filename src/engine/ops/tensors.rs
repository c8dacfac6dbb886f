//! Elements of candle tensors as slices.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use nanochat_kernels as kernels;

/// A float type of the kernels that candle stores.
pub trait Element: kernels::Element {
    /// The type as candle names it.
    const DTYPE: DType;

    /// The elements of a storage of this type.
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
}

macro_rules! stored_by_candle {
    ($type:ty, $name:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$name;

            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
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

/// The part of a storage that a contiguous layout names.
fn contiguous<'a, T>(elements: Option<&'a [T]>, layout: &Layout) -> Result<&'a [T]> {
    match (elements, layout.contiguous_offsets()) {
        (Some(elements), Some((start, end))) => Ok(&elements[start..end]),
        (None, _) => bail!("a kernel got a tensor of another type"),
        (_, None) => bail!("a kernel needs a contiguous tensor, got strides {:?}", layout.stride()),
    }
}
