//! What PyTorch means by the pickle of a `.pt` file: tensors over storages, in dictionaries, lists and numbers.
//!
//! Known names: `torch._utils._rebuild_tensor_v2`, `torch._utils._rebuild_parameter`, the storage classes, and
//! `collections.OrderedDict`. Any other is refused by its name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::archive::Archive;
use super::pickle::{Node, NodeId, Pickle};
use crate::checkpoint::CheckpointError;

/// How deep containers may lie in each other; the baseline's lie four deep.
const MAX_DEPTH: usize = 32;

/// Largest pickle that is read, in bytes; it only describes tensors, in some 200 bytes each. One byte can make a node of
/// 56 bytes, so this bounds memory too.
const MAX_PICKLE: u64 = 4 << 20;

/// A value of a `.pt` file.
#[derive(Debug)]
pub enum TorchValue {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A tensor, row-major.
    Tensor(Tensor),
    /// A list or tuple.
    List(Vec<TorchValue>),
    /// A dictionary's entries.
    Dict(Vec<(TorchValue, TorchValue)>),
}

impl TorchValue {
    /// A dictionary with string keys.
    pub(super) fn into_named(self) -> Option<BTreeMap<String, TorchValue>> {
        let TorchValue::Dict(entries) = self else { return None };
        let named = entries.into_iter().map(|(key, value)| match key {
            TorchValue::Text(name) => Some((name, value)),
            _ => None,
        });
        named.collect()
    }

    /// A number as f64.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            TorchValue::Int(value) => Some(*value as f64),
            TorchValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A tensor, or a number as a scalar f64 tensor.
    pub(super) fn into_tensor(self, device: &Device) -> Result<Option<Tensor>, String> {
        let number = self.as_number();
        match self {
            TorchValue::Tensor(tensor) => Ok(Some(tensor)),
            _ => number.map(|value| Tensor::new(value, device).map_err(|error| error.to_string())).transpose(),
        }
    }
}

/// Reads a `.pt` file. No code in it is run, and memory stays within a small multiple of its length.
pub fn read_torch_file(path: &Path, device: &Device) -> Result<TorchValue, CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io("read", path))?;
    let foreign = |reason: String| super::foreign(path, "PyTorch file", reason);
    let mut archive = Archive::open(BufReader::new(file)).map_err(foreign)?;
    read_archive(&mut archive, device).map_err(foreign)
}

fn read_archive(archive: &mut Archive<BufReader<File>>, device: &Device) -> Result<TorchValue, String> {
    let pickles: Vec<String> = archive.names().filter(|name| name.ends_with("/data.pkl")).map(str::to_string).collect();
    let [name] = pickles.as_slice() else { return Err("it has no single `data.pkl`".into()) };
    let folder = name.trim_end_matches("data.pkl").to_string();
    let length = archive.entry_length(name).unwrap_or_default();
    if length > MAX_PICKLE {
        return Err("its pickle is larger than any model's".into());
    }
    let byte_order = format!("{folder}byteorder");
    if let Some(length) = archive.entry_length(&byte_order)
        && archive.read(&byte_order, 0, length.min(16))? != b"little"
    {
        return Err("its numbers are not little-endian".into());
    }
    let pickle = Pickle::read(&archive.read(name, 0, length)?)?;
    // Views may share a storage, but a file that asks for far more tensors than it has bytes is a trap.
    let budget = archive.length().saturating_mul(2);
    // Each visit makes one value; a pickle that refers to one object over and over could ask for exponentially many.
    let visits = length.saturating_mul(4);
    let root = pickle.root();
    Reading { pickle, archive, folder, device, budget, visits }.value(root, 0)
}

struct Reading<'a> {
    pickle: Pickle,
    archive: &'a mut Archive<BufReader<File>>,
    folder: String,
    device: &'a Device,
    budget: u64,
    visits: u64,
}

/// A view of a storage, as `_rebuild_tensor_v2` is given it.
struct View {
    dtype: DType,
    key: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Reading<'_> {
    fn value(&mut self, id: NodeId, depth: usize) -> Result<TorchValue, String> {
        self.visits = self.visits.checked_sub(1).ok_or("it repeats its objects without end")?;
        if depth > MAX_DEPTH {
            return Err("its containers lie too deep in each other".into());
        }
        Ok(match self.pickle.node(id).clone() {
            Node::None => TorchValue::None,
            Node::Bool(value) => TorchValue::Bool(value),
            Node::Int(value) => TorchValue::Int(value),
            Node::Float(value) => TorchValue::Float(value),
            Node::Text(text) => TorchValue::Text(text),
            Node::Tuple(items) | Node::List(items) => {
                let values = items.into_iter().map(|item| self.value(item, depth + 1));
                TorchValue::List(values.collect::<Result<_, _>>()?)
            }
            Node::Dict(entries) => {
                let pairs = entries
                    .into_iter()
                    .map(|(key, value)| Ok::<_, String>((self.value(key, depth + 1)?, self.value(value, depth + 1)?)));
                TorchValue::Dict(pairs.collect::<Result<_, _>>()?)
            }
            Node::Call { callee, arguments, .. } => return self.call(callee, arguments, depth),
            Node::Global(module, name) => return Err(format!("it names `{module}.{name}`, which is not read here")),
            Node::Bytes(_) | Node::Set(_) | Node::Persistent(_) => {
                return Err("it holds a kind of object that is not read here".into());
            }
        })
    }

    fn call(&mut self, callee: NodeId, arguments: NodeId, depth: usize) -> Result<TorchValue, String> {
        let arguments = self.pickle.items(arguments).ok_or("a call has no arguments")?.to_vec();
        match self.pickle.global(callee) {
            Some(("torch._utils", "_rebuild_tensor_v2")) => {
                let view = self.view(&arguments)?;
                self.tensor(&view).map(TorchValue::Tensor)
            }
            Some(("torch._utils", "_rebuild_parameter")) => {
                let inner = *arguments.first().ok_or("a parameter has no tensor")?;
                self.value(inner, depth + 1)
            }
            Some((module, name)) => Err(format!("it calls `{module}.{name}`, which is not read here")),
            None => Err("it calls something without a name".into()),
        }
    }

    /// Reads the arguments: storage, offset, shape, strides, and others that don't matter to a value.
    fn view(&self, arguments: &[NodeId]) -> Result<View, String> {
        let [storage, offset, shape, strides, ..] = *arguments else {
            return Err("a tensor lacks arguments".into());
        };
        let Node::Persistent(storage) = *self.pickle.node(storage) else {
            return Err("a tensor has no storage".into());
        };
        let [_, class, key, ..] = *self.pickle.items(storage).unwrap_or_default() else {
            return Err("a storage lacks its class or key".into());
        };
        let dtype = match self.pickle.global(class) {
            Some(("torch", name)) => storage_dtype(name),
            _ => None,
        };
        let dims =
            |id: NodeId| -> Option<Vec<usize>> { self.pickle.items(id)?.iter().map(|&item| self.size(item)).collect() };
        let view = View {
            dtype: dtype.ok_or("a storage is of an unknown class")?,
            key: self.pickle.text(key).ok_or("a storage has no key")?.to_string(),
            offset: self.size(offset).ok_or("a tensor's offset is no size")?,
            shape: dims(shape).ok_or("a tensor's shape is no tuple of sizes")?,
            strides: dims(strides).ok_or("a tensor's strides are no tuple of sizes")?,
        };
        if view.shape.len() != view.strides.len() || view.shape.len() > 8 {
            return Err("a tensor's shape and strides don't fit each other".into());
        }
        Ok(view)
    }

    fn size(&self, id: NodeId) -> Option<usize> {
        self.pickle.int(id).and_then(|value| usize::try_from(value).ok())
    }

    /// Reads the view's elements in row-major order.
    fn tensor(&mut self, view: &View) -> Result<Tensor, String> {
        let width = view.dtype.size_in_bytes();
        let count = view.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let count = count.ok_or("a tensor's shape is absurd")?;
        let span = if count == 0 { Some(0) } else { view.span() }.ok_or("a tensor's strides are absurd")?;
        if count > span {
            return Err("a tensor has more elements than its storage".into());
        }
        let bytes = (span as u64).checked_mul(width as u64).ok_or("a tensor's strides are absurd")?;
        let start = (view.offset as u64).checked_mul(width as u64).ok_or("a tensor's offset is absurd")?;
        self.budget = self.budget.checked_sub(bytes).ok_or("its tensors are larger than the file")?;
        let entry = format!("{}data/{}", self.folder, view.key);
        let raw = self.archive.read(&entry, start, bytes)?;
        let ordered = if view.is_row_major() { raw } else { view.gather(&raw, width) };
        Tensor::from_raw_buffer(&ordered, view.dtype, &view.shape, self.device).map_err(|error| error.to_string())
    }
}

impl View {
    /// Elements of the storage from the first to the last that the view touches.
    fn span(&self) -> Option<usize> {
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |last, (&size, &stride)| last.checked_add(size.checked_sub(1)?.checked_mul(stride)?));
        last?.checked_add(1)
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }

    /// Copies strided elements into row-major order.
    fn gather(&self, raw: &[u8], width: usize) -> Vec<u8> {
        let mut ordered = Vec::with_capacity(raw.len());
        let count: usize = self.shape.iter().product();
        for index in 0..count {
            let (mut rest, mut at) = (index, 0);
            for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
                at += (rest % size) * stride;
                rest /= size;
            }
            ordered.extend_from_slice(raw.get(at * width..(at + 1) * width).unwrap_or_default());
        }
        ordered
    }
}

/// Element type of a storage class.
fn storage_dtype(class: &str) -> Option<DType> {
    Some(match class {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "ByteStorage" | "BoolStorage" => DType::U8,
        "ShortStorage" => DType::I16,
        "IntStorage" => DType::I32,
        "LongStorage" => DType::I64,
        _ => return None,
    })
}
