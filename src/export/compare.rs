//! Logits over a few random sequences, and how far another model's are from them.

use candle_core::{Device, Tensor};

use super::ExportError;
use nanochat_artifacts::ExportCheck;
use nanochat_engine::model::Gpt;
use nanochat_plan::ModelShape;
use nanochat_plan::shape::window_sizes;

/// Sequences compared.
const ROWS: usize = 2;
/// Tokens past the shortest window, so that what lies outside it matters.
const BEYOND_WINDOW: usize = 16;
/// Tokens a sequence at most: a long context costs time in every layer.
const LONGEST: usize = 640;

/// Said where windows are longer than the sequences.
pub(super) const SHORTENED: &str =
    "the compared sequences are shorter than the model's windows, which take no part in the comparison";

/// Random sequences, the same for every export of a shape.
pub(super) struct Probe {
    /// (rows, length) in u32.
    pub ids: Tensor,
    window: usize,
}

impl Probe {
    pub fn new(shape: &ModelShape) -> Result<Self, ExportError> {
        let window = window_sizes(shape).into_iter().min().unwrap_or_default();
        let length = (window + BEYOND_WINDOW).min(LONGEST);
        // Weyl's sequence through a multiplier: any ids serve that reach the whole vocabulary.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let ids = (0..ROWS * length).map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed >> 33) % shape.vocab_size.max(1) as u64) as u32
        });
        Ok(Self { ids: Tensor::from_vec(ids.collect::<Vec<u32>>(), (ROWS, length), &Device::Cpu)?, window })
    }

    /// Whether the sequences end within the shortest window.
    pub fn shortened(&self) -> bool {
        self.window + BEYOND_WINDOW > LONGEST
    }

    /// A model's logits (rows, length, vocabulary) by the kernels.
    pub fn logits(&self, model: &Gpt) -> Result<Tensor, ExportError> {
        Ok(model.logits(&self.ids.to_device(model.device())?)?.to_device(&Device::Cpu)?)
    }
}

/// The comparison of two tensors of one shape, as `export.json` has it.
pub(super) fn compare(
    file: &str,
    quantity: &str,
    ours: &Tensor,
    theirs: &Tensor,
    bound: Option<f64>,
) -> Result<ExportCheck, ExportError> {
    let differences = (ours - theirs)?.abs()?.flatten_all()?.to_vec1::<f32>()?;
    // What is no number is no agreement.
    let max_abs =
        differences.into_iter().fold(0f32, |most, next| if most.is_nan() || next <= most { most } else { next });
    let max_abs = f64::from(max_abs);
    let (file, quantity, numbers) = (file.into(), quantity.into(), ours.elem_count() as u64);
    Ok(ExportCheck { file, quantity, numbers, max_abs, bound })
}
