//! `.tiktoken` files: a line a token, its bytes in base64 and its rank.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::TokenizerError;
use super::rank_table::RankTable;

/// Reads the ranks. `path` is for messages.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TokenizerError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        TokenizerError::malformed(path, format!("byte {}", error.valid_up_to()), "not UTF-8, so no base64 either")
    })?;
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut table = RankTable::with_capacity(lines().count());
    for (number, line) in lines() {
        read_line(line, &mut table)
            .map_err(|problem| TokenizerError::malformed(path, format!("line {}", number + 1), problem))?;
    }
    table.finish().map_err(|problem| TokenizerError::malformed(path, "whole file", problem))
}

fn read_line(line: &str, table: &mut RankTable) -> Result<(), String> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(token), Some(rank), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("expected a token in base64, a space, and its rank".into());
    };
    let bytes = STANDARD.decode(token).map_err(|error| format!("the token is no base64: {error}"))?;
    let rank: i64 = rank.parse().map_err(|_| format!("{rank:?} is no rank"))?;
    table.set(rank, &bytes)
}

/// The text of such a file.
pub(super) fn write(ranks: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for (rank, bytes) in ranks.iter().enumerate() {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{} {rank}", STANDARD.encode(bytes));
    }
    out
}
