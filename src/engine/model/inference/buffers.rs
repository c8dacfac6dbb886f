//! What a pass works on, kept from one pass to the next.

use std::ops::Range;

use candle_core::{DType, Device};

use super::part;
use super::runs::Runs;
use crate::model::ModelError;
use crate::ops::reference::rotary_table;
use nanochat_kernels::{Scratch, rotary};

/// Activations and scratch. Each buffer grows to the largest pass so far.
#[derive(Debug, Default)]
pub(in crate::model) struct Buffers {
    /// Normalised embeddings: of the pass's tokens, then of cached predecessors.
    pub(super) embedded: Vec<f32>,
    /// The smeared embeddings, what a layer takes in, what it gives out, and what the middle one gave out.
    pub(super) x0: Vec<f32>,
    pub(super) stream: Vec<f32>,
    pub(super) next: Vec<f32>,
    pub(super) middle: Vec<f32>,
    pub(super) normed: Vec<f32>,
    /// Queries, keys and values, and what is taken up: token-major and head-major.
    pub(super) tokens: Vec<f32>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// Hidden activations and their squares.
    pub(super) hidden: Vec<f32>,
    pub(super) squared: Vec<f32>,
    /// Factors and sigmoids that only a backward pass would read.
    pub(super) unread: Vec<f32>,
    pub(super) attention: Scratch<f32>,
    /// Cosines and sines of the pass's tokens.
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    /// The same of all positions from 0 on, as far as they were needed.
    table: [Vec<f32>; 2],
    logits: Vec<f32>,
}

/// The first `length` elements of a buffer, which grows if need be.
pub(super) fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// Moves some rows of a buffer, given in order, to its front.
pub(super) fn keep(buffer: &mut [f32], rows: &[Range<usize>], width: usize) {
    let mut to = 0;
    for rows in rows {
        let from = part(rows, width);
        let length = from.len();
        buffer.copy_within(from, to);
        to += length;
    }
}

impl Buffers {
    /// Cosines and sines of all tokens' places, for heads of `size` channels.
    pub(super) fn turn(&mut self, runs: &Runs, size: usize) -> Result<(), ModelError> {
        let half = size / 2;
        let longest = runs.list.iter().map(|run| run.position + run.tokens.len()).max().unwrap_or(0);
        if self.table[0].len() < longest * half {
            // Doubling: a row that grows by a token at a time doesn't compute the table each time.
            let (cos, sin) = rotary_table(0, longest.next_power_of_two(), size, DType::F32, &Device::Cpu)?;
            self.table = [cos.flatten_all()?.to_vec1()?, sin.flatten_all()?.to_vec1()?];
        }
        for (angles, table) in [&mut self.cos, &mut self.sin].into_iter().zip(&self.table) {
            angles.clear();
            for run in &runs.list {
                angles.extend_from_slice(&table[part(&(run.position..run.position + run.tokens.len()), half)]);
            }
        }
        Ok(())
    }

    /// The angles of the pass's tokens.
    pub(super) fn angles<'a>(cos: &'a [f32], sin: &'a [f32]) -> rotary::Angles<'a, f32> {
        rotary::Angles { cos, sin }
    }

    /// The head's input, and scratch for its logits.
    pub(super) fn head(&mut self, elements: usize) -> (&[f32], &mut Vec<f32>) {
        (&self.normed[..elements], &mut self.logits)
    }
}
