//! What PyTorch means by the pickle of a `.pt` file: tensors over storages, in dictionaries, lists and numbers.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::archive::Archive;
use super::{STORAGES, TorchValue};
use crate::FormatError;
use crate::pickle::{Node, NodeId, Pickle};

/// How deep containers may lie in each other; the baseline's lie four deep.
const MAX_DEPTH: usize = 32;

/// Largest pickle that is read, in bytes; it only describes tensors, in some 200 bytes each.
const MAX_PICKLE: u64 = 4 << 20;

/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Names that a `.pt` file of tensors refers to.
const GLOBALS: [&str; 12] = [
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    "torch.BFloat16Storage",
    "torch.BoolStorage",
    "torch.ByteStorage",
    "torch.DoubleStorage",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.IntStorage",
    "torch.LongStorage",
    "torch.ShortStorage",
];

/// Reads a `.pt` file. No code in it is run, and memory stays within a small multiple of its length.
///
/// # Errors
/// The file can't be read, is broken, or holds something other than tensors, text and numbers in dictionaries and lists.
pub fn read_torch_file(path: &Path, device: &Device) -> Result<TorchValue, FormatError> {
    let file = File::open(path).map_err(FormatError::io("read", path))?;
    let broken = |reason: String| FormatError::Torch { path: path.into(), reason };
    let mut archive = Archive::open(BufReader::new(file)).map_err(broken)?;
    let (folder, bytes) = description(&mut archive).map_err(broken)?;
    let pickle = Pickle::read(path, &bytes, &GLOBALS)?;
    // Views may share a storage, but a file that asks for far more tensors than it has bytes is a trap.
    let budget = archive.length().saturating_mul(2);
    // A pickle that refers to one object over and over could ask for exponentially many values.
    let visits = bytes.len().saturating_mul(4);
    let root = pickle.root();
    Reading { pickle, archive, folder, device, budget, visits }.value(root, 0)
}

/// The archive's folder, and the pickle in it.
fn description(archive: &mut Archive<BufReader<File>>) -> Result<(String, Vec<u8>), String> {
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
    let bytes = archive.read(name, 0, length)?;
    Ok((folder, bytes))
}

struct Reading<'a, 'p> {
    pickle: Pickle<'p>,
    archive: Archive<BufReader<File>>,
    folder: String,
    device: &'a Device,
    /// Bytes of tensors that may still be read.
    budget: u64,
    /// Values, and bytes of strings, that may still be made.
    visits: usize,
}

/// A view of a storage, as `_rebuild_tensor_v2` takes it.
struct View {
    dtype: DType,
    key: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Reading<'_, '_> {
    fn value(&mut self, id: NodeId, depth: usize) -> Result<TorchValue, FormatError> {
        let node = self.pickle.node(id).clone();
        let cost = if let Node::Text(text) = node { text.len() + 1 } else { 1 };
        self.visits = self
            .visits
            .checked_sub(cost)
            .ok_or_else(|| self.pickle.error(id, "the pickle repeats its objects without end"))?;
        if depth > MAX_DEPTH {
            return Err(self.pickle.error(id, "the containers lie too deep in each other"));
        }
        Ok(match node {
            Node::None => TorchValue::None,
            Node::Bool(value) => TorchValue::Bool(value),
            Node::Int(value) => TorchValue::Int(value),
            Node::Float(value) => TorchValue::Float(value),
            Node::Text(text) => TorchValue::Text(text.into()),
            Node::Tuple(items) | Node::List(items) => {
                let values = items.into_iter().map(|item| self.value(item, depth + 1));
                TorchValue::List(values.collect::<Result<_, _>>()?)
            }
            Node::Dict(entries) => {
                let pairs = entries
                    .into_iter()
                    .map(|(key, value)| Ok((self.value(key, depth + 1)?, self.value(value, depth + 1)?)));
                TorchValue::Dict(pairs.collect::<Result<_, FormatError>>()?)
            }
            Node::Call { callee, arguments, .. } => return self.call(id, callee, arguments, depth),
            Node::Global(module, name) => {
                return Err(self.pickle.error(id, format!("`{module}.{name}` stands where a value is expected")));
            }
            Node::Bytes(_) | Node::Persistent(_) => {
                return Err(self.pickle.error(id, "an object of this kind is not read"));
            }
        })
    }

    fn call(&mut self, id: NodeId, callee: NodeId, arguments: NodeId, depth: usize) -> Result<TorchValue, FormatError> {
        match self.pickle.global(callee) {
            Some(("torch._utils", "_rebuild_tensor_v2")) => {
                let tensor = self.view(arguments).and_then(|view| self.tensor(&view));
                tensor.map(TorchValue::Tensor).map_err(|reason| self.pickle.error(id, reason))
            }
            Some(("torch._utils", "_rebuild_parameter")) => match self.pickle.items(arguments) {
                Some(&[inner, ..]) => self.value(inner, depth + 1),
                _ => Err(self.pickle.error(id, "a parameter has no tensor")),
            },
            other => {
                let (module, name) = other.unwrap_or_default();
                Err(self.pickle.error(id, format!("it calls `{module}.{name}`, which makes no value here")))
            }
        }
    }

    /// Reads the arguments: storage, offset, shape, strides, and others that don't matter to a value.
    fn view(&self, arguments: NodeId) -> Result<View, String> {
        let [storage, offset, shape, strides, ..] = *self.pickle.items(arguments).unwrap_or_default() else {
            return Err("a tensor lacks arguments".into());
        };
        let Node::Persistent(storage) = *self.pickle.node(storage) else {
            return Err("a tensor has no storage".into());
        };
        let [_, class, key, ..] = *self.pickle.items(storage).unwrap_or_default() else {
            return Err("a storage lacks its class or key".into());
        };
        let class = self.pickle.global(class).filter(|(module, _)| *module == "torch");
        let dtype = class.and_then(|(_, name)| STORAGES.iter().find(|(known, _)| *known == name));
        let view = View {
            dtype: dtype.ok_or("a storage is of an unknown class")?.1,
            key: self.pickle.text(key).ok_or("a storage has no key")?.to_string(),
            offset: self.size(offset).ok_or("a tensor's offset is no size")?,
            shape: self.sizes(shape).ok_or("a tensor's shape is no tuple of sizes")?,
            strides: self.sizes(strides).ok_or("a tensor's strides are no tuple of sizes")?,
        };
        if view.shape.len() != view.strides.len() {
            return Err("a tensor's shape and strides don't fit each other".into());
        }
        Ok(view)
    }

    fn size(&self, id: NodeId) -> Option<usize> {
        self.pickle.int(id).and_then(|value| usize::try_from(value).ok())
    }

    fn sizes(&self, id: NodeId) -> Option<Vec<usize>> {
        let items = self.pickle.items(id).filter(|items| items.len() <= MAX_RANK)?;
        items.iter().map(|&item| self.size(item)).collect()
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
        let ordered = if count == 0 || view.is_row_major() { raw } else { view.gather(&raw, width) };
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
