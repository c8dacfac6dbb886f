//! Byte-pair merging of one piece: of all neighbours whose joined bytes have a rank, the lowest rank merges first, the
//! leftmost among equals (`byte_pair_merge` of tiktoken).
//!
//! Short pieces scan for the lowest rank in place; long ones, where that is quadratic, keep the candidates in a heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::Vocabulary;

/// Up to this many bytes a scan beats the heap.
const SCAN_LIMIT: usize = 96;
/// Marks a pair without a rank.
const NONE: u32 = u32::MAX;

/// Appends the ids of `piece`, which is not empty.
pub(super) fn merge_piece(vocabulary: &Vocabulary, piece: &[u8], ids: &mut Vec<u32>) {
    merge_below(vocabulary, piece, NONE, ids);
}

/// The same, with the ranks below `limit` only.
pub(super) fn merge_below(vocabulary: &Vocabulary, piece: &[u8], limit: u32, ids: &mut Vec<u32>) {
    if piece.len() <= SCAN_LIMIT {
        scan(vocabulary, piece, limit, ids);
    } else {
        heap(vocabulary, piece, limit, ids);
    }
}

/// Rank of bytes `start..end` if it is below `limit`, else [`NONE`].
#[inline]
fn rank(vocabulary: &Vocabulary, piece: &[u8], start: usize, end: usize, limit: u32) -> u32 {
    vocabulary.id(&piece[start..end]).filter(|&id| id < limit).unwrap_or(NONE)
}

/// Appends the ids of the parts that lie between neighbouring `bounds`; every part has a rank.
fn push_parts(vocabulary: &Vocabulary, piece: &[u8], mut bounds: impl Iterator<Item = usize>, ids: &mut Vec<u32>) {
    let Some(mut start) = bounds.next() else { return };
    for end in bounds {
        ids.extend(vocabulary.id(&piece[start..end]));
        start = end;
    }
}

fn scan(vocabulary: &Vocabulary, piece: &[u8], limit: u32, ids: &mut Vec<u32>) {
    let mut starts = [0usize; SCAN_LIMIT + 1];
    // `ranks[i]`: rank of part `i` joined with part `i + 1`.
    let mut ranks = [NONE; SCAN_LIMIT + 1];
    let mut parts = piece.len();
    for (i, start) in starts.iter_mut().enumerate().take(parts + 1) {
        *start = i;
    }
    for (i, slot) in ranks.iter_mut().enumerate().take(parts.saturating_sub(1)) {
        *slot = rank(vocabulary, piece, i, i + 2, limit);
    }
    while parts > 1 {
        let (mut lowest, mut at) = (NONE, 0);
        for (i, &rank) in ranks[..parts - 1].iter().enumerate() {
            if rank < lowest {
                (lowest, at) = (rank, i);
            }
        }
        if lowest == NONE {
            break;
        }
        starts.copy_within(at + 2..=parts, at + 1);
        ranks.copy_within(at + 1..parts, at);
        parts -= 1;
        ranks[parts - 1] = NONE;
        if at + 1 < parts {
            ranks[at] = rank(vocabulary, piece, starts[at], starts[at + 2], limit);
        }
        if at > 0 {
            ranks[at - 1] = rank(vocabulary, piece, starts[at - 1], starts[at + 1], limit);
        }
    }
    push_parts(vocabulary, piece, starts[..=parts].iter().copied(), ids);
}

/// Parts as a doubly linked list over their first bytes; a heap entry is stale when its right end is no longer the end
/// of the right part.
fn heap(vocabulary: &Vocabulary, piece: &[u8], limit: u32, ids: &mut Vec<u32>) {
    let len = piece.len();
    let mut next: Vec<usize> = (1..=len).collect();
    let mut previous: Vec<usize> = (0..len).map(|i| i.wrapping_sub(1)).collect();
    let mut alive = vec![true; len];
    let mut queue: BinaryHeap<Reverse<(u32, usize, usize)>> = BinaryHeap::new();
    let offer = |queue: &mut BinaryHeap<_>, start: usize, end: usize| {
        let rank = rank(vocabulary, piece, start, end, limit);
        if rank != NONE {
            queue.push(Reverse((rank, start, end)));
        }
    };
    for start in 0..len.saturating_sub(1) {
        offer(&mut queue, start, start + 2);
    }
    while let Some(Reverse((_, start, end))) = queue.pop() {
        let middle = next[start];
        if !alive[start] || middle >= len || next[middle] != end {
            continue;
        }
        alive[middle] = false;
        next[start] = end;
        if end < len {
            previous[end] = start;
            offer(&mut queue, start, next[end]);
        }
        if start > 0 {
            offer(&mut queue, previous[start], end);
        }
    }
    push_parts(vocabulary, piece, std::iter::successors(Some(0), |&at| next.get(at).copied()), ids);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All bytes, then some words over few letters, longer ones built from shorter ones or not.
    fn vocabulary(words: &[String]) -> Vocabulary {
        let mut ranks: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        for word in words {
            if !ranks.iter().any(|rank| rank == word.as_bytes()) {
                ranks.push(word.clone().into_bytes());
            }
        }
        Vocabulary::new(ranks).unwrap()
    }

    /// The rule, word for word.
    fn naive(vocabulary: &Vocabulary, piece: &[u8]) -> Vec<u32> {
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
        loop {
            let ranked = (0..parts.len().saturating_sub(1))
                .filter_map(|i| Some((vocabulary.id(&[&parts[i][..], &parts[i + 1][..]].concat())?, i)))
                .min();
            let Some((_, i)) = ranked else { break };
            let right = parts.remove(i + 1);
            parts[i].extend(right);
        }
        parts.iter().filter_map(|part| vocabulary.id(part)).collect()
    }

    proptest! {
        #[test]
        fn scan_and_heap_follow_the_rule(
            words in prop::collection::vec("[abc]{2,6}", 0..40),
            piece in "[abc]{1,96}",
        ) {
            let vocabulary = vocabulary(&words);
            let expected = naive(&vocabulary, piece.as_bytes());
            let (mut scanned, mut heaped) = (Vec::new(), Vec::new());
            scan(&vocabulary, piece.as_bytes(), NONE, &mut scanned);
            heap(&vocabulary, piece.as_bytes(), NONE, &mut heaped);
            prop_assert_eq!(&scanned, &expected);
            prop_assert_eq!(&heaped, &expected);
        }
    }

    #[test]
    fn a_megabyte_without_a_break_is_no_quadratic_matter() {
        let vocabulary = vocabulary(&["ab".into(), "abab".into(), "ba".into()]);
        let piece = "ab".repeat(500_000);
        let mut ids = Vec::new();
        merge_piece(&vocabulary, piece.as_bytes(), &mut ids);
        assert_eq!(ids, vec![257; 250_000]);
    }
}
