//! Cached rows: keys and values in pages that grow without copying and that rows share until they part.
//!
//! Each layer keeps what its window still sees and, of what lies before, less than a page: however long a row grows, what it
//! holds has a bound. A page that nobody sees any more takes up the next tokens, so that a row that has reached its window
//! needs no more memory.

use std::sync::Arc;

use nanochat_kernels::decode_attention::Seen;
use nanochat_kernels::ragged_attention::Piece;
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{kv_dim, window_sizes};

/// Tokens that a page has room for, at least and at most.
const LEAST_PAGE: usize = 16;
const MOST_PAGE: usize = 256;

/// Keys and values of one row of tokens, for all layers.
#[derive(Debug, Clone)]
pub(in crate::model) struct Row {
    /// Elements of one token's keys in all heads, and key/value heads.
    width: usize,
    groups: usize,
    /// The tokens.
    tokens: Vec<u32>,
    layers: Vec<Layer>,
    /// Tokens that are still to come, as far as is known.
    expected: usize,
}

/// One layer's part of a row.
#[derive(Debug)]
struct Layer {
    /// Tokens to the left that a query sees besides itself.
    window: usize,
    /// Place of the first token that is held.
    first: usize,
    pages: Vec<Page>,
    /// A page that nobody sees any more.
    spare: Option<Page>,
}

/// Keys, then values, of consecutive tokens, each head-major over the room that there is. Rows that began alike share it.
#[derive(Debug, Clone)]
struct Page {
    elements: Arc<Vec<f32>>,
    room: usize,
    used: usize,
}

/// Tokens that one layer of a row of `length` tokens holds at most, all pages counted in full.
pub(in crate::model) fn most_held(length: usize, window: usize) -> usize {
    length.min(window.saturating_add(MOST_PAGE))
}

impl Clone for Layer {
    /// Shares the pages; a spare one stays where it is.
    fn clone(&self) -> Self {
        Self { window: self.window, first: self.first, pages: self.pages.clone(), spare: None }
    }
}

impl Row {
    /// An empty row that will hold about `capacity` tokens.
    pub(in crate::model) fn new(shape: &ModelShape, capacity: usize) -> Self {
        let layer = |window| Layer { window, first: 0, pages: Vec::new(), spare: None };
        Self {
            width: kv_dim(shape),
            groups: shape.n_kv_head,
            tokens: Vec::new(),
            layers: window_sizes(shape).into_iter().map(layer).collect(),
            expected: capacity,
        }
    }

    /// The tokens held.
    pub(in crate::model) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The last token held.
    pub(super) fn last(&self) -> Option<u32> {
        self.tokens.last().copied()
    }

    /// The same row, to be continued on its own up to about `capacity` tokens; what is held is shared, not copied.
    pub(in crate::model) fn branch(&self, capacity: usize) -> Self {
        let mut row = Self { expected: capacity.saturating_sub(self.tokens.len()), ..self.clone() };
        row.tokens.reserve(row.expected.min(1 << 16));
        row
    }

    /// Whether what the windows see from the token at `length` on is still held.
    pub(in crate::model) fn reaches(&self, length: usize) -> bool {
        length == 0 || self.layers.iter().all(|layer| layer.first <= length.saturating_sub(layer.window))
    }

    /// Forgets all but the first `length` tokens, to which the row must reach.
    pub(in crate::model) fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
        for Layer { first, pages, .. } in &mut self.layers {
            *first = (*first).min(length);
            let mut left = length - *first;
            pages.retain_mut(|page| {
                page.used = page.used.min(left);
                left -= page.used;
                page.used > 0
            });
        }
    }

    /// Place of the first token that a layer holds.
    pub(super) fn first(&self, layer: usize) -> usize {
        self.layers[layer].first
    }

    /// The pieces that one layer's keys and values lie in.
    pub(super) fn pieces(&self, layer: usize) -> impl Iterator<Item = Piece<'_, f32>> + Clone {
        self.layers[layer].pages.iter().map(|page| {
            let (k, v) = page.elements.split_at(page.room * self.width);
            Piece { k, v, stride: page.room * self.width / self.groups, tokens: page.used }
        })
    }

    /// What the query of the token that was taken up last, and isn't counted yet, sees in a layer.
    pub(super) fn seen_by_the_next(&self, layer: usize) -> Seen<impl Iterator<Item = Piece<'_, f32>> + Clone> {
        let Layer { window, first, .. } = &self.layers[layer];
        let skipped = self.tokens.len().saturating_sub(*window).saturating_sub(*first);
        Seen { pieces: self.pieces(layer), skipped, seen: self.tokens.len() + 1 - first - skipped }
    }

    /// Takes up one layer's keys and values of new tokens: `count` from `start` on of those in `k` and `v`, which are
    /// head-major over `total` tokens.
    pub(super) fn append(&mut self, layer: usize, [k, v]: [&[f32]; 2], start: usize, count: usize, total: usize) {
        let size = self.width / self.groups;
        let (mut start, mut count) = (start, count);
        let Layer { pages, spare, .. } = &mut self.layers[layer];
        while count > 0 {
            if !pages.last_mut().is_some_and(Page::has_room) {
                let held = pages.iter().map(|page| page.used).sum::<usize>();
                // Doubling keeps the number of pages small in a row that outgrows what was asked for.
                let room = if self.expected == 0 { held } else { self.expected }.clamp(LEAST_PAGE, MOST_PAGE);
                let new = || Page { elements: Arc::new(vec![0.0; 2 * room * self.width]), room, used: 0 };
                pages.push(spare.take().unwrap_or_else(new));
            }
            let Some(page) = pages.last_mut() else { return };
            let taken = count.min(page.room - page.used);
            let Some(elements) = Arc::get_mut(&mut page.elements) else { return };
            let (keys, values) = elements.split_at_mut(page.room * self.width);
            for (to, from) in [(keys, k), (values, v)] {
                for group in 0..self.groups {
                    let to = &mut to[(group * page.room + page.used) * size..][..taken * size];
                    to.copy_from_slice(&from[(group * total + start) * size..][..taken * size]);
                }
            }
            page.used += taken;
            (start, count) = (start + taken, count - taken);
        }
    }

    /// Counts tokens that all layers have taken up, and lets go of what no window sees any more.
    pub(super) fn advance(&mut self, ids: &[u32]) {
        self.tokens.extend_from_slice(ids);
        self.expected = self.expected.saturating_sub(ids.len());
        let length = self.tokens.len();
        for Layer { window, first, pages, spare } in &mut self.layers {
            let unseen = length.saturating_sub(*window);
            while let Some(used) = pages.first().map(|page| page.used).filter(|used| *first + used <= unseen) {
                let mut page = pages.remove(0);
                *first += used;
                let is_larger = spare.as_ref().is_none_or(|spare| spare.room < page.room);
                if is_larger && Arc::get_mut(&mut page.elements).is_some() {
                    page.used = 0;
                    *spare = Some(page);
                }
            }
        }
    }
}

impl Page {
    /// Whether more can be written: there is room, and nobody else reads it.
    fn has_room(&mut self) -> bool {
        self.used < self.room && Arc::get_mut(&mut self.elements).is_some()
    }
}
