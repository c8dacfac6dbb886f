//! Any bytes as the baseline's training log: the same events however it arrives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nanochat::baseline::{LogReader, read_log};

fuzz_target!(|bytes: &[u8]| {
    let whole = read_log(bytes);
    // A whole file may be UTF-16, by its mark; a pipe is not.
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return;
    }
    let mut reader = LogReader::default();
    // In pieces of 1, 2, 3, … bytes, as a pipe may give them.
    let (mut rest, mut pieces, mut length) = (bytes, Vec::new(), 1);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.extend(reader.push(piece));
        (rest, length) = (after, length % 61 + 1);
    }
    pieces.extend(reader.finish());
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
});
