//! Bits per byte: what the text costs the model, whatever its vocabulary (`nanochat/loss_eval.py`).

use std::sync::Arc;

use serde::Serialize;

use super::EvalError;
use crate::data::{Batch, Corpus, DataError, Loader, Split};
use crate::model::Gpt;
use crate::tokenizer::Tokenizer;

/// Bits per byte of one split, with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitBits {
    /// Bits per byte.
    pub value: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Rows a batch.
    pub batch_size: usize,
    /// Tokens a row.
    pub sequence_len: usize,
}

/// Bits per byte over the first `tokens` tokens of a split, rounded down to whole batches of the model's context.
///
/// Errors: fewer tokens than one batch has; else as [`bits_per_byte`].
pub fn bits_per_byte_of_split(
    model: &Gpt,
    tokenizer: &Arc<Tokenizer>,
    corpus: &Arc<Corpus>,
    split: Split,
    batch_size: usize,
    tokens: u64,
) -> Result<SplitBits, EvalError> {
    let sequence_len = model.shape().sequence_len;
    let a_batch = batch_size as u64 * sequence_len as u64;
    let batches = tokens / a_batch.max(1);
    if batches == 0 {
        return Err(EvalError::TooFewTokens { tokens, a_batch });
    }
    let mut loader = Loader::new(corpus.clone(), tokenizer.clone(), split, batch_size, sequence_len)?;
    let value = bits_per_byte(model, (0..batches).map(|_| loader.next_batch()), &tokenizer.token_bytes())?;
    Ok(SplitBits { value, tokens: batches * a_batch, batch_size, sequence_len })
}

/// The same as [`bits_per_byte_by`] by a model.
pub fn bits_per_byte(
    model: &Gpt,
    batches: impl IntoIterator<Item = Result<Batch, DataError>>,
    token_bytes: &[u32],
) -> Result<f64, EvalError> {
    let mut evaluation = model.evaluation();
    let mut losses = |batch: &Batch| Ok(evaluation.losses(batch.size(), batch.micro_step(0))?);
    bits_per_byte_by(&mut losses, batches, token_bytes)
}

/// Sum of the losses over the sum of the bytes of all targets that have bytes, in bits.
///
/// `token_bytes` has one length a token, 0 for those that don't count (special tokens); negative targets don't count
/// either. `losses` gives the loss of every position of a batch, row after row, in f32; they are summed in f64, where the baseline sums in f32, so the two differ by
/// the baseline's rounding, some 1e-7 of the value.
///
/// Errors: a batch that can't be read, a model that fails, targets without any bytes.
pub fn bits_per_byte_by<E: From<EvalError>>(
    losses: &mut dyn FnMut(&Batch) -> Result<Vec<f32>, E>,
    batches: impl IntoIterator<Item = Result<Batch, DataError>>,
    token_bytes: &[u32],
) -> Result<f64, E> {
    let (mut nats, mut bytes) = (0f64, 0u64);
    for batch in batches {
        let batch = batch.map_err(EvalError::from)?;
        let lengths = target_lengths(&batch.targets, token_bytes)?;
        for (loss, length) in losses(&batch)?.into_iter().zip(lengths) {
            if length > 0 {
                nats += f64::from(loss);
                bytes += u64::from(length);
            }
        }
    }
    if bytes == 0 {
        return Err(EvalError::NoBytes.into());
    }
    Ok(nats / (std::f64::consts::LN_2 * bytes as f64))
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
