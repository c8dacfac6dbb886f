//! Best-fit packing of documents into rows (`nanochat/dataloader.py`).
//!
//! A row is filled with the largest buffered document that fits what is left of it, the earliest among equals; when none
//! fits, the shortest one, again the earliest, is cropped to fill the row, and its rest is dropped. The baseline scans its
//! list of 1,000 documents for each of these steps; here documents wait in a queue for each length, which gives the same
//! choice, since documents of one length always leave in the order in which they came.

use std::collections::{BTreeMap, VecDeque};

/// A waiting document and its number in the order of arrival.
#[derive(Debug)]
struct Waiting {
    arrival: u64,
    tokens: Vec<u32>,
}

/// The buffered documents.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    by_length: BTreeMap<usize, VecDeque<Waiting>>,
    documents: usize,
    arrivals: u64,
}

impl Buffer {
    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Adds a document, which has at least its `<|bos|>`.
    pub fn push(&mut self, tokens: Vec<u32>) {
        let waiting = Waiting { arrival: self.arrivals, tokens };
        self.arrivals += 1;
        self.documents += 1;
        self.by_length.entry(waiting.tokens.len()).or_default().push_back(waiting);
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
        Some(taken.tokens)
    }

    /// The documents in the order of their arrival.
    pub fn in_order(&self) -> Vec<&[u32]> {
        let mut all: Vec<&Waiting> = self.by_length.values().flatten().collect();
        all.sort_unstable_by_key(|waiting| waiting.arrival);
        all.into_iter().map(|waiting| waiting.tokens.as_slice()).collect()
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
            let (mut buffer, mut list) = (Buffer::default(), Vec::new());
            let mut arriving = documents.into_iter();
            for space in spaces {
                while list.len() < 25 && let Some(document) = arriving.next() {
                    buffer.push(document.clone());
                    list.push(document);
                }
                prop_assert_eq!(buffer.in_order(), list.iter().map(Vec::as_slice).collect::<Vec<_>>());
                if list.is_empty() {
                    prop_assert_eq!(buffer.take(space), None);
                    break;
                }
                prop_assert_eq!(buffer.take(space), Some(naive_take(&mut list, space)));
                prop_assert_eq!(buffer.len(), list.len());
            }
        }
    }
}
