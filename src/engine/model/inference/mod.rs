//! Forward passes without gradients on the CPU's kernels: cached decoding, and scores of many sequences at once.
//!
//! A pass takes [`Runs`]: stretches of tokens that follow nothing, another run, or a row of the cache. All tokens go
//! through the matrices together, without padding; only attention looks at which run follows which. So a beginning that
//! many sequences share is computed once ([`tree`]), rows of a batch may have different lengths, and prefill and decoding
//! are one thing. The last layer and the head only see tokens whose prediction is wanted.
//!
//! Decoding takes a way of its own ([`step`]): one token a row, over kernels that read the weights once for all rows, give a
//! row the same bits whichever rows are beside it, and allocate nothing.
//!
//! Works in f32, where asked for with weights that are rounded to bf16. Its reference implementation is [`super::forward`] with its own cache.

mod buffers;
mod forward;
mod rows;
mod runs;
mod step;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

use super::parameters::HEAD;
use super::weights::{OnCpu, with_weights};
use super::{Continuation, ModelError, TokenScore};
pub(super) use buffers::Buffers;
use forward::Pass;
use nanochat_kernels::head;
pub(super) use rows::{Row, most_held};
use runs::{Before, Runs};
pub(super) use step::{Narrow, StepBuffers, StepWeights, narrowed, step};

/// Feeds new tokens to each cached row that has some: the capped logits after the last `wanted` of a row's new tokens,
/// row after row.
pub(super) fn extend(
    model: &OnCpu<'_>,
    new: &[&[u32]],
    wanted: impl Fn(usize) -> usize,
    rows: &mut [Row],
    buffers: &mut Buffers,
) -> Result<Vec<f32>, ModelError> {
    let mut runs = Runs::default();
    for (number, (ids, row)) in new.iter().zip(rows.iter()).enumerate().filter(|(_, (ids, _))| !ids.is_empty()) {
        let run = runs.push(ids, Before::Cached(number), row.tokens().len());
        runs.want(run, wanted(ids.len()));
    }
    let mut logits = Vec::new();
    predict(model, &runs, rows, buffers, |_, chunk| logits.extend_from_slice(chunk))?;
    Ok(logits)
}

/// Scores of the judged tokens of each sequence. Sequences that begin alike share the work, `batch_tokens` (or one sequence)
/// at a time.
pub(super) fn scores(
    model: &OnCpu<'_>,
    sequences: &[Continuation<'_>],
    batch_tokens: usize,
    buffers: &mut Buffers,
) -> Result<Vec<Vec<TokenScore>>, ModelError> {
    let mut scores = vec![Vec::new(); sequences.len()];
    let mut order: Vec<usize> = (0..sequences.len()).filter(|index| !sequences[*index].judged().is_empty()).collect();
    order.sort_by_key(|index| sequences[*index].read());
    for batch in tree::batches(sequences, &order, batch_tokens) {
        let grown = tree::grow(sequences, batch);
        // Which tokens are looked up in each row of logits.
        let mut lookups: Vec<(usize, usize, usize)> = Vec::new();
        for (sequence, path) in &grown.paths {
            let rows = grown.rows(path, sequences[*sequence].judged().len());
            lookups.extend(rows.enumerate().map(|(place, row)| (row, *sequence, place)));
            scores[*sequence] = vec![TokenScore::default(); sequences[*sequence].judged().len()];
        }
        lookups.sort_unstable();
        let mut lookups = lookups.into_iter().peekable();
        let vocab = model.shape.vocab_size;
        predict(model, &grown.runs, &mut [], buffers, |first, chunk| {
            let summaries = head::summaries(chunk, vocab);
            let end = first + summaries.len();
            while let Some((row, sequence, place)) = lookups.next_if(|(row, ..)| *row < end) {
                let token = sequences[sequence].judged()[place];
                let logit = chunk[(row - first) * vocab + token as usize];
                scores[sequence][place] = TokenScore::from_summary(summaries[row - first], logit);
            }
        })?;
    }
    Ok(scores)
}

/// Carries a pass out, and hands the capped logits of all wanted tokens on, a chunk at a time.
fn predict(
    model: &OnCpu<'_>,
    runs: &Runs,
    rows: &mut [Row],
    buffers: &mut Buffers,
    take: impl FnMut(usize, &[f32]),
) -> Result<(), ModelError> {
    with_weights::<f32, _>(model.parameters, |weights| {
        let mut pass = Pass::new(model, weights, runs);
        let wanted = pass.run(rows, buffers)?;
        let (width, vocab) = (model.shape.n_embd, model.shape.vocab_size);
        let (x, logits) = buffers.head(wanted * width);
        let head = head::Head {
            x,
            weight: weights.get(HEAD)?,
            targets: &[],
            width,
            vocab,
            compute_dtype: model.compute_dtype,
        };
        head::capped_in_chunks(head, logits, take);
        Ok(())
    })
}

/// The elements of a range of rows of some width.
fn part(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
