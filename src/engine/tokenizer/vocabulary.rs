//! The ranks, and the backward pass from bytes to ids: a flat hash table, since encoding does little else than look up.

use super::TokenizerError;

/// A byte-pair vocabulary: every single byte, every rank once.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    /// Bytes of each token, by id.
    ranks: Vec<Vec<u8>>,
    /// Open addressing with linear steps: id plus one, 0 for an empty slot; a power of two long, at most half full.
    slots: Vec<u32>,
    /// Longest token in bytes.
    longest: usize,
}

/// Hash of a byte string; quick on short ones, where nearly all lookups are.
#[inline]
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        hash = fold(hash ^ u64::from_le_bytes(*chunk), FACTOR);
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(hash ^ u64::from_le_bytes(last), FACTOR)
}

/// Both halves of the 128-bit product, mixed: every bit of the input reaches every bit of the result.
#[inline]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xA076_1D64_78BD_642F) * u128::from(b ^ 0xE703_7ED1_A0B4_28DB);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Vocabulary {
    /// Builds the table. Every single byte must be there, no token empty or twice: otherwise some text has no ids, or
    /// two.
    pub fn new(ranks: Vec<Vec<u8>>) -> Result<Self, TokenizerError> {
        if ranks.len() > (u32::MAX / 4) as usize {
            return Err(TokenizerError::InvalidRanks(format!("{} tokens are more than can be numbered", ranks.len())));
        }
        let mut vocabulary = Self {
            slots: vec![0; (2 * ranks.len().max(1)).next_power_of_two()],
            longest: ranks.iter().map(Vec::len).max().unwrap_or(0),
            ranks,
        };
        for id in 0..vocabulary.ranks.len() {
            vocabulary.insert(id)?;
        }
        for byte in 0..=u8::MAX {
            if vocabulary.id(&[byte]).is_none() {
                return Err(TokenizerError::InvalidRanks(format!(
                    "byte 0x{byte:02X} has no rank of its own; all 256 single bytes are needed"
                )));
            }
        }
        Ok(vocabulary)
    }

    fn insert(&mut self, id: usize) -> Result<(), TokenizerError> {
        let bytes = &self.ranks[id];
        if bytes.is_empty() {
            return Err(TokenizerError::InvalidRanks(format!("rank {id} has no bytes")));
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash_bytes(bytes) as usize & mask;
        while self.slots[slot] != 0 {
            let other = self.slots[slot] as usize - 1;
            if self.ranks[other] == *bytes {
                return Err(TokenizerError::InvalidRanks(format!(
                    "ranks {other} and {id} have the same bytes {:?}",
                    String::from_utf8_lossy(bytes)
                )));
            }
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = id as u32 + 1;
        Ok(())
    }

    /// Id of exactly these bytes.
    #[inline]
    pub fn id(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash_bytes(bytes) as usize & mask;
        loop {
            let id = self.slots[slot].checked_sub(1)?;
            if self.ranks[id as usize] == bytes {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Bytes of each token, by id.
    pub fn ranks(&self) -> &[Vec<u8>] {
        &self.ranks
    }

    /// The two tokens whose merge makes token `id`: what its bytes come down to under the ranks before it. None for
    /// single bytes, and for a token that no merge reaches.
    pub fn parents(&self, id: u32) -> Option<(u32, u32)> {
        let bytes = self.ranks.get(id as usize)?;
        let mut parts = Vec::new();
        super::merge::merge_below(self, bytes, id, &mut parts);
        match parts[..] {
            [left, right] => Some((left, right)),
            _ => None,
        }
    }
}
