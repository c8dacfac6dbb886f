//! Collects `bytes → rank` entries in any order into a list without gaps or doubles.

/// Ranks as they come from a file.
#[derive(Debug, Default)]
pub(super) struct RankTable {
    ranks: Vec<Option<Vec<u8>>>,
    filled: usize,
    capacity: usize,
}

impl RankTable {
    /// A table for `count` entries: a rank at or past `count` can't be part of it.
    pub fn with_capacity(count: usize) -> Self {
        Self { ranks: Vec::new(), filled: 0, capacity: count }
    }

    /// Enters one token. Errors when the rank is negative, past the number of entries, or taken.
    pub fn set(&mut self, rank: i64, bytes: &[u8]) -> Result<(), String> {
        let index = usize::try_from(rank).map_err(|_| format!("rank {rank} is negative"))?;
        if index >= self.capacity {
            return Err(format!(
                "rank {rank} leaves a gap: {} tokens have the ranks 0 to {}",
                self.capacity,
                self.capacity.saturating_sub(1)
            ));
        }
        if self.ranks.len() <= index {
            self.ranks.resize(index + 1, None);
        }
        match &mut self.ranks[index] {
            Some(_) => Err(format!("rank {rank} is given twice")),
            slot => {
                *slot = Some(bytes.to_vec());
                self.filled += 1;
                Ok(())
            }
        }
    }

    /// The tokens by rank. Errors when one is missing.
    pub fn finish(self) -> Result<Vec<Vec<u8>>, String> {
        let count = self.ranks.len().max(self.capacity);
        let ranks: Vec<Vec<u8>> = self.ranks.into_iter().flatten().collect();
        if ranks.len() != count {
            return Err(format!("{} of {count} ranks are missing", count - ranks.len()));
        }
        Ok(ranks)
    }
}
