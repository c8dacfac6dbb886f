//! A batch as the device takes it: ids, targets, and the order in which the embeddings' gradients are summed.

use bytemuck::{Pod, Zeroable};
use nanochat_plan::gpu::{BatchPlaces, HEADER_BYTES, PIECE};
use nanochat_step::Batch;

/// What changes from batch to batch (`Header` in `kernels/common.h`).
#[derive(Debug, Clone, Copy, PartialEq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// On the gradient of every loss.
    pub factor: f32,
    /// The micro-step's place in its step.
    pub number: u32,
    /// Targets that are not ignored.
    pub counted: u32,
    /// Pieces of the embeddings' gradient.
    pub pieces: u32,
    /// Ids with several pieces.
    pub joins: u32,
    padding: [u32; 3],
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// One block of memory with everything about a batch, laid out for batches of one size.
#[derive(Debug, Clone)]
pub struct PreparedBatch {
    bytes: Vec<u8>,
    places: BatchPlaces,
    tokens: usize,
    starts: Vec<u32>,
}

impl PreparedBatch {
    /// For batches of so many tokens of a vocabulary.
    pub fn new(tokens: usize, vocab: usize) -> Self {
        let places = BatchPlaces::new(tokens, vocab);
        Self { bytes: vec![0; places.end], places, tokens, starts: vec![0; vocab + 1] }
    }

    pub(crate) fn places(&self) -> BatchPlaces {
        self.places
    }

    /// The block.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Fills the block with a batch of the size that it was made for, its ids within the vocabulary.
    pub fn fill(&mut self, batch: Batch<'_>, factor: f64) {
        debug_assert_eq!((batch.ids.len(), batch.targets.len()), (self.tokens, self.tokens));
        self.put(self.places.ids, batch.ids);
        self.put(self.places.targets, batch.targets);
        let order = self.sort(batch.ids);
        self.put(self.places.order, &order);
        let (pieces, joins) = self.pieces();
        debug_assert!(pieces.len() <= 4 * self.places.most_pieces && joins.len() <= 4 * self.places.most_joins);
        self.put(self.places.pieces, &pieces);
        self.put(self.places.joins, &joins);
        let header = Header {
            factor: factor as f32,
            number: batch.number as u32,
            counted: batch.targets.iter().filter(|target| **target >= 0).count() as u32,
            pieces: (pieces.len() / 4) as u32,
            joins: (joins.len() / 4) as u32,
            padding: [0; 3],
        };
        self.put(0, &[header]);
    }

    fn put<T: Pod>(&mut self, place: usize, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.bytes[place..][..bytes.len()].copy_from_slice(bytes);
    }

    /// The batch's tokens by id, those of one id in order; `starts` then has where each id's begin.
    fn sort(&mut self, ids: &[i32]) -> Vec<i32> {
        self.starts.fill(0);
        ids.iter().for_each(|id| self.starts[*id as usize + 1] += 1);
        for id in 1..self.starts.len() {
            self.starts[id] += self.starts[id - 1];
        }
        let (mut next, mut order) = (self.starts.clone(), vec![0; ids.len()]);
        for (token, id) in ids.iter().enumerate() {
            let place = &mut next[*id as usize];
            order[*place as usize] = token as i32;
            *place += 1;
        }
        order
    }

    /// Pieces (id, first, end, partial sum or −1) and joins (id, first and last partial sum, 0).
    fn pieces(&self) -> (Vec<i32>, Vec<i32>) {
        let (mut pieces, mut joins, mut partials) = (Vec::new(), Vec::new(), 0);
        for (id, bounds) in self.starts.windows(2).enumerate() {
            let (first, end) = (bounds[0] as usize, bounds[1] as usize);
            let several = end - first > PIECE;
            let before = partials;
            for start in (first..end).step_by(PIECE) {
                let partial = if several { partials } else { -1 };
                pieces.extend([id as i32, start as i32, (start + PIECE).min(end) as i32, partial]);
                partials += i32::from(several);
            }
            if several {
                joins.extend([id as i32, before, partials, 0]);
            }
        }
        (pieces, joins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token is in one piece of its id, in order, and every piece apart from the table is joined.
    #[test]
    fn pieces_have_every_token_once() {
        for (tokens, vocab) in [(1, 1), (64, 3), (65, 1), (700, 5), (1000, 3000)] {
            let ids: Vec<i32> = (0..tokens).map(|token| ((token * token * 7) % vocab) as i32).collect();
            let mut batch = PreparedBatch::new(tokens, vocab);
            let order = batch.sort(&ids);
            let (pieces, joins) = batch.pieces();
            let places = batch.places();
            assert!(pieces.len() / 4 <= places.most_pieces && joins.len() / 4 <= places.most_joins);
            let mut seen = Vec::new();
            for piece in pieces.chunks(4) {
                let members = &order[piece[1] as usize..piece[2] as usize];
                assert!(!members.is_empty() && members.len() <= PIECE && members.is_sorted());
                assert!(members.iter().all(|token| ids[*token as usize] == piece[0]));
                seen.extend_from_slice(members);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..tokens as i32).collect::<Vec<_>>());
            let apart: Vec<i32> = pieces.chunks(4).map(|piece| piece[3]).filter(|partial| *partial >= 0).collect();
            let joined: Vec<i32> = joins.chunks(4).flat_map(|join| join[1]..join[2]).collect();
            assert_eq!(apart, joined);
            assert!(apart.len() <= places.most_partials);
        }
    }
}
