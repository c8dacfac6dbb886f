//! Rows of a table picked by id, and gradients added back to them.

use rayon::prelude::*;

use super::{BLOCK_ROWS, Stored, vectorized};

/// Tasks that a table is parted into when gradients are added to it; each looks through all ids.
const PARTS: usize = 32;

/// Writes the rows of `table` that `ids` name to `rows`.
pub fn gather<S: Stored>(table: &[S::Element], ids: &[u32], width: usize, rows: &mut [S]) {
    rows.par_chunks_mut(BLOCK_ROWS * width).zip(ids.par_chunks(BLOCK_ROWS)).for_each(|(rows, ids)| {
        vectorized!({
            for (row, id) in rows.chunks_exact_mut(width).zip(ids) {
                for (to, from) in row.iter_mut().zip(&table[*id as usize * width..][..width]) {
                    *to = S::store(*from);
                }
            }
        });
    });
}

/// Adds each of `rows` to the row of `table` that its id names, in the order of the ids.
pub fn scatter_add<S: Stored>(rows: &[S], ids: &[u32], width: usize, table: &mut [S::Element]) {
    let entries = (table.len() / width).div_ceil(PARTS).max(1);
    table.par_chunks_mut(entries * width).enumerate().for_each(|(part, table)| {
        let first = part * entries;
        for (row, id) in rows.chunks_exact(width).zip(ids) {
            let entry = (*id as usize).wrapping_sub(first);
            if let Some(entry) = table.chunks_exact_mut(width).nth(entry) {
                for (entry, value) in entry.iter_mut().zip(row) {
                    *entry += value.load();
                }
            }
        }
    });
}
