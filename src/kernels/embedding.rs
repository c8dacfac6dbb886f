//! Rows of a table picked by id, and gradients added back to them.

use rayon::prelude::*;

use super::{BLOCK_ROWS, Element};

/// Tasks that a table is parted into when gradients are added to it; each looks through all ids.
const PARTS: usize = 32;

/// Writes the rows of `table` that `ids` name to `rows`.
pub fn gather<T: Element>(table: &[T], ids: &[u32], width: usize, rows: &mut [T]) {
    rows.par_chunks_mut(BLOCK_ROWS * width).zip(ids.par_chunks(BLOCK_ROWS)).for_each(|(rows, ids)| {
        for (row, id) in rows.chunks_exact_mut(width).zip(ids) {
            row.copy_from_slice(&table[*id as usize * width..][..width]);
        }
    });
}

/// Adds each of `rows` to the row of `table` that its id names, in the order of the ids.
pub fn scatter_add<T: Element>(rows: &[T], ids: &[u32], width: usize, table: &mut [T]) {
    let entries = (table.len() / width).div_ceil(PARTS).max(1);
    table.par_chunks_mut(entries * width).enumerate().for_each(|(part, table)| {
        let first = part * entries;
        for (row, id) in rows.chunks_exact(width).zip(ids) {
            let entry = (*id as usize).wrapping_sub(first);
            if let Some(entry) = table.chunks_exact_mut(width).nth(entry) {
                for (entry, value) in entry.iter_mut().zip(row) {
                    *entry += *value;
                }
            }
        }
    });
}
