//! Endless batches of one split: documents in order, tokenised, packed into rows (`nanochat/dataloader.py`).
//!
//! Documents come in reads of up to 128 that never cross a group, as the baseline's do; before each choice the buffer is
//! filled up to 1,000 documents at least. Both numbers decide which documents meet in a row, so both are fixed. Reading
//! and tokenising run ahead on another thread.

use std::sync::Arc;

use nanochat_artifacts::bytes_sha256;
use nanochat_plan::activations::BatchSize;

use crate::tokenizer::Tokenizer;

use super::ahead::{Position, Source};
use super::packing::Buffer;
use super::{Corpus, DataError, LoaderState, Split};

/// Fewest buffered documents before a choice.
const BUFFER: usize = 1000;

/// One micro-batch, row-major. Every id is of the tokenizer's vocabulary: whoever uses a batch with a model of that vocabulary
/// needs to check nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `(batch_size, sequence_len)`.
    pub inputs: Vec<i32>,
    /// The token after each, `(batch_size, sequence_len)`.
    pub targets: Vec<i32>,
    /// Rows.
    pub batch_size: usize,
    /// Tokens a row.
    pub sequence_len: usize,
}

impl Batch {
    /// Rows, and tokens a row.
    pub fn size(&self) -> BatchSize {
        BatchSize { rows: self.batch_size, length: self.sequence_len }
    }

    /// As the micro-step numbered `number` from 0 takes it.
    pub fn micro_step(&self, number: usize) -> nanochat_step::Batch<'_> {
        nanochat_step::Batch { ids: &self.inputs, targets: &self.targets, number }
    }

    /// How many targets are not ignored.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|target| **target >= 0).count()
    }

    /// SHA-256, 64 hex digits, of the inputs, then the targets, as little-endian 32-bit integers.
    pub fn sha256(&self) -> String {
        let inputs = self.inputs.iter().flat_map(|token| token.to_le_bytes());
        let bytes: Vec<u8> = inputs.chain(self.targets.iter().flat_map(|token| token.to_le_bytes())).collect();
        bytes_sha256(&bytes)
    }
}

/// Endless batches of one split.
#[derive(Debug)]
pub struct Loader {
    source: Source,
    /// After the reads that were taken; the thread may be ahead of it.
    position: Position,
    /// Where it stood at the mark.
    marked: Option<Position>,
    buffer: Buffer,
    batch_size: usize,
    sequence_len: usize,
}

impl Loader {
    /// A loader at the start of the split; reads nothing yet.
    ///
    /// # Errors
    /// A batch without rows or tokens.
    pub fn new(
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        split: Split,
        batch_size: usize,
        sequence_len: usize,
    ) -> Result<Self, DataError> {
        if batch_size == 0 || sequence_len == 0 {
            return Err(DataError::EmptyBatch { batch_size, sequence_len });
        }
        let source = Source::new(corpus, tokenizer, split, sequence_len + 1);
        Ok(Self {
            source,
            position: Position::default(),
            marked: None,
            buffer: Buffer::new(sequence_len + 1),
            batch_size,
            sequence_len,
        })
    }

    /// The next batch; there is always one more.
    ///
    /// # Errors
    /// A shard can't be read. The batch that was begun is lost then: go on from a stored state.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        self.next_batch_unless(&|| false)
    }

    /// The same, given up with [`DataError::Stopped`] as soon as `stop` says so: encoding a long document can take a while.
    ///
    /// # Errors
    /// See [`Self::next_batch`].
    pub fn next_batch_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Batch, DataError> {
        let mut batch = Batch {
            inputs: Vec::with_capacity(self.batch_size * self.sequence_len),
            targets: Vec::with_capacity(self.batch_size * self.sequence_len),
            batch_size: self.batch_size,
            sequence_len: self.sequence_len,
        };
        let mut row = Vec::with_capacity(self.sequence_len + 1);
        for _ in 0..self.batch_size {
            self.fill_row(&mut row, stop)?;
            batch.inputs.extend(row[..self.sequence_len].iter().map(|token| *token as i32));
            batch.targets.extend(row[1..].iter().map(|token| *token as i32));
        }
        Ok(batch)
    }

    /// Packs one row of `sequence_len + 1` tokens.
    fn fill_row(&mut self, row: &mut Vec<u32>, stop: &dyn Fn() -> bool) -> Result<(), DataError> {
        row.clear();
        while row.len() <= self.sequence_len {
            while self.buffer.len() < BUFFER {
                let read = self.source.next(self.position, stop)?;
                self.position = read.position;
                read.documents.iter().for_each(|read| self.buffer.push(read.length, read.first.clone()));
            }
            let space = self.sequence_len + 1 - row.len();
            if let Some(document) = self.buffer.take(space) {
                row.extend_from_slice(&document[..space.min(document.len())]);
            }
        }
        Ok(())
    }

    /// Remembers where the loader stands, until the next mark.
    pub fn mark(&mut self) {
        self.buffer.mark();
        self.marked = Some(self.position);
    }

    /// Goes back to the mark, if there is one: the batches since come again.
    pub fn back_to_mark(&mut self) {
        if let Some(position) = self.marked.take() {
            self.buffer.back_to_mark();
            self.position = position;
            self.source.reset();
        }
    }

    /// Passes over the split, the first is 1.
    pub fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// Position and buffer after the batches given so far.
    pub fn state(&self) -> LoaderState {
        let Position { epoch, shard, group, document } = self.position;
        let buffered = self.buffer.in_order();
        LoaderState {
            split: self.source.split,
            epoch,
            shard,
            group,
            document,
            lengths: buffered.iter().map(|(length, _)| *length as u32).collect(),
            tokens: buffered.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect(),
        }
    }

    /// Goes on where `state` was taken: the next batch is the one that would have come there.
    ///
    /// # Errors
    /// The state is of another split, points past the corpus, or holds what this tokenizer never gives.
    pub fn restore(&mut self, state: LoaderState) -> Result<(), DataError> {
        self.source.check(&state)?;
        let mut buffer = Buffer::new(self.sequence_len + 1);
        let mut rest = state.tokens.as_slice();
        // Before documents were cut to what a row takes, states held them whole.
        let whole = state.lengths.iter().map(|length| *length as usize).sum::<usize>() == rest.len();
        for length in state.lengths.iter().map(|length| *length as usize) {
            let (document, after) = rest
                .split_at_checked(if whole { length } else { buffer.kept(length) })
                .ok_or_else(|| DataError::State("the buffer has fewer tokens than its lengths say".into()))?;
            if document.first() != Some(&self.source.tokenizer.bos_id()) {
                return Err(DataError::State("a buffered document doesn't begin with the tokenizer's <|bos|>".into()));
            }
            buffer.push(length, document.to_vec());
            rest = after;
        }
        if !rest.is_empty() {
            return Err(DataError::State("the buffer has more tokens than its lengths say".into()));
        }
        (self.buffer, self.marked) = (buffer, None);
        self.position =
            Position { epoch: state.epoch, shard: state.shard, group: state.group, document: state.document };
        self.source.reset();
        Ok(())
    }
}
