//! The model without gradients: decoding through the cache, and scores of given tokens.

use candle_core::{DType, IndexOp, Tensor};

use super::cache::Store;
use super::inference::{self, Buffers};
use super::{Continuation, Gpt, KvCache, ModelError, TokenScore};

/// Tokens that a padded batch may hold where the kernels can't work.
const PADDED_TOKENS: usize = 4096;

impl Gpt {
    /// An empty key/value cache for `batch` rows with room for `capacity` tokens; it grows when more come.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Result<KvCache, ModelError> {
        if let Some((_, DType::F32)) = self.by_kernels() {
            return Ok(KvCache::paged(self.shape(), batch, capacity));
        }
        let dtype = self.parameters().values().next().map_or(DType::F32, Tensor::dtype);
        KvCache::tensors(self.shape(), batch, capacity, dtype, self.device())
    }

    /// Logits (B, T, V) of new tokens (B, T) that follow those in the cache, which then holds them.
    pub fn logits_cached(&self, ids: &Tensor, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let rows = self.check_ids(ids)?;
        if rows.len() != cache.rows() {
            return Err(ModelError::CacheRows { batch: rows.len(), cache: cache.rows() });
        }
        if let Store::Tensors(tensors) = cache.store_mut() {
            tensors.reserve(ids.dim(1)?)?;
            let logits = self.forward().logits(ids, Some(tensors))?;
            tensors.advance(&rows);
            return Ok(logits);
        }
        let new: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let logits = self.extend(&new, |count| count, cache)?;
        Ok(Tensor::from_vec(logits, (rows.len(), ids.dim(1)?, self.shape().vocab_size), self.device())?)
    }

    /// Feeds its new tokens to each row of the cache, at least one; the logits after the last of each.
    ///
    /// Rows may differ in how many tokens they hold and are fed, except where the reference operations work.
    pub fn next_logits(&self, new: &[&[u32]], cache: &mut KvCache) -> Result<Vec<Vec<f32>>, ModelError> {
        if new.len() != cache.rows() {
            return Err(ModelError::CacheRows { batch: new.len(), cache: cache.rows() });
        }
        let vocab_size = self.shape().vocab_size;
        if new.iter().any(|ids| ids.is_empty()) {
            return Err(ModelError::Batch { what: "ids", expected: "u32", got: "a row without tokens".into() });
        }
        new.iter().try_for_each(|ids| self.check_tokens(ids))?;
        if let Store::Paged(_) = cache.store_mut() {
            let logits = self.extend(new, |_| 1, cache)?;
            return Ok(logits.chunks_exact(vocab_size).map(<[f32]>::to_vec).collect());
        }
        let length = new.first().map_or(0, |ids| ids.len());
        if new.iter().any(|ids| ids.len() != length) {
            return Err(ModelError::Ragged);
        }
        let logits = self.logits_cached(&Tensor::from_vec(new.concat(), (new.len(), length), self.device())?, cache)?;
        Ok(logits.i((.., length - 1))?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    }

    /// Refuses ids outside the vocabulary.
    pub(super) fn check_tokens(&self, ids: &[u32]) -> Result<(), ModelError> {
        let vocab_size = self.shape().vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(ModelError::OutsideVocabulary { what: "ids", value: i64::from(*id), vocab_size }),
            None => Ok(()),
        }
    }

    /// Feeds a paged cache.
    fn extend(
        &self,
        new: &[&[u32]],
        wanted: impl Fn(usize) -> usize,
        cache: &mut KvCache,
    ) -> Result<Vec<f32>, ModelError> {
        let (Some((model, DType::F32)), (Store::Paged(rows), buffers)) = (self.on_cpu(), cache.parts_mut()) else {
            return Err(ModelError::ForeignCache);
        };
        inference::extend(&model, new, wanted, rows, buffers)
    }

    /// What the model makes of the judged tokens of each sequence, in the order of the sequences.
    ///
    /// On the kernels, beginnings that sequences share are computed once, and `batch_tokens` tokens (or one sequence) at a
    /// time. Elsewhere sequences of like lengths share padded batches.
    pub fn scores(
        &self,
        sequences: &[Continuation<'_>],
        batch_tokens: usize,
    ) -> Result<Vec<Vec<TokenScore>>, ModelError> {
        let vocab_size = self.shape().vocab_size;
        if let Some(id) = sequences.iter().flat_map(|sequence| sequence.tokens).find(|id| **id as usize >= vocab_size) {
            return Err(ModelError::OutsideVocabulary { what: "ids", value: i64::from(*id), vocab_size });
        }
        match self.by_kernels() {
            Some((model, DType::F32)) => inference::scores(&model, sequences, batch_tokens, &mut Buffers::default()),
            _ => self.padded_scores(sequences, batch_tokens.min(PADDED_TOKENS)),
        }
    }

    /// [`Gpt::scores`] by full passes over padded batches.
    fn padded_scores(
        &self,
        sequences: &[Continuation<'_>],
        batch_tokens: usize,
    ) -> Result<Vec<Vec<TokenScore>>, ModelError> {
        let mut scores = vec![Vec::new(); sequences.len()];
        let mut order: Vec<usize> =
            (0..sequences.len()).filter(|index| !sequences[*index].judged().is_empty()).collect();
        // Sequences of like lengths waste the least padding.
        order.sort_by_key(|index| (sequences[*index].tokens.len(), *index));
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let fits = |count: &usize| count * sequences[rest[count - 1]].tokens.len() <= batch_tokens;
            let count = (1..=rest.len()).take_while(fits).last().unwrap_or(1);
            let (batch, after) = rest.split_at(count);
            rest = after;
            let rows: Vec<&[u32]> = batch.iter().map(|index| sequences[*index].tokens).collect();
            for (logits, index) in self.padded_logits(&rows)?.into_iter().zip(batch) {
                scores[*index] = score_row(&logits, sequences[*index])?;
            }
        }
        Ok(scores)
    }

    /// Logits (T, V) of each row, T being the longest row's length: all rows in one pass, padded on the right, where causal
    /// attention never looks.
    pub fn padded_logits(&self, rows: &[&[u32]]) -> Result<Vec<Tensor>, ModelError> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or_default();
        let mut ids = Vec::with_capacity(rows.len() * width);
        for row in rows {
            ids.extend_from_slice(row);
            ids.resize(ids.len() + width - row.len(), 0);
        }
        let logits = self.logits(&Tensor::from_vec(ids, (rows.len(), width), self.device())?)?;
        (0..rows.len()).map(|row| Ok(logits.i(row)?)).collect()
    }
}

/// Scores of a sequence by the logits (T, V) of its tokens.
pub(crate) fn score_row(logits: &Tensor, sequence: Continuation<'_>) -> Result<Vec<TokenScore>, ModelError> {
    if sequence.judged().is_empty() {
        return Ok(Vec::new());
    }
    let rows = logits.i(sequence.start - 1..sequence.tokens.len() - 1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let outside = |token: u32| ModelError::OutsideVocabulary {
        what: "ids",
        value: i64::from(token),
        vocab_size: logits.dims().last().copied().unwrap_or_default(),
    };
    let scores = rows.iter().zip(sequence.judged());
    scores.map(|(row, token)| TokenScore::of(row, *token).ok_or_else(|| outside(*token))).collect()
}
