//! Cached rows: keys and values in pages that grow without copying and that rows share until they part.

use std::sync::Arc;

use crate::ops::kernels::ragged_attention::Piece;

/// Tokens that a page has room for at least.
const LEAST_PAGE: usize = 16;

/// Keys and values of one row of tokens, for all layers.
#[derive(Debug, Clone)]
pub(in crate::model) struct Row {
    /// Numbers of one token's keys in all heads, and key/value heads.
    width: usize,
    groups: usize,
    /// The tokens.
    tokens: Vec<u32>,
    /// Pages by layer.
    layers: Vec<Vec<Page>>,
    /// Tokens that the next page has room for, so that a row of the size that was asked for has few pages.
    next_page: usize,
}

/// Keys, then values, of consecutive tokens, each head-major over the room that there is. Rows that began alike share it.
#[derive(Debug, Clone)]
struct Page {
    numbers: Arc<Vec<f32>>,
    room: usize,
    used: usize,
}

impl Row {
    /// An empty row that will take up about `capacity` tokens.
    pub(in crate::model) fn new(layers: usize, groups: usize, width: usize, capacity: usize) -> Self {
        Self { width, groups, tokens: Vec::new(), layers: vec![Vec::new(); layers], next_page: capacity }
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
        Self { next_page: capacity.saturating_sub(self.tokens.len()), ..self.clone() }
    }

    /// Forgets all but the first `length` tokens.
    pub(in crate::model) fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
        for pages in &mut self.layers {
            let mut left = length;
            pages.retain_mut(|page| {
                page.used = page.used.min(left);
                left -= page.used;
                page.used > 0
            });
        }
    }

    /// The pieces that one layer's keys and values lie in.
    pub(super) fn pieces(&self, layer: usize) -> impl Iterator<Item = Piece<'_, f32>> {
        self.layers[layer].iter().map(|page| {
            let (k, v) = page.numbers.split_at(page.room * self.width);
            Piece { k, v, stride: page.room * self.width / self.groups, tokens: page.used }
        })
    }

    /// Takes up one layer's keys and values of new tokens: `count` from `start` on of those in `k` and `v`, which are
    /// head-major over `total` tokens.
    pub(super) fn append(&mut self, layer: usize, [k, v]: [&[f32]; 2], start: usize, count: usize, total: usize) {
        let size = self.width / self.groups;
        let (mut start, mut count) = (start, count);
        while count > 0 {
            let held = self.layers[layer].iter().map(|page| page.used).sum::<usize>();
            let pages = &mut self.layers[layer];
            if !pages.last_mut().is_some_and(Page::has_room) {
                // Doubling keeps the number of pages small in a row that outgrows what was asked for.
                let room = if self.next_page == 0 { held } else { self.next_page };
                let room = room.max(count).max(LEAST_PAGE);
                pages.push(Page { numbers: Arc::new(vec![0.0; 2 * room * self.width]), room, used: 0 });
            }
            let Some(page) = pages.last_mut() else { return };
            let taken = count.min(page.room - page.used);
            let Some(numbers) = Arc::get_mut(&mut page.numbers) else { return };
            let (keys, values) = numbers.split_at_mut(page.room * self.width);
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

    /// Counts tokens that all layers have taken up.
    pub(super) fn advance(&mut self, ids: &[u32]) {
        self.tokens.extend_from_slice(ids);
        self.next_page = self.next_page.saturating_sub(ids.len());
    }
}

impl Page {
    /// Whether more can be written: there is room, and nobody else reads it.
    fn has_room(&mut self) -> bool {
        self.used < self.room && Arc::get_mut(&mut self.numbers).is_some()
    }
}
