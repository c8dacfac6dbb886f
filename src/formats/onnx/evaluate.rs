//! Reads an ONNX file and computes its outputs: each operator as its specification says, by elementary tensor operations.
//! Only the operators that this program exports are known; any other is refused by its name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Shape, Tensor};

use super::proto::{EXTERNAL, Graph, Model, Node, TensorData, element};
use crate::FormatError;

/// Values by name. Truth values are u8.
pub type Values = HashMap<String, Tensor>;

/// What a node gives, or why it failed; the caller adds the name.
type Step<T> = Result<T, String>;

/// A graph with its weights.
pub struct Evaluator {
    path: PathBuf,
    graph: Graph,
    weights: Values,
}

impl Evaluator {
    /// Reads a graph and its weights, from the file itself or from the external file in the same folder.
    ///
    /// # Errors
    /// A file can't be read, or is no graph.
    pub fn read(path: &Path) -> Result<Self, FormatError> {
        let graph = |reason: String| FormatError::Onnx { path: path.into(), reason };
        let mut read = Model::read(path)?.graph.ok_or_else(|| graph("it has no graph".into()))?;
        let mut weights = Values::new();
        for data in std::mem::take(&mut read.initializer) {
            let name = data.name.clone().unwrap_or_default();
            let tensor = stored(&data, path).map_err(|reason| graph(format!("initializer `{name}`: {reason}")))?;
            weights.insert(name, tensor);
        }
        Ok(Self { path: path.into(), graph: read, weights })
    }

    /// The outputs by name. Inputs must be of the declared types and sizes.
    ///
    /// # Errors
    /// The graph has an operator that isn't known, or one that fails on its inputs.
    pub fn run(&self, inputs: Values) -> Result<Values, FormatError> {
        let failed = |reason: String| FormatError::Onnx { path: self.path.clone(), reason };
        let mut values = inputs;
        for node in &self.graph.node {
            let name = node.name.as_deref().unwrap_or_default();
            let value = self.node(node, &values).map_err(|reason| failed(format!("node `{name}`: {reason}")))?;
            let [output] = node.output.as_slice() else {
                return Err(failed(format!("node `{name}` has not one output")));
            };
            values.insert(output.clone(), value);
        }
        let outputs = self.graph.output.iter().map(|output| {
            let name = output.name.clone().unwrap_or_default();
            let value = values.remove(&name).ok_or_else(|| failed(format!("nothing computes `{name}`")))?;
            Ok((name, value))
        });
        outputs.collect()
    }

    fn node(&self, node: &Node, values: &Values) -> Step<Tensor> {
        let inputs = node.input.iter().map(|name| {
            let value = values.get(name).or_else(|| self.weights.get(name));
            value.ok_or_else(|| format!("its input `{name}` is not known yet"))
        });
        let inputs = inputs.collect::<Step<Vec<&Tensor>>>()?;
        let operation = node.op_type.as_deref().unwrap_or_default();
        let failed = |error: candle_core::Error| format!("{operation}: {error}");
        match (operation, inputs.as_slice()) {
            ("Identity", [x]) => Ok((*x).clone()),
            ("Cast", [x]) if attribute(node, "to") == Some(i64::from(element::FLOAT)) => x.to_dtype(DType::F32),
            ("Shape", [x]) => Tensor::new(x.dims().iter().map(|size| *size as i64).collect::<Vec<_>>(), &Device::Cpu),
            ("Gather", [table, indices]) => gather(table, indices),
            ("Range", [start, end, step]) => range(&[start, end, step]),
            ("Slice", [x, from, to, axis]) => slice(x, &whole_numbers(&[from, to, axis])?),
            ("Reshape", [x, sizes]) => reshape(x, &list(sizes)?),
            ("Unsqueeze", [x, axis]) => x.unsqueeze(list(axis)?.first().map_or(0, |axis| *axis as usize)),
            ("Transpose", [x]) => {
                let order: Vec<usize> = integers(node, "perm").iter().map(|axis| *axis as usize).collect();
                x.permute(order).and_then(|x| x.contiguous())
            }
            ("Concat", parts) => concatenate(parts, attribute(node, "axis").unwrap_or_default() as usize),
            ("Add", [a, b]) => a.broadcast_add(b),
            ("Sub", [a, b]) => a.broadcast_sub(b),
            ("Mul", [a, b]) => a.broadcast_mul(b),
            ("Div", [a, b]) => a.broadcast_div(b),
            ("MatMul", [a, b]) => multiply(a, b),
            ("GreaterOrEqual", [a, b]) => a.broadcast_ge(b),
            ("LessOrEqual", [a, b]) => a.broadcast_le(b),
            ("And", [a, b]) => a.broadcast_mul(b),
            ("Where", [condition, yes, no]) => {
                let dims = condition.shape();
                yes.broadcast_as(dims).and_then(|yes| condition.where_cond(&yes, &no.broadcast_as(dims)?))
            }
            ("Cos", [x]) => x.cos(),
            ("Sin", [x]) => x.sin(),
            ("Sqrt", [x]) => x.sqrt(),
            ("Tanh", [x]) => x.tanh(),
            ("Relu", [x]) => x.relu(),
            ("Sigmoid", [x]) => x.neg().and_then(|x| x.exp()?.affine(1.0, 1.0)?.recip()),
            ("ReduceMean", [x, axes]) if list(axes)? == [-1] && attribute(node, "keepdims") != Some(0) => {
                x.mean_keepdim(D::Minus1)
            }
            ("Softmax", [x]) if attribute(node, "axis") == Some(-1) => softmax(x),
            (other, inputs) => {
                return Err(format!("`{other}` of {} inputs with its attributes is not known here", inputs.len()));
            }
        }
        .map_err(failed)
    }
}

/// An initializer's elements, from the message or from the external file.
fn stored(data: &TensorData, path: &Path) -> Step<Tensor> {
    let dtype = match data.data_type {
        Some(element::FLOAT) => DType::F32,
        Some(element::FLOAT16) => DType::F16,
        Some(element::BFLOAT16) => DType::BF16,
        Some(element::INT64) => DType::I64,
        other => return Err(format!("element type {other:?} is not known here")),
    };
    let dims: Vec<usize> =
        data.dims.iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>().map_err(text)?;
    let bytes = match &data.raw_data {
        Some(bytes) => bytes.clone(),
        None if data.data_location == Some(EXTERNAL) => external(data, path)?,
        None => return Err("it has no bytes".into()),
    };
    let expected = dims.iter().try_fold(dtype.size_in_bytes(), |bytes, size| bytes.checked_mul(*size));
    if Some(bytes.len()) != expected {
        return Err(format!("{} bytes, where {dims:?} in {} take another number", bytes.len(), dtype.as_str()));
    }
    Tensor::from_raw_buffer(&bytes, dtype, &dims, &Device::Cpu).map_err(text)
}

/// Bytes of the external file, which must be a plain name in the same folder.
fn external(data: &TensorData, path: &Path) -> Step<Vec<u8>> {
    let entry = |key: &str| {
        let found = data.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
        found.and_then(|entry| entry.value.clone()).ok_or_else(|| format!("it has no `{key}`"))
    };
    let location = entry("location")?;
    if Path::new(&location).file_name().is_none_or(|name| name.to_string_lossy() != location) {
        return Err(format!("`{location}` leads out of the folder"));
    }
    let (offset, length): (u64, usize) =
        (entry("offset")?.parse().map_err(text)?, entry("length")?.parse().map_err(text)?);
    let mut file = File::open(path.with_file_name(location)).map_err(text)?;
    let held = file.metadata().map_err(text)?.len();
    if offset.checked_add(length as u64).is_none_or(|end| end > held) {
        return Err("the external file is cut off".into());
    }
    file.seek(SeekFrom::Start(offset)).map_err(text)?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).map_err(text)?;
    Ok(bytes)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn attribute(node: &Node, name: &str) -> Option<i64> {
    node.attribute.iter().find(|found| found.name.as_deref() == Some(name))?.i
}

fn integers<'n>(node: &'n Node, name: &str) -> &'n [i64] {
    let found = node.attribute.iter().find(|found| found.name.as_deref() == Some(name));
    found.map_or(&[], |found| found.ints.as_slice())
}

/// A list of whole numbers.
fn list(tensor: &Tensor) -> Step<Vec<i64>> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1::<i64>()).map_err(text)
}

/// One whole number of each tensor.
fn whole_numbers(tensors: &[&Tensor]) -> Step<Vec<i64>> {
    let numbers = tensors.iter().map(|tensor| match list(tensor)?.as_slice() {
        [number] => Ok(*number),
        other => Err(format!("one number is expected, not {other:?}")),
    });
    numbers.collect()
}

/// Entries of the first axis: the indices' sizes, then the table's other ones.
fn gather(table: &Tensor, indices: &Tensor) -> candle_core::Result<Tensor> {
    let dims = [indices.dims(), table.dims().get(1..).unwrap_or_default()].concat();
    table.index_select(&indices.flatten_all()?.contiguous()?, 0)?.reshape(dims)
}

fn range(ends: &[&Tensor]) -> candle_core::Result<Tensor> {
    match whole_numbers(ends).map_err(candle_core::Error::Msg)?.as_slice() {
        [start, end, 1] => Tensor::arange(*start, *end, &Device::Cpu),
        other => Err(candle_core::Error::Msg(format!("{other:?} are not known here"))),
    }
}

/// Entries `from..to` of one axis; ends beyond it are cut, negative ones count from its end.
fn slice(x: &Tensor, numbers: &[i64]) -> candle_core::Result<Tensor> {
    let [from, to, axis] = numbers else { return Err(candle_core::Error::Msg("too few numbers".into())) };
    let size = x.dim(*axis as usize)? as i64;
    let place = |end: i64| if end < 0 { (end + size).max(0) } else { end.min(size) };
    let (from, to) = (place(*from), place(*to));
    x.narrow(*axis as usize, from as usize, (to - from).max(0) as usize)?.contiguous()
}

fn reshape(x: &Tensor, sizes: &[i64]) -> candle_core::Result<Tensor> {
    let mut dims = Vec::new();
    for (place, size) in sizes.iter().enumerate() {
        dims.push(match size {
            0 => x.dim(place)?,
            -1 => 1,
            size => usize::try_from(*size).map_err(candle_core::Error::wrap)?,
        });
    }
    if let Some(open) = sizes.iter().position(|size| *size == -1) {
        let others = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        dims[open] = x.elem_count() / others.unwrap_or(usize::MAX).max(1);
    }
    x.reshape(dims)
}

/// Joins tensors; those without entries, as a cache at first, are passed over.
fn concatenate(parts: &[&Tensor], axis: usize) -> candle_core::Result<Tensor> {
    let filled: Vec<&Tensor> = parts.iter().copied().filter(|part| part.elem_count() > 0).collect();
    Tensor::cat(&filled, axis)
}

/// The product of the last two dimensions, the others broadcast.
fn multiply(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    if let ([inputs, outputs], [outer @ .., _]) = (b.dims(), a.dims()) {
        return a.reshape(((), *inputs))?.matmul(b)?.reshape([outer, &[*outputs]].concat());
    }
    let (a_rank, b_rank) = (a.rank().saturating_sub(2), b.rank().saturating_sub(2));
    let (a_outer, a_inner) = a.dims().split_at(a_rank);
    let (b_outer, b_inner) = b.dims().split_at(b_rank);
    let outer = Shape::from(a_outer).broadcast_shape_binary_op(&Shape::from(b_outer), "MatMul")?.into_dims();
    let count: usize = outer.iter().product();
    let laid = |x: &Tensor, inner: &[usize]| {
        x.broadcast_as([&outer, inner].concat())?.contiguous()?.reshape([&[count], inner].concat())
    };
    let product = laid(a, a_inner)?.matmul(&laid(b, b_inner)?)?;
    let sizes = product.dims().get(1..).unwrap_or_default();
    product.reshape([outer.as_slice(), sizes].concat())
}

fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let exponentials = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}
