//! Tensors to safetensors bytes and back, without a second copy of a whole group in memory, and their hash.
//!
//! The format: <https://github.com/huggingface/safetensors>, little-endian, row-major.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use nanochat_artifacts::files;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use crate::cache::hex;

/// What can be stored: a tensor of some device, or elements that somebody keeps.
pub trait Stored {
    /// Its element type.
    fn dtype(&self) -> DType;

    /// Its dimensions.
    fn dims(&self) -> &[usize];

    /// Hands its elements, row-major and little-endian, to `use_bytes`.
    fn with_bytes(
        &self,
        name: &str,
        use_bytes: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError>;
}

impl Stored for Tensor {
    fn dtype(&self) -> DType {
        self.dtype()
    }

    fn dims(&self) -> &[usize] {
        self.dims()
    }

    fn with_bytes(
        &self,
        name: &str,
        use_bytes: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        with_bytes(name, self, use_bytes)
    }
}

/// A tensor, or f32 elements of an engine's memory, which are stored without a copy.
#[derive(Debug, Clone)]
pub enum StoredTensor<'a> {
    /// A tensor.
    Tensor(Tensor),
    /// Elements on the host, row-major.
    Elements {
        /// Dimensions.
        dims: Vec<usize>,
        /// As many elements as they say.
        elements: &'a [f32],
    },
}

impl StoredTensor<'_> {
    /// The elements in f32.
    pub fn elements(&self) -> Result<Cow<'_, [f32]>, candle_core::Error> {
        match self {
            Self::Tensor(tensor) => Ok(Cow::Owned(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)),
            Self::Elements { elements, .. } => Ok(Cow::Borrowed(elements)),
        }
    }

    /// The same as a tensor on the CPU, or where it is.
    pub fn to_tensor(&self) -> Result<Tensor, candle_core::Error> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Elements { dims, elements } => Tensor::from_slice(elements, dims.as_slice(), &Device::Cpu),
        }
    }
}

impl Stored for StoredTensor<'_> {
    fn dtype(&self) -> DType {
        match self {
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Elements { .. } => DType::F32,
        }
    }

    fn dims(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.dims(),
            Self::Elements { dims, .. } => dims,
        }
    }

    fn with_bytes(
        &self,
        name: &str,
        use_bytes: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        match self {
            Self::Tensor(tensor) => with_bytes(name, tensor, use_bytes),
            Self::Elements { elements, .. } => use_bytes(bytemuck::cast_slice(elements)),
        }
    }
}

/// Named tensors.
pub(super) type Group<T = Tensor> = BTreeMap<String, T>;

/// SHA-256 over names, element types, shapes and bytes in name order, as 64 hex digits: the hash of a set of weights.
///
/// Two sets have one hash exactly when every tensor is bitwise the same, wherever the tensors live. Each tensor
/// contributes its name, a zero byte, its element type (`f32`), a zero byte, its rank and dimensions as 64-bit
/// little-endian integers, and its elements, row-major and little-endian.
pub fn tensors_sha256<T: Stored>(tensors: &BTreeMap<String, T>) -> Result<String, CheckpointError> {
    let mut hasher = Sha256::new();
    for (name, tensor) in tensors {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update(tensor.dtype().as_str());
        hasher.update([0]);
        hasher.update((tensor.dims().len() as u64).to_le_bytes());
        for &dimension in tensor.dims() {
            hasher.update((dimension as u64).to_le_bytes());
        }
        tensor.with_bytes(name, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    Ok(hex(&hasher.finalize()))
}

/// Writes named tensors as a new safetensors file and syncs it.
///
/// # Errors
/// The file exists or can't be written; a tensor that can't be stored.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    check(tensors)?;
    let file = File::options().write(true).create_new(true).open(path).map_err(CheckpointError::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(tensors, &mut out).and_then(|()| out.flush()).and_then(|()| out.get_ref().sync_all());
    written.map_err(CheckpointError::io("write", path))
}

/// Reads a safetensors file onto a device.
///
/// # Errors
/// The file can't be read, or is no safetensors file.
pub fn load_tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let bytes = files::read_named(path, u64::MAX - 1).map_err(CheckpointError::io("read", path))?;
    read(&bytes, device).map_err(|reason| CheckpointError::Damaged { path: path.to_path_buf(), reason })
}

/// Refuses what can't be stored, before anything is written.
pub(super) fn check<T: Stored>(group: &Group<T>) -> Result<(), CheckpointError> {
    for (name, tensor) in group {
        dtype_name(tensor.dtype()).ok_or_else(|| unsupported(name, tensor.dtype()))?;
        if name == "__metadata__" {
            return Err(CheckpointError::Name { name: name.clone(), reason: "safetensors reserves this name" });
        }
    }
    Ok(())
}

/// Writes a group as one safetensors file.
pub(super) fn write<T: Stored>(group: &Group<T>, out: &mut dyn Write) -> io::Result<()> {
    // Wider elements first, then by name, so that every tensor lies at a multiple of its element size.
    let mut ordered: Vec<(&String, &T)> = group.iter().collect();
    ordered.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_in_bytes()), name.as_str()));
    let mut header = serde_json::Map::new();
    let mut offset = 0usize;
    for (name, tensor) in &ordered {
        let end = offset + tensor.dims().iter().product::<usize>() * tensor.dtype().size_in_bytes();
        let entry = serde_json::json!({
            "dtype": dtype_name(tensor.dtype()).unwrap_or_default(),
            "shape": tensor.dims(),
            "data_offsets": [offset, end],
        });
        header.insert((*name).clone(), entry);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (name, tensor) in ordered {
        let mut outcome = Ok(());
        let written = tensor.with_bytes(name, &mut |bytes| {
            outcome = out.write_all(bytes);
            Ok(())
        });
        written.map_err(io::Error::other)?;
        outcome?;
    }
    Ok(())
}

/// Reads a safetensors file's bytes onto a device.
pub(super) fn read(bytes: &[u8], device: &Device) -> Result<Group, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut group = Group::new();
    for (name, view) in file.iter() {
        let dtype = candle_dtype(view.dtype())
            .ok_or_else(|| format!("tensor `{name}` has the unsupported type {:?}", view.dtype()))?;
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)
            .map_err(|error| format!("tensor `{name}`: {error}"))?;
        group.insert(name.to_string(), tensor);
    }
    Ok(group)
}

/// Hands the tensor's elements, row-major and little-endian, to `use_bytes`.
pub fn with_bytes(
    name: &str,
    tensor: &Tensor,
    use_bytes: impl FnOnce(&[u8]) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let on_cpu = tensor
        .to_device(&Device::Cpu)
        .and_then(|tensor| tensor.contiguous())
        .map_err(|error| CheckpointError::operation(name, error))?;
    let (storage, layout) = on_cpu.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(CheckpointError::tensor(name, "it stayed on the device"));
    };
    let (start, end) = (layout.start_offset(), layout.start_offset() + layout.shape().elem_count());
    let bytes: Option<&[u8]> = match storage {
        CpuStorage::U8(values) => values.get(start..end),
        CpuStorage::U32(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::I16(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::I32(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::I64(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::F32(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::F64(values) => values.get(start..end).map(bytemuck::cast_slice),
        CpuStorage::BF16(values) => {
            let bits: Vec<u16> =
                values.get(start..end).unwrap_or_default().iter().map(|value| value.to_bits()).collect();
            return use_bytes(bytemuck::cast_slice(&bits));
        }
        CpuStorage::F16(values) => {
            let bits: Vec<u16> =
                values.get(start..end).unwrap_or_default().iter().map(|value| value.to_bits()).collect();
            return use_bytes(bytemuck::cast_slice(&bits));
        }
        _ => return Err(unsupported(name, tensor.dtype())),
    };
    use_bytes(bytes.ok_or_else(|| CheckpointError::tensor(name, "its layout goes past its storage"))?)
}

fn unsupported(name: &str, dtype: DType) -> CheckpointError {
    CheckpointError::tensor(name, format!("elements of type {} cannot be stored", dtype.as_str()))
}

/// The format's name of an element type; none for those that aren't stored.
fn dtype_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::BF16 => "BF16",
        DType::F16 => "F16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        _ => return None,
    })
}

/// The inverse of [`dtype_name`].
fn candle_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}
