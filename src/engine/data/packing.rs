//! Best-fit packing of documents into rows (`nanochat/dataloader.py`).
//!
//! A row is filled with the largest buffered document that fits what is left of it, the earliest among equals; when none
//! fits, the shortest one, again the earliest, is cropped to fill the row, and its rest is dropped. The baseline scans its
//! list of 1,000 documents for each of these steps; here documents wait in a queue for each length, which gives the same
//! choice, since documents of one length always leave in the order in which they came.

use std::collections::{BTreeMap, VecDeque};

/// A waiting document and its number in the order of arrival.
#[derive(Debug, Clone)]
struct Waiting {
    arrival: u64,
    /// Its first tokens, as many as a row can take.
    tokens: Vec<u32>,
}

/// The buffered documents. A document's length decides when it goes; of its tokens only those that a row can take are kept, so
/// that memory is bounded whatever its length.
#[derive(Debug)]
pub(super) struct Buffer {
    row: usize,
    by_length: BTreeMap<usize, VecDeque<Waiting>>,
    documents: usize,
    arrivals: u64,
    mark: Option<Mark>,
}

/// A state of the buffer to come back to.
#[derive(Debug)]
struct Mark {
    arrivals: u64,
    /// What was taken since, with its length.
    taken: Vec<(usize, Waiting)>,
}

impl Buffer {
    /// An empty buffer for rows of so many tokens.
    pub fn new(row: usize) -> Self {
        Self { row, by_length: BTreeMap::new(), documents: 0, arrivals: 0, mark: None }
    }

    /// Remembers this state, until the next mark.
    pub fn mark(&mut self) {
        self.mark = Some(Mark { arrivals: self.arrivals, taken: Vec::new() });
    }

    /// Goes back to the mark, if there is one: what came since is dropped, and what left is put back at its place.
    pub fn back_to_mark(&mut self) {
        let Some(mark) = self.mark.take() else { return };
        self.by_length.retain(|_, queue| {
            queue.retain(|waiting| waiting.arrival < mark.arrivals);
            !queue.is_empty()
        });
        // Documents of one length leave in the order of their arrival, so the last that left is the first behind those before.
        for (length, waiting) in mark.taken.into_iter().rev().filter(|(_, taken)| taken.arrival < mark.arrivals) {
            self.by_length.entry(length).or_default().push_front(waiting);
        }
        self.arrivals = mark.arrivals;
        self.documents = self.by_length.values().map(VecDeque::len).sum();
    }

    /// How many tokens are kept of a document of that length.
    pub fn kept(&self, length: usize) -> usize {
        length.min(self.row)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Adds a document of that length, which has at least its `<|bos|>`; of its tokens at least those that are kept are given.
    pub fn push(&mut self, length: usize, mut tokens: Vec<u32>) {
        if tokens.len() > self.row {
            tokens = tokens[..self.row].to_vec();
        }
        let waiting = Waiting { arrival: self.arrivals, tokens };
        self.arrivals += 1;
        self.documents += 1;
        self.by_length.entry(length).or_default().push_back(waiting);
    }

    /// Takes the document that goes next into a row with `space` tokens left; what is longer than that is to be cropped.
    /// None when the buffer is empty.
    pub fn take(&mut self, space: usize) -> Option<Vec<u32>> {
        let fitting = self.by_length.range(..=space).next_back();
        let length = *fitting.or_else(|| self.by_length.first_key_value())?.0;
        let queue = self.by_length.get_mut(&length)?;
        let taken = queue.pop_front()?;
        if queue.is_empty() {
            self.by_length.remove(&length);
        }
        self.documents -= 1;
        if let Some(mark) = &mut self.mark {
            mark.taken.push((length, taken.clone()));
        }
        Some(taken.tokens)
    }

    /// The documents in the order of their arrival: their lengths, and the tokens that are kept of them.
    pub fn in_order(&self) -> Vec<(usize, &[u32])> {
        let mut all: Vec<(u64, usize, &[u32])> = Vec::with_capacity(self.documents);
        for (length, queue) in &self.by_length {
            all.extend(queue.iter().map(|waiting| (waiting.arrival, *length, waiting.tokens.as_slice())));
        }
        all.sort_unstable_by_key(|(arrival, ..)| *arrival);
        all.into_iter().map(|(_, length, tokens)| (length, tokens)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule, word for word, over a plain list.
    fn naive_take(list: &mut Vec<Vec<u32>>, space: usize) -> Vec<u32> {
        let mut best: Option<usize> = None;
        for (i, tokens) in list.iter().enumerate() {
            if tokens.len() <= space && best.is_none_or(|best| tokens.len() > list[best].len()) {
                best = Some(i);
            }
        }
        let shortest = (0..list.len()).min_by_key(|&i| list[i].len()).unwrap();
        list.remove(best.unwrap_or(shortest))
    }

    proptest! {
        #[test]
        fn takes_what_a_scan_of_the_list_takes(
            lengths in prop::collection::vec(1usize..40, 30..200),
            spaces in prop::collection::vec(1usize..30, 200),
        ) {
            let documents: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &len)| vec![i as u32; len]).collect();
            let (mut buffer, mut list) = (Buffer::new(29), Vec::new());
            let mut arriving = documents.into_iter();
            for space in spaces {
                while list.len() < 25 && let Some(document) = arriving.next() {
                    buffer.push(document.len(), document.clone());
                    list.push(document);
                }
                let cut = |tokens: &Vec<u32>| (tokens.len(), tokens[..tokens.len().min(29)].to_vec());
                let held: Vec<_> = buffer.in_order().into_iter().map(|(length, tokens)| (length, tokens.to_vec())).collect();
                prop_assert_eq!(held, list.iter().map(cut).collect::<Vec<_>>());
                if list.is_empty() {
                    prop_assert_eq!(buffer.take(space), None);
                    break;
                }
                let mut taken = naive_take(&mut list, space);
                taken.truncate(29);
                prop_assert_eq!(buffer.take(space), Some(taken));
                prop_assert_eq!(buffer.len(), list.len());
            }
        }

        #[test]
        fn going_back_to_the_mark_undoes_what_came_and_what_left(
            lengths in prop::collection::vec(1usize..12, 20..60),
            spaces in prop::collection::vec(1usize..12, 1..60),
        ) {
            let mut buffer = Buffer::new(8);
            let mut arriving = lengths.iter().enumerate().map(|(i, &length)| (length, vec![i as u32; length]));
            arriving.by_ref().take(15).for_each(|(length, tokens)| buffer.push(length, tokens));
            spaces.iter().take(3).for_each(|&space| drop(buffer.take(space)));
            let held = |buffer: &Buffer| -> Vec<_> {
                buffer.in_order().into_iter().map(|(length, tokens)| (length, tokens.to_vec())).collect()
            };
            let before = held(&buffer);
            buffer.mark();
            for &space in &spaces {
                if let Some((length, tokens)) = arriving.next() {
                    buffer.push(length, tokens);
                }
                buffer.take(space);
            }
            buffer.back_to_mark();
            prop_assert_eq!(buffer.len(), before.len());
            prop_assert_eq!(held(&buffer), before);
        }
    }
}
