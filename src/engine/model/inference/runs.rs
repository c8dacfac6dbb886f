//! Which tokens a pass takes, and which follow which.

use std::ops::Range;

use super::rows::Row;
use nanochat_kernels::ragged_attention::{Piece, Span};
use nanochat_kernels::smear::NO_PREDECESSOR;

/// What a run follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it begins a row.
    Nothing,
    /// An earlier run of the same pass.
    Run(usize),
    /// A row of the cache.
    Cached(usize),
}

/// Consecutive tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Where its tokens lie among the pass's.
    pub(super) tokens: Range<usize>,
    /// What it follows.
    pub(super) before: Before,
    /// Place of its first token in its row.
    pub(super) position: usize,
    /// How many of its last tokens are to predict their successor.
    pub(super) wanted: usize,
}

/// The tokens of a pass: runs, each after the one that it follows.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Token ids, run after run.
    pub(super) ids: Vec<u32>,
    /// The runs.
    pub(super) list: Vec<Run>,
}

impl Runs {
    /// Adds a run of which no prediction is wanted so far; its number.
    pub(super) fn push(&mut self, ids: &[u32], before: Before, position: usize) -> usize {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.list.push(Run { tokens: start..self.ids.len(), before, position, wanted: 0 });
        self.list.len() - 1
    }

    /// Wants the predictions of at least the last `count` tokens of a run.
    pub(super) fn want(&mut self, run: usize, count: usize) {
        let run = &mut self.list[run];
        run.wanted = run.wanted.max(count);
    }

    /// The tokens whose prediction is wanted, in order.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Range<usize>> {
        self.list.iter().map(|run| run.tokens.end - run.wanted..run.tokens.end).filter(|tokens| !tokens.is_empty())
    }

    /// For each token the index of its predecessor: among the pass's tokens, or, for one in the cache, beyond them, where
    /// the ids given back with it are put.
    pub(super) fn predecessors(&self, rows: &[Row]) -> (Vec<u32>, Vec<u32>) {
        let (mut before, mut beyond) = (Vec::with_capacity(self.ids.len()), Vec::new());
        for run in &self.list {
            let first = match run.before {
                Before::Nothing => NO_PREDECESSOR,
                Before::Run(other) => self.list[other].tokens.end as u32 - 1,
                Before::Cached(row) => rows[row].last().map_or(NO_PREDECESSOR, |id| {
                    beyond.push(id);
                    (self.ids.len() + beyond.len() - 1) as u32
                }),
            };
            before.push(first);
            before.extend(run.tokens.clone().skip(1).map(|token| token as u32 - 1));
        }
        (before, beyond)
    }

    /// One layer's attention: the queries of all runs, or of the wanted tokens alone, with the pieces that their keys and
    /// values lie in. `k` and `v` are head-major over all tokens.
    pub(super) fn spans<'a>(
        &self,
        wanted_alone: bool,
        layer: usize,
        rows: &'a [Row],
        [k, v]: [&'a [f32]; 2],
        size: usize,
    ) -> Vec<Span<'a, f32>> {
        let stride = self.ids.len() * size;
        let mut all: Vec<(usize, Vec<Piece<'a, f32>>)> = Vec::with_capacity(self.list.len());
        let mut spans = Vec::with_capacity(self.list.len());
        for run in &self.list {
            let (first, mut pieces) = match run.before {
                Before::Nothing => (0, Vec::new()),
                Before::Run(other) => all[other].clone(),
                Before::Cached(row) => (rows[row].first(layer), rows[row].pieces(layer).collect()),
            };
            let start = run.tokens.start * size;
            pieces.push(Piece { k: &k[start..], v: &v[start..], stride, tokens: run.tokens.len() });
            let queries = if wanted_alone { run.wanted } else { run.tokens.len() };
            if queries > 0 {
                let position = run.position + run.tokens.len() - queries;
                spans.push(Span { queries, position, first, pieces: pieces.clone() });
            }
            all.push((first, pieces));
        }
        spans
    }
}
