//! The graphs' files. Weights lie inside them as far as a protobuf message holds them, else in one external file that both
//! graphs share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};

use super::network::Network;
use super::{CACHED, DATA, IR_VERSION, OPERATOR_SET, WHOLE};
use crate::{ExportError, ExportOptions};
use nanochat_engine::checkpoint::with_bytes;
use nanochat_engine::model::{HEAD, TOKEN_EMBEDDING};
use nanochat_formats::onnx::proto::{EXTERNAL, Entry, Graph, Model, OperatorSet, TensorData, element};
use nanochat_plan::ModelShape;

/// Tensors in the external file begin at multiples of this, so that readers can map them into memory.
const PAGE: u64 = 4096;

/// Writes both graphs over one set of weights.
pub(super) fn write(
    shape: &ModelShape,
    weights: &BTreeMap<String, Tensor>,
    options: &ExportOptions,
    folder: &Path,
) -> Result<(), ExportError> {
    let bytes: u64 = weights.values().map(|tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64).sum();
    let weights = weights.iter().map(|(name, tensor)| Ok((name.clone(), laid_out(name, tensor, shape)?)));
    let initializers =
        if bytes > options.external_above { external(weights, &folder.join(DATA))? } else { inside(weights)? };
    for (name, cached) in [(WHOLE, false), (CACHED, true)] {
        let mut graph = Network::new(shape, options.weights, cached).build();
        graph.initializer.extend(initializers.iter().cloned());
        let path = folder.join(name);
        put(&path, |out| out.write_all(&model(graph).to_bytes()))?;
    }
    Ok(())
}

fn model(graph: Graph) -> Model {
    Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("nanochat".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: None,
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: Some(OPERATOR_SET) }],
        metadata_props: Vec::new(),
    }
}

/// A parameter as the graphs use it: without the rows that pad the vocabulary, matrices transposed to multiply from the right.
fn laid_out(name: &str, tensor: &Tensor, shape: &ModelShape) -> Result<Tensor, ExportError> {
    if tensor.rank() < 2 {
        return Ok(tensor.clone());
    }
    let is_table = name == TOKEN_EMBEDDING || name.starts_with("value_embeds.");
    let own = if is_table || name == HEAD { tensor.narrow(0, 0, shape.vocab_size)? } else { tensor.clone() };
    Ok(if is_table { own.contiguous()? } else { own.t()?.contiguous()? })
}

type Laid<'a> = &'a mut dyn Iterator<Item = Result<(String, Tensor), ExportError>>;

/// Weights as parts of the graph's message.
fn inside(
    weights: impl Iterator<Item = Result<(String, Tensor), ExportError>>,
) -> Result<Vec<TensorData>, ExportError> {
    let described = weights.map(|weight| {
        let (name, tensor) = weight?;
        let mut data = described(&name, &tensor);
        with_bytes(&name, &tensor, |bytes| {
            data.raw_data = Some(bytes.to_vec());
            Ok(())
        })?;
        Ok(data)
    });
    described.collect()
}

/// Weights in the external file, one after the other; each is freed after it is written.
fn external(
    mut weights: impl Iterator<Item = Result<(String, Tensor), ExportError>>,
    path: &Path,
) -> Result<Vec<TensorData>, ExportError> {
    let mut described = Vec::new();
    let mut failed = Ok(());
    put(path, |out| {
        failed = write_external(&mut weights, out, &mut described);
        Ok(())
    })?;
    failed.map(|()| described)
}

fn write_external(weights: Laid<'_>, out: &mut dyn Write, all: &mut Vec<TensorData>) -> Result<(), ExportError> {
    let mut at = 0u64;
    for weight in weights {
        let (name, tensor) = weight?;
        let start = at.next_multiple_of(PAGE);
        let mut length = 0;
        let mut written = Ok(());
        with_bytes(&name, &tensor, |bytes| {
            length = bytes.len() as u64;
            written = out.write_all(&vec![0; (start - at) as usize]).and_then(|()| out.write_all(bytes));
            Ok(())
        })?;
        written.map_err(ExportError::io("write", DATA))?;
        let entry = |key: &str, value: String| Entry { key: Some(key.into()), value: Some(value) };
        let mut data = described_external(&name, &tensor);
        data.external_data = vec![
            entry("location", DATA.into()),
            entry("offset", start.to_string()),
            entry("length", length.to_string()),
        ];
        all.push(data);
        at = start + length;
    }
    Ok(())
}

fn described(name: &str, tensor: &Tensor) -> TensorData {
    let element = match tensor.dtype() {
        DType::F16 => element::FLOAT16,
        DType::BF16 => element::BFLOAT16,
        _ => element::FLOAT,
    };
    TensorData {
        dims: tensor.dims().iter().map(|size| *size as i64).collect(),
        data_type: Some(element),
        name: Some(name.into()),
        ..TensorData::default()
    }
}

fn described_external(name: &str, tensor: &Tensor) -> TensorData {
    TensorData { data_location: Some(EXTERNAL), ..described(name, tensor) }
}

/// Writes a new file and syncs it.
fn put(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), ExportError> {
    let created = File::options().write(true).create_new(true).open(path);
    let written = created.and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        content(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()
    });
    written.map_err(ExportError::io("write", path))
}
