//! The way out: a trained model as files that other programs load.
//!
//! Two layouts: safetensors with Hugging Face's descriptions, and a base folder of karpathy/nanochat. Each is written beside its place, read back and held against the source by its logits, and
//! only then renamed; `export.json` in it says where the model comes from and what was compared. Refused: a target that is
//! anything but an earlier export, weights that the chosen type can't hold.

mod baseline;
mod card;
mod compare;
mod config;
mod error;
mod place;
mod safetensors;
mod source;
#[cfg(test)]
mod tests;
mod weights;

pub use error::ExportError;

use std::path::Path;

use crate::artifacts::{Document, Export, ExportCheck, ExportLayout, ExportType, write_document};
use crate::plan::shape::parameter_counts;
use crate::trained::Trained;

use place::{FILE, Place};
use source::Origin;

/// How to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// What the folder is for.
    pub layout: ExportLayout,
    /// Type that the weights' matrices are stored in.
    pub weights: ExportType,
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
    let place = Place::claim(out)?;
    let origin = Origin::of(trained)?;
    let folder = place.folder();
    let Written { checks, mut remarks } = match options.layout {
        ExportLayout::Safetensors => safetensors::write(trained, options.weights, folder)?,
        ExportLayout::Baseline => baseline::write(trained, &origin, options.weights, folder)?,
    };
    judge(&checks)?;
    remarks.extend(origin.remarks);
    let shape = trained.model.shape();
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
        program_commit: option_env!("NANOCHAT_CODE_COMMIT").map(str::to_string),
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
