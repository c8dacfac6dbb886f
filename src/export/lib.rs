//! The way out: a trained model as files that other programs load.
//!
//! Three layouts: safetensors with Hugging Face's descriptions, ONNX graphs with and without key/value cache, and a base
//! folder of karpathy/nanochat. Each is written beside its place, read back and held against the source by its logits, and
//! only then renamed; `export.json` in it says where the model comes from and what was compared, `expected.safetensors` lets
//! anybody compare again. Refused: a target that is anything but an earlier export, weights that the chosen type can't hold.

mod baseline;
mod card;
mod compare;
mod config;
mod error;
mod expected;
mod onnx;
mod place;
mod resume;
mod safetensors;
mod source;
#[cfg(test)]
#[allow(dead_code, reason = "the engine's own tests use the rest")]
#[path = "../engine/model/testing.rs"]
mod testing;
#[cfg(test)]
mod tests;
mod weights;

pub use error::ExportError;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use nanochat_artifacts::{Document, Export, ExportCheck, ExportLayout, ExportType, write_document};
use nanochat_engine::model::Gpt;
use nanochat_engine::trained::Trained;
#[cfg(test)]
use nanochat_engine::{model::parameter_shapes, random};
use nanochat_plan::shape::parameter_counts;

use compare::{Probe, compare};
use place::{FILE, Place};
use source::Origin;

/// Most bytes of weights inside a graph's file: a protobuf message ends at 2^31, and the graph wants a little.
pub const LARGEST_MESSAGE: u64 = (1 << 31) - (64 << 20);

/// How to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// What the folder is for.
    pub layout: ExportLayout,
    /// Type that the weights' matrices are stored in.
    pub weights: ExportType,
    /// ONNX weights of more bytes than this lie in a file beside the graphs; [`LARGEST_MESSAGE`] at most will work.
    pub external_above: u64,
    /// Commit of the program that exports, where it is known.
    pub program_commit: Option<String>,
}

/// What is exported, and what it has to compute.
struct Subject<'a> {
    trained: &'a Trained,
    options: &'a ExportOptions,
    origin: &'a Origin,
    /// The parameters as they are stored.
    stored: &'a BTreeMap<String, Tensor>,
    probe: &'a Probe,
    /// Logits of the probe by the stored parameters, computed in f32.
    logits: &'a Tensor,
}

/// What a layout's writer did.
#[derive(Debug, Default)]
struct Written {
    checks: Vec<ExportCheck>,
    remarks: Vec<String>,
}

/// Writes a model to the folder `out`, which may be absent, empty, or an earlier export, whose place the new one takes.
///
/// # Errors
/// A target that isn't free, a file that can't be written, weights that don't fit the type, and files that read back as
/// another model; what was there before is still there then.
pub fn export(trained: &Trained, options: &ExportOptions, out: &Path) -> Result<Export, ExportError> {
    let shape = trained.model.shape();
    let place = Place::claim(out)?;
    let origin = Origin::of(trained)?;
    let stored = weights::rounded(trained.model.parameters(), options.weights)?;
    let rounded = match options.weights {
        ExportType::F32 => None,
        _ => Some(Gpt::from_tensors(shape, &stored.clone().into_iter().collect(), &Device::Cpu)?),
    };
    let model = rounded.as_ref().unwrap_or(&trained.model);
    let probe = Probe::new(shape)?;
    let logits = probe.logits(model)?;
    let subject = Subject { trained, options, origin: &origin, stored: &stored, probe: &probe, logits: &logits };
    let folder = place.folder();
    let Written { mut checks, mut remarks } = match options.layout {
        ExportLayout::Safetensors => safetensors::write(&subject, folder)?,
        ExportLayout::Onnx => onnx::write(&subject, folder)?,
        ExportLayout::Baseline => baseline::write(&subject, folder)?,
    };
    expected::write(model, &probe, &logits, folder)?;
    if options.weights != ExportType::F32 {
        let quantity = format!("what rounding the weights to {} does to the logits", options.weights.word());
        checks.push(compare(expected::FILE, &quantity, &probe.logits(&trained.model)?, &logits, None)?);
    }
    judge(&checks)?;
    remarks.extend(probe.shortened().then(|| compare::SHORTENED.to_string()));
    remarks.extend(origin.remarks);
    let mut document = Export {
        schema: Export::SCHEMA.into(),
        layout: options.layout,
        weights: options.weights,
        model: shape.clone(),
        parameters: parameter_counts(shape).total,
        source: origin.source,
        figures: origin.figures,
        files: Default::default(),
        checks,
        remarks,
        program_version: env!("CARGO_PKG_VERSION").into(),
        program_commit: options.program_commit.clone(),
    };
    place.write("README.md", card::text(&document).as_bytes())?;
    document.files = place.files()?;
    write_document(&folder.join(FILE), &document)?;
    place.publish()?;
    Ok(document)
}

/// Refuses what differs by more than it may, and what is no number.
fn judge(checks: &[ExportCheck]) -> Result<(), ExportError> {
    let beyond =
        |check: &&ExportCheck| check.bound.is_some_and(|bound| check.max_abs.is_nan() || check.max_abs > bound);
    match checks.iter().find(beyond) {
        Some(check) => Err(ExportError::Differs { check: check.clone() }),
        None => Ok(()),
    }
}
