//! Writes `.pt` files as `torch.save` lays them out, so that `torch.load` takes them with `weights_only=True`: one pickle
//! (protocol 2) that describes tensors, one entry of raw little-endian bytes a tensor.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};

use super::TorchValue;
use super::archive_writer::ArchiveWriter;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::tensors::with_bytes;

/// Writes a value to a new `.pt` file and syncs it.
///
/// # Errors
/// The file exists or can't be written, or a tensor is of a type that PyTorch has no storage for.
pub fn write_torch_file(path: &Path, value: &TorchValue) -> Result<(), CheckpointError> {
    let mut pickle = Pickling { out: vec![0x80, 2], tensors: Vec::new() };
    pickle.value(value)?;
    pickle.out.push(b'.');
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = File::options().write(true).create_new(true).open(path).map_err(CheckpointError::io("create", path))?;
    let mut archive = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, file));
    let written = |result: io::Result<()>| result.map_err(CheckpointError::io("write", path));
    written(archive.add(&format!("{stem}/data.pkl"), &pickle.out))?;
    written(archive.add(&format!("{stem}/byteorder"), b"little"))?;
    for (key, tensor) in pickle.tensors.iter().enumerate() {
        let name = format!("{stem}/data/{key}");
        with_bytes(&name, tensor, |bytes| written(archive.add(&name, bytes)))?;
    }
    written(archive.add(&format!("{stem}/version"), b"3\n"))?;
    let synced = archive.finish().and_then(|mut out| {
        out.flush()?;
        out.get_ref().sync_all()
    });
    synced.map_err(CheckpointError::io("write", path))
}

/// A pickle being written, and the tensors that it names by their place.
struct Pickling<'a> {
    out: Vec<u8>,
    tensors: Vec<&'a Tensor>,
}

impl<'a> Pickling<'a> {
    fn value(&mut self, value: &'a TorchValue) -> Result<(), CheckpointError> {
        match value {
            TorchValue::None => self.out.push(b'N'),
            TorchValue::Bool(value) => self.out.push(if *value { 0x88 } else { 0x89 }),
            TorchValue::Int(value) => self.int(*value),
            TorchValue::Float(value) => {
                self.out.push(b'G');
                self.out.extend(value.to_be_bytes());
            }
            TorchValue::Text(text) => self.text(text),
            TorchValue::Tensor(tensor) => self.tensor(tensor)?,
            TorchValue::List(items) => {
                self.out.extend(b"](");
                items.iter().try_for_each(|item| self.value(item))?;
                self.out.push(b'e');
            }
            TorchValue::Dict(entries) => {
                self.out.extend(b"}(");
                for (key, value) in entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.out.push(b'u');
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'X');
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => {
                self.out.push(b'J');
                self.out.extend(small.to_le_bytes());
            }
            Err(_) => {
                self.out.extend([0x8a, 8]);
                self.out.extend(value.to_le_bytes());
            }
        }
    }

    fn name(&mut self, module: &str, name: &str) {
        self.out.push(b'c');
        self.out.extend(format!("{module}\n{name}\n").into_bytes());
    }

    fn tuple(&mut self, numbers: &[usize]) {
        self.out.push(b'(');
        numbers.iter().for_each(|number| self.int(*number as i64));
        self.out.push(b't');
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, tensor: &'a Tensor) -> Result<(), CheckpointError> {
        let key = self.tensors.len().to_string();
        let class = storage_class(tensor.dtype()).ok_or_else(|| {
            CheckpointError::tensor(&key, format!("PyTorch stores no elements of type {}", tensor.dtype().as_str()))
        })?;
        self.tensors.push(tensor);
        self.name("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(b"((");
        self.text("storage");
        self.name("torch", class);
        self.text(&key);
        self.text("cpu");
        self.int(tensor.elem_count() as i64);
        self.out.extend(b"tQ");
        self.int(0);
        self.tuple(tensor.dims());
        self.tuple(&row_major_strides(tensor.dims()));
        self.out.push(0x89);
        self.name("collections", "OrderedDict");
        self.out.extend(b")RtR");
        Ok(())
    }
}

/// Elements from one entry of each dimension to the next.
fn row_major_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> =
        (dims.iter().rev()).scan(1, |stride, &size| Some(std::mem::replace(stride, *stride * size.max(1)))).collect();
    strides.reverse();
    strides
}

/// Storage class of an element type.
fn storage_class(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "FloatStorage",
        DType::F64 => "DoubleStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::U8 => "ByteStorage",
        DType::I16 => "ShortStorage",
        DType::I32 => "IntStorage",
        DType::I64 => "LongStorage",
        _ => return None,
    })
}
