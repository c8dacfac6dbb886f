//! Text to ids: split, then look each piece up in a cache of this thread, then merge.
//!
//! Natural text repeats its words, so nine pieces in ten are answered by one comparison of 24 bytes; no lock, no
//! allocation. The cache is a plain table with one candidate a slot: what collides is replaced.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::merge::merge_piece;
use super::split::pieces;
use super::vocabulary::{Vocabulary, fold};

/// Longest piece the cache holds, in bytes.
const KEY_BYTES: usize = 23;
/// Most ids of a piece that the cache holds.
const VALUE_IDS: usize = 8;
/// Slots a thread: 2 MiB.
const SLOTS: usize = 1 << 15;

/// Ids that are forgotten at a time where only their number is asked for.
const FORGOTTEN: usize = 1 << 14;

/// A cached piece, one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Slot {
    /// The piece's bytes, zero-padded, the length in the last byte.
    key: [u64; 3],
    ids: [u32; VALUE_IDS],
    /// Which encoder it belongs to; 0: nobody.
    owner: u32,
    count: u32,
}

const EMPTY: Slot = Slot { key: [0; 3], ids: [0; VALUE_IDS], owner: 0, count: 0 };

thread_local! {
    static CACHE: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

static NEXT_OWNER: AtomicU32 = AtomicU32::new(1);

/// Encodes with one vocabulary.
#[derive(Debug)]
pub(super) struct Encoder {
    owner: u32,
}

impl Encoder {
    /// An encoder with a cache of its own.
    pub fn new() -> Self {
        Self { owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed) }
    }

    /// Appends the ids of `text`.
    pub fn encode_into(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        CACHE.with_borrow_mut(|cache| {
            if cache.is_empty() {
                cache.resize(SLOTS, EMPTY);
            }
            for piece in pieces(text) {
                self.encode_piece(vocabulary, cache, piece.as_bytes(), ids);
            }
        });
    }

    /// The number of ids of `text`, and the first `most` of them: what is beyond is counted and forgotten, so that memory stays
    /// small whatever the text's length.
    pub fn encode_first(&self, vocabulary: &Vocabulary, text: &str, most: usize) -> (usize, Vec<u32>) {
        CACHE.with_borrow_mut(|cache| {
            if cache.is_empty() {
                cache.resize(SLOTS, EMPTY);
            }
            let (mut ids, mut beyond) = (Vec::new(), 0);
            for piece in pieces(text) {
                self.encode_piece(vocabulary, cache, piece.as_bytes(), &mut ids);
                if ids.len() > most + FORGOTTEN {
                    beyond += ids.len() - most;
                    ids.truncate(most);
                }
            }
            let length = beyond + ids.len();
            ids.truncate(most);
            ids.shrink_to_fit();
            (length, ids)
        })
    }

    #[inline]
    fn encode_piece(&self, vocabulary: &Vocabulary, cache: &mut [Slot], piece: &[u8], ids: &mut Vec<u32>) {
        if piece.len() > KEY_BYTES {
            return encode_uncached(vocabulary, piece, ids);
        }
        let key = key_of(piece);
        let hash = fold(fold(key[0], key[1]), key[2]);
        let slot = &mut cache[hash as usize % SLOTS];
        if slot.owner != self.owner || slot.key != key {
            let start = ids.len();
            encode_uncached(vocabulary, piece, ids);
            let fresh = &ids[start..];
            if fresh.len() <= VALUE_IDS {
                slot.ids[..fresh.len()].copy_from_slice(fresh);
                (slot.key, slot.owner, slot.count) = (key, self.owner, fresh.len() as u32);
            }
            return;
        }
        ids.extend_from_slice(&slot.ids[..slot.count as usize]);
    }
}

/// The piece's bytes in three words, zero-padded, the length in the last byte; at most [`KEY_BYTES`] long.
#[inline]
fn key_of(piece: &[u8]) -> [u64; 3] {
    let mut bytes = [0u8; KEY_BYTES + 1];
    bytes[..piece.len()].copy_from_slice(piece);
    bytes[KEY_BYTES] = piece.len() as u8;
    bytemuck::cast(bytes)
}

fn encode_uncached(vocabulary: &Vocabulary, piece: &[u8], ids: &mut Vec<u32>) {
    match vocabulary.id(piece) {
        Some(id) => ids.push(id),
        None => merge_piece(vocabulary, piece, ids),
    }
}
