//! Counts different pieces of text: a hash table over one block of bytes, since most pieces have been seen before.

use super::split::pieces;
use super::vocabulary::hash_bytes;

/// A piece and how often it came.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    start: usize,
    length: usize,
    count: u64,
}

/// Counts by piece.
#[derive(Debug, Default)]
pub(super) struct WordCounts {
    /// All different pieces, one after the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Open addressing: entry plus one, 0 for an empty slot; a power of two long, at most half full.
    slots: Vec<u32>,
}

impl WordCounts {
    /// Counts the pieces of a text.
    pub fn add_text(&mut self, text: &str) {
        for piece in pieces(text) {
            self.add(piece.as_bytes(), 1);
        }
    }

    /// Adds what another table counted.
    pub fn merge(&mut self, other: &Self) {
        for (word, count) in other.iter() {
            self.add(word, count);
        }
    }

    /// Different pieces and their counts, in the order in which they first came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.entries.iter().map(|entry| (&self.bytes[entry.start..entry.start + entry.length], entry.count))
    }

    fn add(&mut self, word: &[u8], count: u64) {
        if 2 * self.entries.len() >= self.slots.len() {
            self.grow();
        }
        let hash = hash_bytes(word);
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while let Some(index) = self.slots[slot].checked_sub(1) {
            let entry = &mut self.entries[index as usize];
            if entry.hash == hash && self.bytes[entry.start..entry.start + entry.length] == *word {
                entry.count += count;
                return;
            }
            slot = (slot + 1) & mask;
        }
        self.entries.push(Entry { hash, start: self.bytes.len(), length: word.len(), count });
        self.bytes.extend_from_slice(word);
        self.slots[slot] = self.entries.len() as u32;
    }

    fn grow(&mut self) {
        let length = (4 * self.entries.len()).next_power_of_two().max(1 << 12);
        self.slots.clear();
        self.slots.resize(length, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & (length - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (length - 1);
            }
            self.slots[slot] = index as u32 + 1;
        }
    }
}
