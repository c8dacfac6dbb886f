//! Encoded reads of long documents, kept in memory: a few long documents are drawn a thousand times to fill a loader's buffer,
//! and again by every evaluation, while of each only its length and the tokens of one row matter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Split;
use super::tokens::Tokens;

/// A read is kept where its text has at least so many bytes for each token that is kept of it.
const WORTH: usize = 16;
/// Most tokens that are kept in all: 16 MiB.
const MOST: usize = 4 << 20;

/// Which read: the tokenizer's digest, the tokens of a row, the split, the shard, the group in it, the document in that.
pub(super) type Place = (Arc<str>, usize, Split, usize, usize, usize);

/// The reads that are kept.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    reads: HashMap<Place, Arc<Vec<Tokens>>>,
    tokens: usize,
}

impl Remembered {
    /// A read that was kept.
    pub fn get(&self, place: &Place) -> Option<Arc<Vec<Tokens>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reads.get(place).cloned()
    }

    /// Keeps a read of so many bytes of text if that is worth it, as long as there is room.
    pub fn keep(&self, place: Place, bytes: usize, read: &[Tokens]) {
        let tokens: usize = read.iter().map(|document| document.first.len()).sum();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes / WORTH >= tokens && kept.tokens + tokens <= MOST {
            kept.tokens += tokens;
            kept.reads.insert(place, Arc::new(read.to_vec()));
        }
    }
}
