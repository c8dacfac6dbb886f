//! Bits per byte: what the text costs the model, whatever its vocabulary (`nanochat/loss_eval.py`).

use candle_core::Tensor;

use super::EvalError;
use crate::data::{Batch, DataError};
use crate::model::Gpt;

/// Sum of the losses over the sum of the bytes of all targets that have bytes, in bits.
///
/// `token_bytes` has one length a token, 0 for those that don't count (special tokens); negative targets don't count
/// either. The model gives losses in f32; they are summed in f64, where the baseline sums in f32, so the two differ by
/// the baseline's rounding, some 1e-7 of the value.
///
/// Errors: a batch that can't be read, a model that fails, targets without any bytes.
pub fn bits_per_byte(
    model: &Gpt,
    batches: impl IntoIterator<Item = Result<Batch, DataError>>,
    token_bytes: &[u32],
) -> Result<f64, EvalError> {
    let (mut nats, mut bytes) = (0f64, 0u64);
    for batch in batches {
        let batch = batch?;
        let lengths = target_lengths(&batch.targets, token_bytes)?;
        let losses = losses(model, &batch)?;
        for (loss, length) in losses.into_iter().zip(lengths) {
            if length > 0 {
                nats += f64::from(loss);
                bytes += u64::from(length);
            }
        }
    }
    if bytes == 0 {
        return Err(EvalError::NoBytes);
    }
    Ok(nats / (std::f64::consts::LN_2 * bytes as f64))
}

/// Loss of every position of a batch, row-major.
fn losses(model: &Gpt, batch: &Batch) -> Result<Vec<f32>, EvalError> {
    let shape = (batch.batch_size, batch.sequence_len);
    let targets: Vec<i64> = batch.targets.iter().map(|&target| target.into()).collect();
    let ids = Tensor::from_slice(&batch.inputs, shape, model.device())?;
    let targets = Tensor::from_vec(targets, shape, model.device())?;
    Ok(model.losses(&ids, &targets)?.flatten_all()?.to_vec1::<f32>()?)
}

/// Bytes of every target; 0 for those that don't count.
fn target_lengths(targets: &[i32], token_bytes: &[u32]) -> Result<Vec<u32>, EvalError> {
    let length = |&target: &i32| match usize::try_from(target) {
        Ok(index) => token_bytes
            .get(index)
            .copied()
            .ok_or(EvalError::Target { target: target.into(), vocab_size: token_bytes.len() }),
        Err(_) => Ok(0),
    };
    targets.iter().map(length).collect()
}
