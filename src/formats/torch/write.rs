//! Writes `.pt` files as `torch.save` lays them out, so that `torch.load` takes them with `weights_only=True`: one pickle
//! (protocol 2) that describes tensors, one entry of raw little-endian bytes for each tensor.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZIP64_BYTES_THR, ZipWriter};

use super::{STORAGES, TorchValue};
use crate::FormatError;
use crate::pickle::PickleWriter;
use crate::pickle::opcode::*;

/// PyTorch maps storages into memory, for which it wants them aligned so.
const ALIGNMENT: u16 = 64;

/// Writes a value to a new `.pt` file and syncs it.
///
/// # Errors
/// The file exists or can't be written, or a tensor is of a type that PyTorch has no storage for.
pub fn write_torch_file(path: &Path, value: &TorchValue) -> Result<(), FormatError> {
    let mut pickling = Pickling { pickle: PickleWriter::new(2), tensors: Vec::new() };
    pickling.value(value).map_err(|reason| FormatError::Unwritable { path: path.into(), reason })?;
    let file = File::options().write(true).create_new(true).open(path).map_err(FormatError::io("create", path))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    write_archive(file, &stem, pickling).map_err(FormatError::io("write", path))
}

fn write_archive(file: File, stem: &str, pickling: Pickling<'_>) -> io::Result<()> {
    let mut archive = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let mut add = |name: &str, length: usize, content: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        archive.start_file(format!("{stem}/{name}"), options(length))?;
        let mut out = BufWriter::with_capacity(1 << 20, &mut archive);
        content(&mut out)?;
        out.flush()
    };
    let pickle = pickling.pickle.finish();
    add("data.pkl", pickle.len(), &|out| out.write_all(&pickle))?;
    add("byteorder", 6, &|out| out.write_all(b"little"))?;
    for (key, tensor) in pickling.tensors.iter().enumerate() {
        let length = tensor.elem_count() * tensor.dtype().size_in_bytes();
        add(&format!("data/{key}"), length, &|mut out| tensor.write_bytes(&mut out).map_err(io::Error::other))?;
    }
    add("version", 2, &|out| out.write_all(b"3\n"))?;
    archive.finish()?.into_inner()?.sync_all()
}

/// A stored and aligned entry, with 64-bit lengths where it needs them.
pub(super) fn options(length: usize) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT)
        .large_file(length as u64 >= ZIP64_BYTES_THR)
}

/// A pickle being written, and the tensors that it names by their place.
struct Pickling<'a> {
    pickle: PickleWriter,
    tensors: Vec<&'a Tensor>,
}

impl<'a> Pickling<'a> {
    fn value(&mut self, value: &'a TorchValue) -> Result<(), String> {
        match value {
            TorchValue::None => self.pickle.put(&[NONE]),
            TorchValue::Bool(value) => self.pickle.put(&[if *value { NEWTRUE } else { NEWFALSE }]),
            TorchValue::Int(value) => self.pickle.int(*value),
            TorchValue::Float(value) => self.pickle.float(*value),
            TorchValue::Text(text) => self.pickle.text(text),
            TorchValue::Tensor(tensor) => self.tensor(tensor)?,
            TorchValue::List(items) => {
                self.pickle.put(&[EMPTY_LIST, MARK]);
                items.iter().try_for_each(|item| self.value(item))?;
                self.pickle.put(&[APPENDS]);
            }
            TorchValue::Dict(entries) => {
                self.pickle.put(&[EMPTY_DICT, MARK]);
                for (key, value) in entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.pickle.put(&[SETITEMS]);
            }
        }
        Ok(())
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, tensor: &'a Tensor) -> Result<(), String> {
        let key = self.tensors.len().to_string();
        let class = STORAGES.iter().find(|(_, dtype)| *dtype == tensor.dtype()).map(|(class, _)| *class);
        let class = class.ok_or_else(|| format!("PyTorch stores no elements of type {}", tensor.dtype().as_str()))?;
        self.tensors.push(tensor);
        let pickle = &mut self.pickle;
        pickle.global("torch._utils", "_rebuild_tensor_v2");
        pickle.put(&[MARK, MARK]);
        pickle.text("storage");
        pickle.global("torch", class);
        pickle.text(&key);
        pickle.text("cpu");
        pickle.int(tensor.elem_count() as i64);
        pickle.put(&[TUPLE, BINPERSID]);
        pickle.int(0);
        for numbers in [tensor.dims(), &row_major_strides(tensor.dims())] {
            pickle.put(&[MARK]);
            numbers.iter().for_each(|number| pickle.int(*number as i64));
            pickle.put(&[TUPLE]);
        }
        pickle.put(&[NEWFALSE]);
        pickle.global("collections", "OrderedDict");
        pickle.put(&[EMPTY_TUPLE, REDUCE, TUPLE, REDUCE]);
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
