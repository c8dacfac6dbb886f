//! Output projection, soft cap and cross-entropy, a chunk of tokens at a time.

use nanochat_plan::activations::Chunks;
use nanochat_step::{HeadGradients, Matrix, Op, Region, WriteMode};

use super::{GpuOps, VECTOR};
use crate::{Device, DeviceError, Kernel};

/// Most threads of a block.
const MOST_THREADS: usize = 1024;

/// What the head reads and writes.
#[derive(Debug, Clone, Copy)]
struct Head {
    x: Region,
    weight: Region,
    width: usize,
    vocab: usize,
    columns: usize,
    losses: Region,
    logits: Region,
    gradients: Option<HeadGradients>,
}

impl<D: Device> GpuOps<D> {
    pub(super) fn head(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        match *op {
            Op::Head { x, weight, width, vocab, losses, logits, gradients } => {
                let head =
                    Head { x, weight, width, vocab, columns: Chunks::GPU.columns(vocab), losses, logits, gradients };
                let rows = logits.len / head.columns;
                let all = self.tokens;
                let mut chunks = (0..all).step_by(rows).map(|first| first..(first + rows).min(all));
                chunks.try_for_each(|tokens| self.chunk(&head, tokens))
            }
            Op::MeanLoss { losses, means } => {
                let arguments = [self.at(losses), self.batch_at(0), self.at(means), self.tokens as u64];
                self.launch(Kernel::MeanLoss, 1, MOST_THREADS as u32, &arguments)
            }
            _ => unreachable!("operations of the head alone come here"),
        }
    }

    /// Losses and gradients of some tokens. Logits have the columns of the padded vocabulary; those beyond the vocabulary are of
    /// no account, and their gradient is 0.
    fn chunk(&mut self, head: &Head, tokens: std::ops::Range<usize>) -> Result<(), DeviceError> {
        let Head { width, columns, .. } = *head;
        let (first, count) = (tokens.start, tokens.len());
        let x = Matrix::new(head.x.part(first * width, count * width), count, width);
        let weight = Matrix::new(head.weight.part(0, columns * width), columns, width);
        let logits = head.logits.part(0, count * columns);
        self.product(x, weight.transposed(), logits, WriteMode::Overwrite)?;
        let arguments = [
            self.at(logits),
            self.batch_at(self.batch.places().targets + 4 * first),
            self.at(head.losses.part(first, count)),
            self.batch_at(0),
            head.vocab as u64,
            columns as u64,
            u64::from(head.gradients.is_some()),
        ];
        let threads = columns.div_ceil(VECTOR).next_multiple_of(32).min(MOST_THREADS);
        self.launch(Kernel::CrossEntropy, count as u32, threads as u32, &arguments)?;
        if let Some(HeadGradients { dx, dweight }) = head.gradients {
            let d = Matrix::new(logits, count, columns);
            self.product(d, weight, dx.part(first * width, count * width), WriteMode::Overwrite)?;
            self.product(d.transposed(), x, dweight.part(0, columns * width), WriteMode::Accumulate)?;
        }
        Ok(())
    }
}
